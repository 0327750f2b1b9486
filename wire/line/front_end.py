"""The front end's view of the line: jobs are enqueued, looked up, cancelled and detached from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, cast, get_args

import msgspec

import settings
from wire.jobs import shared_family
from wire.line import keys
from wire.line.admission import (
    Accepted,
    Admission,
    Allowance,
    Attached,
    Clash,
    NewJob,
    RefusalReason,
    Refused,
)
from wire.line.limits import Limits
from wire.line.metrics import Sample
from wire.line.offers import Aside, LiveUpstream, read_description
from wire.line.scripts import Scripts
from wire.line.status import JobStatus
from wire.line.usage import encode_model
from wire.line.view import LineView, UnknownReply, front_ends, known_word

Cancelled = Literal[
    "cancelled",  # it was waiting, and is cancelled
    "waiting",  # it is waiting, and was not to be cancelled
    "running",  # its worker was asked to finish it
    "gone",  # it has finished, or is not known: it will not be admitted
]
"""Result of cancelling a job."""


AT_ONCE = 500
"""Jobs that are looked up in one call, which takes Redis less than a millisecond."""


class Detachment(msgspec.Struct, frozen=True):
    """Detachment of a reader, named by the job that its own request would have made, from a job.

    `enough`: it has received all it asked for, so the job finishes at once, as done.
    `idempotency`: the idempotency key of a reader that does not know which job it reads.
    """

    id: str
    reader: str
    enough: bool = False
    idempotency: str | None = None


class FrontEndLine(LineView):
    """The line as front ends use it."""

    def __init__(self, scripts: Scripts, config: settings.Queue) -> None:
        super().__init__(scripts, config)
        self._limits = msgspec.msgpack.encode(Limits.of(config, self.presences.ttl))

    async def enqueue(self, job: NewJob, body: bytes) -> Admission | None:
        """Admit a job to the line, or refuse it; `body` is its sealed request.

        None if a job with this id is known already.
        """
        described = msgspec.msgpack.encode(msgspec.structs.asdict(job) | _for_redis(job))
        reply = await self._run("enqueue", described, self._limits, body)
        match reply:
            case [b"accepted", int(place), int(wait), int(now), *left]:
                return Accepted(place, wait / 1000, _allowance(left), now / 1000)
            case [b"attached", bytes(id)]:
                return Attached(id.decode())
            case [b"refused", bytes(reason), int(wait), int(kept), *left]:
                return _refused(reason, wait, kept, left)
            case [b"mismatch" | b"lost" as why]:
                return Clash("mismatch" if why == b"mismatch" else "lost")
            case [b"known"]:
                return None
            case _:
                raise UnknownReply(f"enqueue: {reply!r}")

    async def refusal(self, issued: str) -> Refused | None:
        """Return the refusal that the next job of an issued key would get now from its limits, if
        any. Nothing changes."""
        reason, wait, kept, *left = await self._run("allowance", issued)
        return _refused(reason, wait, kept, left) if reason else None

    async def is_named(self, idempotency: str) -> bool:
        """Return True if a job is known under the name of an idempotency key."""
        return bool(await self._redis.exists(keys.idempotency(idempotency)))

    async def count(self, counts: Mapping[Sample, int]) -> None:
        """Add events that this front end has counted to the metrics."""
        described = [(name, dict(labels), by) for (name, labels), by in counts.items()]
        await self._run("count", msgspec.msgpack.encode(described))

    async def detach(
        self, id: str, reader: str, *, enough: bool = False, idempotency: str | None = None
    ) -> None:
        """Detach one reader; see `detach_all`."""
        await self.detach_all([Detachment(id, reader, enough, idempotency)])

    async def detach_all(self, readers: Iterable[Detachment]) -> None:
        """Detach readers from their jobs. When the last one of a job detaches, it is cancelled, at
        once or after its grace.
        """
        described: list[str | int] = []
        for one in readers:
            key = keys.idempotency(one.idempotency) if one.idempotency else ""
            described += one.id, one.reader, int(one.enough), key
        await self._run("detach", *described)

    async def cancel(self, id: str, *, unless_waiting: bool = False) -> Cancelled:
        """Cancel a job: a running one through its worker, a waiting one at once, without an ending
        for its readers.

        `unless_waiting`: do nothing to a waiting job.
        """
        reply = await self._run("cancel", id, int(unless_waiting))
        return cast(Cancelled, known_word(reply, get_args(Cancelled)))

    async def status(self, name: str, key: str, idempotency: str = "") -> JobStatus | None:
        """Return the status of a key's job by its id or its idempotency key, or None."""
        found = await self._run("status", name, keys.idempotency(idempotency), key, self._limits)
        if not found:
            return None
        id, state, place, wait, readers = found
        position, seconds = (place, wait / 1000) if place else (None, None)
        return JobStatus(id.decode(), state.decode(), position, seconds, front_ends(readers))

    async def places(self, ids: Iterable[str]) -> list[Accepted | None]:
        """Places of jobs, in this order; None for a job that is not waiting."""
        found = await self._run("places", self._limits, *ids)
        return [
            Accepted(place, wait / 1000) if place else None
            for place, wait in zip(found[::2], found[1::2], strict=True)
        ]

    async def waiting(self, ids: Sequence[str]) -> set[str]:
        """Those of these jobs that are waiting: nothing of their answers was published."""
        found: set[str] = set()
        for at in range(0, len(ids), AT_ONCE):
            waiting = await self._run("waiting_among", *ids[at : at + AT_ONCE])
            found.update(id.decode() for id in waiting)
        return found

    async def upstreams(self) -> list[LiveUpstream]:
        """All upstreams that workers have described lately."""
        found = await self._run("upstreams")
        return sorted((_upstream(*row) for row in found), key=lambda upstream: upstream.name)

    async def exists(self, id: str) -> bool:
        """Return True if Redis knows the job: waiting, running or recently finished."""
        return bool(await self._redis.exists(keys.job(id)))

    async def log_incomplete(self, id: str) -> bool:
        """Return True if a job's log lacks its latest events for good.

        See `WorkerLine.stop_logging`.
        """
        return bool(await self._redis.hexists(keys.job(id), "unlogged"))  # type: ignore[misc]  # redis-py: sync or async


def _upstream(
    name: bytes,
    max_concurrency: int,
    described: bytes,
    about: bytes,
    open_for: int,
    aside: list[tuple[bytes, bytes, int]],
) -> LiveUpstream:
    """Decode one row of the reply of `upstreams.lua`."""
    found = read_description(described)
    return LiveUpstream(
        name.decode(),
        max_concurrency,
        sorted(found.lanes),
        found.accounts,
        about,
        None if open_for < 0 else open_for / 1000,
        [Aside(each.decode(), reason.decode(), ms / 1000) for each, reason, ms in aside],
    )


def _refused(reason: bytes, wait: int, kept: int, left: list[int]) -> Refused:
    return Refused(cast(RefusalReason, reason.decode()), wait / 1000, bool(kept), _allowance(left))


def _allowance(left: list[int]) -> Allowance | None:
    """Decode the end of a reply: nothing, or three numbers."""
    if not left:
        return None
    limit, remaining, reset = left
    return Allowance(limit, remaining, reset / 1000)


def _for_redis(job: NewJob) -> dict[str, object]:
    """The fields that the scripts need in another form."""
    return {
        "idem": job.idem and keys.idempotency(job.idem),
        "max_wait": min(job.max_wait, 1e9) * 1000,
        # Clients and servers choose the names of models. That of a lane is encoded, and a worker
        # has offered it: so the names of Redis keys stay sound, and service times few.
        "model": encode_model(job.model),
        "family": job.family if job.own_slots else shared_family(job.lane),
    }
