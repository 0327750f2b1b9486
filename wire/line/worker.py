"""The worker's view of the line: claim, begin, requeue and finish jobs, and renew their leases.

Delivery: a job is claimed by at most one worker at a time. A job whose lease expires before its
first event is published is claimed again; afterwards, never.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import cast, get_args

import msgspec

import settings
from wire.line import keys
from wire.line.claims import Claim, Requeued, Verdict
from wire.line.limits import reserves
from wire.line.offers import AsideReason, Offer
from wire.line.presence import Presence
from wire.line.scripts import Scripts
from wire.line.view import LineView, channel_frames, front_ends, known_word


class WorkerLine(LineView):
    """The line as workers use it."""

    def __init__(self, scripts: Scripts, config: settings.Queue) -> None:
        super().__init__(scripts, config)
        self._reserves = reserves(config)
        self.nudge_channel = keys.nudge(scripts.fingerprint)
        """Channel that announces jobs that may be claimable."""

    async def claim(
        self,
        worker: str,
        limit: int,
        upstreams: Sequence[str],
        record: bytes = b"",
        held: Mapping[str, int] = MappingProxyType({}),
    ) -> list[Claim]:
        """Claim jobs of these upstreams, each with a lease, up to `limit` at each of them.

        `held` is the number of jobs that the worker holds already, by upstream: a slow upstream
        must not take the places of the others. `record` is stored under the name at which arq
        looks for its record of a job.
        """
        wants = [
            part
            for name in upstreams
            if (want := limit - held.get(name, 0)) > 0
            for part in (name, want)
        ]
        if not wants:
            return []
        times = (self._lease, self._gap, record)
        return [_claim(*row) for row in await self._run("claim", worker, *times, *wants)]

    async def offer(self, offer: Offer) -> None:
        """Describe an upstream that the worker serves: at its start, and at every heartbeat."""
        described = offer.for_redis(self._reserves)
        await self._run("offer", offer.upstream, described, offer.about)

    async def begin(self, claim: Claim, entry: bytes, frames: Mapping[str, bytes]) -> bool:
        """Log and publish an attempt's first events, a frame for each front end.

        Return False if the attempt is no longer current.
        """
        frame_args = channel_frames(frames)
        return bool(await self._run("begin", claim.id, claim.attempt, entry, *frame_args))

    async def renew(
        self,
        presence: Presence,
        held: Iterable[Claim],
        tokens: Mapping[str, int] = MappingProxyType({}),
    ) -> list[tuple[str, Verdict]]:
        """Renew a worker's presence and the leases of all jobs it holds, at every heartbeat.

        `tokens` are about those of the answers so far, by job. Return the jobs that it must stop,
        with the reason for each.
        """
        jobs = [
            part for claim in held for part in (claim.id, claim.attempt, tokens.get(claim.id, 0))
        ]
        times = (self.presences.ttl, self._lease, self._gap)
        encoded = msgspec.json.encode(presence)
        verdicts = await self._run("renew", presence.worker, encoded, *times, *jobs)
        return [
            (id.decode(), cast(Verdict, known_word(word, get_args(Verdict))))
            for id, word in verdicts
        ]

    async def stop_logging(self, claim: Claim) -> None:
        """Mark a job whose log will get no more events of this attempt."""
        await self._run("stop_logging", claim.id, claim.attempt)

    async def waiting_jobs(
        self,
        account: str,
        family: str | None = None,
        within: float = math.inf,
        limit: int = 1000,
    ) -> list[tuple[str, list[str]]]:
        """Return the waiting jobs of a key on its own account, of one family or all: ids and front
        ends.

        At most `limit` jobs, whose deadlines are within `within` seconds.
        """
        filters = (family or "", round(min(within, 1e9) * 1000), limit)
        found = await self._run("waiting_jobs", account, *filters)
        return [(id.decode(), front_ends(readers)) for id, readers in found]

    async def refuse(self, claim: Claim) -> None:
        """Refuse new jobs of a claim's key for a minute: the upstream refused the key."""
        await self._run("refuse", claim.id, claim.attempt)

    async def requeue(self, claim: Claim) -> Requeued:
        """Requeue a job of which nothing was published, in its old place."""
        return await self._requeue("requeue", claim)

    async def cool_down(
        self, claim: Claim, shortest: float, longest: float, pause: float = 0.0
    ) -> Requeued:
        """Requeue a job because its account can hold no more upstream.

        Halves the account's cap if it is above 1. Unless it still runs more jobs than the new cap
        allows, it also cools down for `shortest` to `longest` seconds; in any case for `pause`
        seconds, if that is not 0.
        """
        times = (round(shortest * 1000), round(longest * 1000), round(pause * 1000))
        return await self._requeue("cool_down", claim, *times)

    async def park(self, claim: Claim, wait: float) -> Requeued:
        """Requeue a job and park its family of models for its account, for `wait` seconds.

        For an account that keys share, the model of the job's lane is parked.
        """
        return await self._requeue("park", claim, round(wait * 1000))

    async def set_aside(
        self, claim: Claim, reason: AsideReason, token: str, pause: float = 0.0
    ) -> Requeued:
        """Requeue a job and set its account aside, which all keys share.

        `token` is the name of the token that was used: an account that has another one by now is
        not set aside. `pause` is the time in seconds, 0 for 1 min, doubling to 1 h until an answer
        begins.
        """
        return await self._requeue("set_aside", claim, reason, token, round(pause * 1000))

    async def hold_account(self, claim: Claim, pause: float) -> None:
        """Give a claim's account, which keys share, no job for `pause` seconds."""
        await self._run("hold_account", claim.id, claim.attempt, round(pause * 1000))

    async def spent_jobs(
        self, lane: str, offset: int, number: int
    ) -> tuple[int, list[tuple[str, list[str]]]]:
        """Return waiting jobs of a lane whose time is over before an account can run them again.

        All shared accounts have used up its models. Looks at a `number` of waiting jobs after the
        first `offset`, and returns how many there were, and ids and front ends of those found.
        """
        seen, found = await self._run("spent_jobs", lane, offset, number)
        return seen, [(id.decode(), front_ends(readers)) for id, readers in found]

    async def retry(
        self, claim: Claim, wait: float, longest: float, limit: int, *, doubtful: bool = False
    ) -> Requeued:
        """Requeue a job that the upstream failed before answering; at most `limit` retries.

        The pause is `wait` seconds, doubles with each retry, and never exceeds `longest`. Then the
        job is left to another upstream, if one serves its lane. `doubtful`: the request
        itself may be at fault, so four such failures count as one towards the circuit breaker.
        """
        times = (round(wait * 1000), round(longest * 1000))
        return await self._requeue("retry", claim, *times, limit, int(doubtful))

    async def _requeue(self, script: str, claim: Claim, *args: int | str) -> Requeued:
        reply = await self._run(script, claim.id, claim.attempt, *args)
        return cast(Requeued, known_word(reply, get_args(Requeued)))


def _claim(
    upstream: bytes,
    account: bytes,
    lane: bytes,
    id: bytes,
    attempt: int,
    key: bytes,
    family: bytes,
    readers: bytes,
    body: bytes,
) -> Claim:
    """Decode one row of the reply of `claim.lua`."""
    return Claim(
        upstream=upstream.decode(),
        account=account.decode(),
        lane=lane.decode(),
        id=id.decode(),
        attempt=attempt,
        key=key.decode(),
        family=family.decode(),
        front_ends=front_ends(readers),
        body=body,
    )
