"""The worker's view of the line: jobs are claimed, begun, requeued and kept under a lease.

Delivery: a job is claimed by at most one worker at a time. It is claimed again if its worker's
lease ends before it began to publish, never after.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import cast, get_args

import msgspec

import settings
from wire.jobs import Family
from wire.line import keys
from wire.line.claims import Claim, Requeued, Verdict
from wire.line.limits import reserves
from wire.line.presence import Presence
from wire.line.scripts import Scripts
from wire.line.view import LineView, channel_frames, front_ends, known_word


class WorkerLine(LineView):
    """The line as workers use it."""

    def __init__(
        self, scripts: Scripts, config: settings.Queue, upstream: settings.Upstream
    ) -> None:
        super().__init__(scripts, config, upstream)
        self._max_concurrency = upstream.max_concurrency
        self._reserves = msgspec.msgpack.encode(reserves(config))
        # After a disturbance all workers get this long to renew before anything is claimed.
        self._settle = self._gap
        self.nudge_channel = keys.nudge(scripts.fingerprint)
        """Channel that announces jobs that may be claimable."""

    async def claim(self, worker: str, want: int) -> list[Claim]:
        """Claim up to `want` jobs from the heads of the lanes, each with a lease."""
        times = (self._lease, self._gap, self._settle)
        limits = (want, self._max_concurrency, *times, self._reserves)
        return [
            Claim(
                lane.decode(),
                id.decode(),
                attempt,
                account.decode(),
                family.decode(),
                front_ends(readers),
                body,
            )
            for lane, id, attempt, account, family, readers, body in await self._run(
                "claim", worker, *limits
            )
        ]

    async def begin(self, claim: Claim, entry: bytes, frames: Mapping[str, bytes]) -> bool:
        """Log and publish an attempt's first events, a frame for each front end.

        False: it is not the current attempt any more.
        """
        frames_ = channel_frames(frames)
        return bool(await self._run("begin", claim.id, claim.attempt, entry, *frames_))

    async def renew(self, presence: Presence, held: Iterable[Claim]) -> list[tuple[str, Verdict]]:
        """Renew a worker's presence and the leases of all jobs it holds, at every heartbeat.

        Returns the jobs it has to stop, each with the reason.
        """
        jobs = [part for claim in held for part in (claim.id, claim.attempt)]
        times = (self.presences.ttl, self._lease, self._gap)
        described = msgspec.json.encode(presence)
        verdicts = await self._run("renew", presence.worker, described, *times, *jobs)
        return [
            (id.decode(), cast(Verdict, known_word(word, get_args(Verdict))))
            for id, word in verdicts
        ]

    async def unlog(self, claim: Claim) -> None:
        """Mark a job whose log will not contain the further events of this attempt."""
        await self._run("unlog", claim.id, claim.attempt)

    async def waiting_of(
        self,
        account: str,
        family: Family | None = None,
        within: float = math.inf,
        limit: int = 1000,
    ) -> list[tuple[str, list[str]]]:
        """The waiting jobs of an account, of one family or of all: ids and front ends.

        Only those whose deadline is `within` that many seconds, and `limit` at most.
        """
        filters = (family or "", round(min(within, 1e9) * 1000), limit)
        found = await self._run("waiting_of", account, *filters)
        return [(id.decode(), front_ends(readers)) for id, readers in found]

    async def requeue(self, claim: Claim) -> Requeued:
        """Requeue a job of which nothing was published, in its old place."""
        return await self._requeue("requeue", claim)

    async def cool_down(self, claim: Claim, shortest: float, longest: float) -> Requeued:
        """Requeue a job because its account is busy upstream.

        The account may hold fewer conversations from now on; an account that holds no other one
        cools down, for `shortest` to `longest` seconds.
        """
        times = (round(shortest * 1000), round(longest * 1000))
        return await self._requeue("cool_down", claim, *times)

    async def park(self, claim: Claim, wait: float) -> Requeued:
        """Requeue a job and block its family of models for its account, for `wait` seconds."""
        return await self._requeue("park", claim, round(wait * 1000))

    async def retry(self, claim: Claim, wait: float, longest: float, limit: int) -> Requeued:
        """Requeue a job that the upstream failed before it answered, `limit` times at most.

        It waits `wait` seconds, doubling with each further time, at most `longest`.
        """
        times = (round(wait * 1000), round(longest * 1000))
        return await self._requeue("retry", claim, *times, limit, self._circuit_failures)

    async def _requeue(self, script: str, claim: Claim, *args: int) -> Requeued:
        reply = await self._run(script, claim.id, claim.attempt, *args)
        return cast(Requeued, known_word(reply, get_args(Requeued)))
