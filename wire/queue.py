"""The line: arq's sorted set, and the leases, seats and places around it.

Every change is one Lua script (`scripts/`), so that any number of front ends and workers can make
it at once, and a process killed in between leaves nothing half done. `scripts/_line.lua` tells how
a job waits; `docs/design.md` lists every key.

Delivery: a job is claimed by at most one worker at a time. It is claimed again if its worker's
lease ends before it began to publish, never after.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, cast

import msgspec
from arq.connections import ArqRedis
from arq.jobs import serialize_job

import settings
from wire.jobs import Lane
from wire.seal import Seal

_SCRIPTS = Path(__file__).parent / "scripts"

JOB_TTL = 24 * 3600.0
"""Seconds until Redis forgets a job that nobody ended: a net under everything else."""

MAX_CRASHES = 3
"""A job that took this many workers down with it is not tried again."""


class Claim(msgspec.Struct, frozen=True):
    """A job that this worker may run now. `fronts` are the front ends that wait for its events."""

    id: str
    attempt: int
    score: float
    account: str
    fronts: list[str]
    body: bytes


class Lapsed(msgspec.Struct, frozen=True):
    """A job whose worker is gone and which somebody has to end."""

    id: str
    attempt: int
    fronts: list[str]
    cancelled: bool


class Presence(msgspec.Struct, frozen=True):
    """How a live worker describes itself to the front ends."""

    worker: str
    version: int
    fingerprint: str
    max_jobs: int


Verdict = Literal["lost", "cancel"]
State = Literal["done", "failed", "cancelled"]


def front_channel(front: str) -> str:
    """The channel on which a front end receives the events of all its jobs."""
    return f"gateway:front:{front}"


def worker_channel(worker: str) -> str:
    """The channel on which a worker is told of changes to the attempts it holds.

    `cancel <id> <attempt>`: end it; `attach <id> <attempt> <front>`: from now on, this front end
    waits for its events too.
    """
    return f"gateway:worker:{worker}"


def log_key(job: str) -> str:
    """The stream that holds a job's log."""
    return f"gateway:log:{job}"


def _by_channel(frames: Mapping[str, bytes]) -> list[str | bytes]:
    """Frames by front end, as the scripts take them: channel, frame, channel, frame."""
    return [part for front, frame in frames.items() for part in (front_channel(front), frame)]


class Queue:
    """The line of one gateway, seen from one process."""

    def __init__(self, redis: ArqRedis, seal: Seal, config: settings.Queue) -> None:
        self._redis = redis
        self._fingerprint = seal.fingerprint
        self._lease = round(config.lease * 1000)
        self._beat = round(config.heartbeat * 1000)
        # Somebody calls at every heartbeat; twice that without a call is a disturbance, after
        # which everybody gets as long again to come back before anything is claimed.
        self._gap = self._settle = 2 * self._beat
        prelude = (_SCRIPTS / "_line.lua").read_text()
        self._script = {
            path.stem: redis.register_script(prelude + path.read_text())
            for path in _SCRIPTS.glob("[!_]*.lua")
        }

    async def _run(self, script: str, *args: str | bytes | int | float) -> Any:
        # What comes back is the script's own reply, as its first lines describe it.
        return await self._script[script](args=args)

    def name(self, lane: Lane) -> str:
        """The lane's sorted set. Processes with another secret use another one, and never meet."""
        return f"arq:queue:{lane}:{self._fingerprint}"

    def nudge_channel(self, lane: Lane) -> str:
        """Where workers hear that there may be something to claim."""
        return f"gateway:nudge:{self.name(lane)}"

    async def enqueue(
        self, lane: Lane, id: str, *, account: str, cap: int, front: str, body: bytes
    ) -> bool:
        """Put a job at the end of the line; `body` is its sealed request.

        `cap` is how many conversations its account may hold at once. False if it is there already.
        """
        arq_job = serialize_job(lane, (), {}, None, 0, serializer=msgspec.msgpack.encode)
        whose = (id, self.name(lane), account, cap, front, self._presence_ttl)
        what = (body, arq_job, round(JOB_TTL * 1000))
        return bool(await self._run("enqueue", *whose, *what))

    async def claim(self, lane: Lane, worker: str, want: int, max_concurrency: int) -> list[Claim]:
        """Take up to `want` jobs from the head of the line, each with a lease."""
        times = (self._lease, self._gap, self._settle)
        claimed = await self._run("claim", self.name(lane), worker, want, max_concurrency, *times)
        return [
            Claim(
                id.decode(), attempt, float(score), account.decode(), fronts.decode().split(), body
            )
            for id, attempt, score, account, fronts, body in claimed
        ]

    async def begin(self, claim: Claim, entry: bytes, frames: Mapping[str, bytes]) -> bool:
        """Log an attempt's first events and publish them, to each front end its frame.

        False: it is not the current attempt any more.
        """
        said = (entry, round(JOB_TTL * 1000), *_by_channel(frames))
        return bool(await self._run("begin", claim.id, claim.attempt, *said))

    async def finish(
        self, id: str, attempt: int, state: State, entry: bytes, frames: Mapping[str, bytes]
    ) -> bool:
        """End a job: log `entry`, free its slot, publish to each front end its frame.

        False if this attempt does not run any more: somebody else has ended it, or will.
        """
        return bool(await self._run("finish", id, attempt, state, entry, *_by_channel(frames)))

    async def unlog(self, claim: Claim) -> None:
        """Say that what an attempt publishes from now on is not in its log."""
        await self._run("unlog", claim.id, claim.attempt)

    async def unlogged(self, id: str) -> bool:
        """Whether a job's log lacks what was published last, for good. See `unlog`."""
        return bool(await self._redis.hexists(f"gateway:job:{id}", "unlogged"))  # type: ignore[misc]  # redis-py: sync or async

    async def rest(self, claim: Claim, shortest: float, longest: float) -> bool:
        """Put a job back in its place and let its account rest. False as with `finish`."""
        times = (round(shortest * 1000), round(longest * 1000))
        return bool(await self._run("rest", claim.id, claim.attempt, *times))

    async def hand_back(self, claim: Claim) -> bool:
        """Put a job of which nothing was published back in its place. False as with `finish`."""
        return bool(await self._run("return", claim.id, claim.attempt))

    async def cancel(
        self, id: str, *, waiting_only: bool = False
    ) -> Literal["cancelled", "running", "gone"]:
        """End a waiting job, or have the worker of a running one end it."""
        word = await self._run("cancel", id, int(waiting_only))
        return cast(Literal["cancelled", "running", "gone"], word.decode())

    async def renew(self, presence: Presence, held: Iterable[Claim]) -> list[tuple[str, Verdict]]:
        """A worker's heartbeat: presence, and the leases of all it holds.

        Returns the jobs it has to let go, with the reason.
        """
        jobs = [part for claim in held for part in (claim.id, claim.attempt)]
        times = (self._presence_ttl, self._lease, self._gap)
        described = msgspec.json.encode(presence)
        verdicts = await self._run("renew", presence.worker, described, *times, *jobs)
        return [(id.decode(), word.decode()) for id, word in verdicts]

    async def reap(self) -> tuple[int, list[Lapsed]]:
        """Look for leases that ended. Returns how many jobs went back, and which must be ended."""
        back, ended = await self._run("reap", self._lease, self._gap, MAX_CRASHES)
        return back, [
            Lapsed(id.decode(), int(attempt), fronts.decode().split(), bool(cancelled))
            for id, attempt, fronts, cancelled in ended
        ]

    async def place(self, id: str) -> int:
        """The job's place in the line, counted from 1; 0 if it does not wait."""
        return int(await self._run("place", id))

    async def exists(self, id: str) -> bool:
        """Whether Redis knows the job, waiting, running or ended a moment ago."""
        return bool(await self._redis.exists(f"gateway:job:{id}"))

    # Presence: who is alive. A front end's is a key without content.

    @property
    def _presence_ttl(self) -> int:
        return self._lease + self._beat

    async def present_front(self, front: str) -> None:
        """Say that a front end is alive, for one lease period and a heartbeat."""
        await self._redis.set(front_channel(front), b"", px=self._presence_ttl)

    async def absent_front(self, front: str) -> None:
        """Say that a front end has ended: what it left behind may go."""
        await self._redis.delete(front_channel(front))

    async def absent_worker(self, worker: str) -> None:
        """Say that a worker has ended."""
        await self._redis.delete(worker_channel(worker))

    async def workers(self) -> list[Presence]:
        """Every live worker."""
        keys = [key async for key in self._redis.scan_iter(match="gateway:worker:*", count=1000)]
        values = await self._redis.mget(keys) if keys else []
        return [msgspec.json.decode(value, type=Presence) for value in values if value]
