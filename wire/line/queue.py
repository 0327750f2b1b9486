"""The line: arq's sorted sets, and the leases, seats, shares and promises around them.

Every change is one Lua script (`scripts/`), so that any number of front ends and workers can make
it at once, and a process killed in between leaves nothing half done. `scripts/_line.lua` tells how
a job waits, `_shares.lua` who goes first, `_predict.lua` when, `_admission.lua` who may come in;
`docs/design.md` lists every key.

Delivery: a job is claimed by at most one worker at a time. It is claimed again if its worker's
lease ends before it began to publish, never after.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal, cast, get_args

import msgspec
from arq.connections import ArqRedis
from arq.jobs import serialize_job

import settings
from wire.jobs import Family, Lane
from wire.line.admission import (
    Accepted,
    Admission,
    Attached,
    Clash,
    NewJob,
    RefusalReason,
    Refused,
)
from wire.line.claims import Claim, Lapsed, PutBack, Verdict
from wire.line.presence import Presence, Presences, front_channel
from wire.line.scripts import Scripts
from wire.line.snapshot import Census, LaneCensus
from wire.line.status import EndState, Whereabouts
from wire.seal import Seal

MAX_CRASHES = 3
"""A job that took this many workers down with it is not tried again."""


class _Limits(msgspec.Struct, frozen=True):
    """What the scripts have to know of the settings; times in ms."""

    max_concurrency: int
    reserves: dict[Lane, int]
    max_waiting: int
    max_waiting_per_key: int
    max_bytes: int
    max_wait: int
    longest: int
    refuse_capped: bool
    grace: int
    keep: int
    lease: int
    front_ttl: int


def idem_key(name: str) -> str:
    """Where it stands which job was accepted under an idempotency key; `name` is its HMAC."""
    return f"gateway:idem:{name}"


class Queue:
    """The line of one gateway, seen from one process."""

    def __init__(
        self,
        redis: ArqRedis,
        seal: Seal,
        config: settings.Queue,
        upstream: settings.Upstream | None = None,
    ) -> None:
        self._redis = redis
        self.scripts = Scripts(redis, seal.fingerprint)
        self._run = self.scripts.run
        self.presences = Presences(redis, seal.fingerprint, config)
        self._lease = round(config.lease * 1000)
        self._beat = round(config.heartbeat * 1000)
        # Somebody calls at every heartbeat; twice that without a call is a disturbance, after
        # which everybody gets as long again to come back before anything is claimed.
        self._gap = self._settle = 2 * self._beat
        upstream = upstream or settings.Upstream()
        self._failures = upstream.circuit_failures
        limits = _Limits(
            max_concurrency=upstream.max_concurrency,
            reserves={"chat": config.chat_slots, "images": config.images_slots},
            max_waiting=config.max_waiting,
            max_waiting_per_key=config.max_waiting_per_key,
            max_bytes=config.max_bytes,
            max_wait=round(config.max_wait * 1000),
            longest=round(config.longest_wait * 1000),
            refuse_capped=config.on_model_cap == "refuse",
            grace=round(config.resume_grace * 1000),
            keep=round(config.keep_result * 1000),
            lease=self._lease,
            front_ttl=self.presences.ttl,
        )
        self._max_concurrency = limits.max_concurrency
        self._limits = msgspec.msgpack.encode(limits)
        self._reserves = msgspec.msgpack.encode(limits.reserves)
        self._arq_job = {
            lane: serialize_job(lane, (), {}, None, 0, serializer=msgspec.msgpack.encode)
            for lane in get_args(Lane)
        }

    def name(self, lane: Lane) -> str:
        """The lane's sorted set. Processes with another secret use another one, and never meet."""
        return f"arq:queue:{lane}:{self.scripts.fingerprint}"

    @property
    def nudge_channel(self) -> str:
        """Where workers hear that there may be something to claim."""
        return f"gateway:nudge:{self.scripts.fingerprint}"

    async def enqueue(self, job: NewJob, body: bytes) -> Admission | None:
        """Put a job in line, if it may come in; `body` is its sealed request.

        None if it is there already.
        """
        described = msgspec.msgpack.encode(msgspec.structs.asdict(job) | _in_redis(job))
        reply = await self._run("enqueue", described, self._limits, body, self._arq_job[job.lane])
        match reply:
            case [b"accepted", int(place), int(wait)]:
                return Accepted(place, wait / 1000)
            case [b"attached", bytes(id)]:
                return Attached(id.decode())
            case [b"refused", bytes(reason), int(wait)]:
                return Refused(cast(RefusalReason, reason.decode()), wait / 1000)
            case [b"mismatch" | b"lost" as why]:
                return Clash("mismatch" if why == b"mismatch" else "lost")
            case _:
                return None

    async def claim(self, worker: str, want: int) -> list[Claim]:
        """Take up to `want` jobs from the heads of the lanes, each with a lease."""
        times = (self._lease, self._gap, self._settle)
        limits = (want, self._max_concurrency, *times, self._reserves)
        return [
            Claim(
                lane.decode(),
                id.decode(),
                attempt,
                account.decode(),
                family.decode(),
                _fronts(readers),
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
        return bool(await self._run("begin", claim.id, claim.attempt, entry, *_said(frames)))

    async def finish(
        self,
        id: str,
        attempt: int,
        state: EndState,
        entry: bytes,
        frames: Mapping[str, bytes],
        *,
        reason: str = "",
        upstream_failed: bool = False,
    ) -> bool:
        """End a job: log `entry`, free its slot, publish a frame to each front end.

        `reason` is the word under which the ending is counted, its state by default.
        `upstream_failed`: as it would have failed for anybody else; that opens the circuit.
        False if this attempt does not run any more: somebody else has ended it, or will.
        """
        how = (state, reason or state, self._failures if upstream_failed else 0)
        return bool(await self._run("finish", id, attempt, *how, entry, *_said(frames)))

    async def end_waiting(
        self, id: str, state: EndState, entry: bytes, frames: Mapping[str, bytes], *, reason: str
    ) -> bool:
        """End a job that waits, and tell its readers. False: it does not wait."""
        return bool(await self._run("end", id, state, reason, entry, *_said(frames)))

    async def waiting_of(
        self,
        account: str,
        family: Family | None = None,
        within: float = math.inf,
        most: int = 1000,
    ) -> list[tuple[str, list[str]]]:
        """The waiting jobs of an account, of one family or of all: ids and front ends.

        Only those whose time is up `within` so many seconds.
        """
        how = (round(min(within, 1e9) * 1000), most)
        found = await self._run("of_account", account, family or "", *how)
        return [(id.decode(), _fronts(readers)) for id, readers in found]

    async def unlog(self, claim: Claim) -> None:
        """Say that what an attempt publishes from now on is not in its log."""
        await self._run("unlog", claim.id, claim.attempt)

    async def unlogged(self, id: str) -> bool:
        """Whether a job's log lacks what was published last, for good. See `unlog`."""
        return bool(await self._redis.hexists(f"gateway:job:{id}", "unlogged"))  # type: ignore[misc]  # redis-py: sync or async

    async def hand_back(self, claim: Claim) -> PutBack:
        """Put a job of which nothing was published back in its place."""
        return await self._put_back("return", claim)

    async def rest(self, claim: Claim, shortest: float, longest: float) -> PutBack:
        """Put a job back in its place: its account is busy upstream.

        The account may hold fewer conversations from now on; one that holds no other rests for a
        while, from `shortest` to `longest` seconds.
        """
        times = (round(shortest * 1000), round(longest * 1000))
        return await self._put_back("rest", claim, *times)

    async def park(self, claim: Claim, wait: float) -> PutBack:
        """Put a job back; its account may not use its family of models for so many seconds."""
        return await self._put_back("park", claim, round(wait * 1000))

    async def retry(self, claim: Claim, wait: float, longest: float, most: int) -> PutBack:
        """Put a job back that the upstream failed before it answered, `most` times at most.

        It waits so many seconds, twice as long each further time, at most `longest`.
        """
        times = (round(wait * 1000), round(longest * 1000))
        return await self._put_back("retry", claim, *times, most, self._failures)

    async def _put_back(self, script: str, claim: Claim, *args: int) -> PutBack:
        word = await self._run(script, claim.id, claim.attempt, *args)
        return cast(PutBack, word.decode())

    async def cancel(
        self, id: str, *, unless_waiting: bool = False
    ) -> Literal["cancelled", "waiting", "running", "gone"]:
        """Have the worker of a running job end it, or end a waiting one without a word to its
        readers, unless it is to be left alone. What it was (now "cancelled"), or is."""
        word = await self._run("cancel", id, int(unless_waiting))
        return cast(Literal["cancelled", "waiting", "running", "gone"], word.decode())

    async def leave(
        self, id: str, reader: str, *, enough: bool = False, idem: str | None = None
    ) -> None:
        """A reader goes. The last one takes the job along, at once or after its grace.

        A reader is named by the job that its own request was to make, be it this one or not.
        `enough`: it has got all it asked for, so the job ends at once, and well. `idem`: the
        idempotency key of one that has not heard which job it reads.
        """
        await self._run("leave", id, reader, int(enough), idem_key(idem) if idem else "")

    async def renew(self, presence: Presence, held: Iterable[Claim]) -> list[tuple[str, Verdict]]:
        """A worker's heartbeat: presence, and the leases of all it holds.

        Returns the jobs it has to let go, with the reason.
        """
        jobs = [part for claim in held for part in (claim.id, claim.attempt)]
        times = (self.presences.ttl, self._lease, self._gap)
        described = msgspec.json.encode(presence)
        verdicts = await self._run("renew", presence.worker, described, *times, *jobs)
        return [(id.decode(), word.decode()) for id, word in verdicts]

    async def reap(self) -> tuple[int, list[Lapsed]]:
        """Look for leases that ended. Returns how many jobs went back, and which must be ended."""
        back, ended = await self._run("reap", self._lease, self._gap, MAX_CRASHES)
        return back, [
            Lapsed(id.decode(), int(attempt), _fronts(readers), bool(cancelled))
            for id, attempt, readers, cancelled in ended
        ]

    async def overdue(self, since: float) -> list[tuple[str, list[str]]]:
        """Waiting jobs whose time was up so many seconds ago: ids and front ends."""
        found = await self._run("overdue", round(since * 1000))
        return [(id.decode(), _fronts(readers)) for id, readers in found]

    async def look(self, name: str, account: str, idem: str = "") -> Whereabouts | None:
        """Where an account's job is, by its id or its idempotency key; None if it has none such."""
        found = await self._run("look", name, idem_key(idem), account, self._limits)
        if not found:
            return None
        id, state, place, wait, readers = found
        return Whereabouts(id.decode(), state.decode(), place, wait / 1000, _fronts(readers))

    async def census(self) -> Census:
        """How many jobs, accounts and workers there are at this moment."""
        lanes, (resting, parked, limited), workers, open_for = await self._run("census")
        return Census(
            {lane.decode(): LaneCensus(*numbers) for lane, *numbers in lanes},
            {"resting": resting, "parked": parked, "limited": limited},
            workers,
            None if open_for < 0 else open_for / 1000,
        )

    async def exists(self, id: str) -> bool:
        """Whether Redis knows the job, waiting, running or ended a moment ago."""
        return bool(await self._redis.exists(f"gateway:job:{id}"))


def _in_redis(job: NewJob) -> dict[str, object]:
    """What the scripts are told in other words."""
    return {
        "idem": job.idem and idem_key(job.idem),
        "max_wait": min(job.max_wait, 1e9) * 1000,
    }


def _fronts(readers: bytes) -> list[str]:
    """The front ends of a job's readers, each once."""
    return list(dict.fromkeys(reader.partition("/")[0] for reader in readers.decode().split()))


def _said(frames: Mapping[str, bytes]) -> list[str | bytes]:
    return [part for front, frame in frames.items() for part in (front_channel(front), frame)]
