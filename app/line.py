"""Submits a front end's jobs to the waiting line, and follows them as tickets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

import msgspec
from msgspec.structs import replace

from app.auth import Caller
from app.batches import Batches
from app.http.access_log import Entry, JobFigures
from app.idempotency import key_name
from app.openai.errors import ApiError, JobFailed, LineUnavailable, clash_error, refusal_error
from app.scheduling import BANDS, SHARES, Scheduling
from runtime import tracing
from settings import Settings
from wire.events import Event, Failed
from wire.jobs import (
    ChatJob,
    RelayedJob,
    Sort,
    encode_job,
    is_pool,
    lane_name,
    lane_of_family,
)
from wire.line.admission import Accepted, Admission, Allowance, Attached, Clash, NewJob, Refused
from wire.line.front_end import Detachment, FrontEndLine
from wire.line.scripts import WrongVersionError
from wire.line.status import JobStatus
from wire.redis.outage import REDIS_ERRORS, retry
from wire.redis.trouble import address_of, trouble
from wire.seal import Seal
from wire.stream.endings import WAITED_TOO_LONG, finish_waiting
from wire.stream.inbox import Inbox
from wire.stream.reply import Reply

logger = logging.getLogger(__name__)

SUBSCRIBE_PATIENCE = 2.0
"""Seconds that a request waits while the subscription to Redis is being made again."""

ENQUEUES = 30
"""Jobs that are enqueued at the same time; further ones wait here, in order. Fewer than the
connections to Redis, so that the requests of thousands of clients never use up all of them."""

ENQUEUE_PATIENCE = 30.0
"""Seconds that a request waits for its turn to be enqueued."""

PLACES = 100
"""Jobs whose places are asked together, which takes Redis a few milliseconds."""

DETACHMENTS = 100
"""Readers that are detached together: each may cancel a job, which takes Redis up to 0.1 ms."""


def line_key(seal: Seal, identity: str) -> str:
    """Return the name in Redis of the key of a caller."""
    return seal.name("account", identity)


async def finish_if_waiting(
    line: FrontEndLine, seal: Seal, id: str, key: str, failed: Failed
) -> JobStatus | None:
    """Finish a job if it is waiting, with an ending for its current readers.

    Returns the status of a job that is not waiting; None if it was finished here, or is unknown.
    """
    while (job := await line.status(id, key)) and job.state == "waiting":
        if await finish_waiting(line, seal, id, job.front_ends, failed):
            return None
    return job


class SealedJob(msgspec.Struct):
    """A job as it is enqueued. While it waits, little else is kept of a request.

    `family` is the kind of model, `model` the client's name for it. `shared` if the job runs on an
    account of the gateway's own instead of its caller's. `body` is the encoded and sealed job;
    `bytes` is the size of that, of the job's blobs, and of what else is kept. `slots` is the number
    of slots that it takes. `is_free` if it costs no units of the upstream.
    """

    id: str
    family: str
    caller: Caller
    body: bytes
    bytes: int
    lane: str = "chat"
    shared: bool = False
    slots: int = 1
    model: str = ""
    is_free: bool = False


def seal_job(
    seal: Seal, job: ChatJob, caller: Caller, model: str, kept: int = 0, sort: Sort = "chat"
) -> SealedJob:
    """Encode and seal a job. `model` is the client's name for its model, `kept` the size of all
    else of the request that is kept.
    """
    body = seal.seal(encode_job(job), f"job {job.id}")
    size = len(body) + job.blob_bytes + kept
    shared = not job.bearer
    lane = lane_of_family(sort, job.family) if shared else lane_name(sort)
    return SealedJob(job.id, job.family, caller, body, size, lane, shared, model=model)


def seal_relayed(
    seal: Seal, job: RelayedJob, caller: Caller, lane: str, slots: int = 1
) -> SealedJob:
    """Encode and seal a job that is relayed."""
    body = seal.seal(encode_job(job), f"job {job.id}")
    size = len(body) + job.blob_bytes
    sealed = SealedJob(job.id, job.model, caller, body, size, lane, model=job.model)
    is_free = job.path == "messages/count_tokens"
    return replace(sealed, shared=True, slots=slots, is_free=is_free)


class Line:
    """The waiting line as the features of one front end use it. Redis knows it by its id.

    `too_late` returns the ending of jobs of a lane that waited too long.
    """

    def __init__(
        self,
        config: Settings,
        seal: Seal,
        line: FrontEndLine,
        inbox: Inbox,
        front_end_id: str,
        too_late: Callable[[str], Failed] = lambda _: WAITED_TOO_LONG,
    ) -> None:
        self.config = config
        self._seal = seal
        self._line = line
        self._inbox = inbox
        self._front_end_id = front_end_id
        self._too_late = too_late
        self._enqueues = asyncio.Semaphore(ENQUEUES)
        self._places = Batches(
            self._ask_places, PLACES, config.stream.keepalive_interval / 20, lambda asked: asked[0]
        )
        self._detachments = Batches(self._detach_all, DETACHMENTS, 0.0, lambda one: one[0])

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Accept jobs for as long as the context lasts. Redis may be unreachable at first."""
        async with self._inbox.running():
            yield
            await self._places.finish(0.0)
            await self._detachments.finish(self.config.queue.heartbeat)

    async def submit(
        self, job: SealedJob, scheduling: Scheduling, entry: Entry | None = None
    ) -> Ticket:
        """Enqueue a job; its ticket is a context, at whose end it detaches.

        `entry` is that of its request in the log.

        Raises:
            LineUnavailable: Redis is unreachable, or too slow.
            KeyRefused, LineFull, WaitTooLong, ModelCapped: the job was refused.
            KeyRevoked, RateLimited, QuotaSpent: the gateway key may have no job now.
            NoWorker, CircuitOpen, IntakePaused: so is every job for now.
            IdempotencyMismatch, AnswerLost: its idempotency key leads to no answer for it.
        """
        if entry is not None:
            entry.model, entry.lane = job.model, job.lane
        await self._subscribed()
        new = self._new_job(job, scheduling)
        reply = self._inbox.open(job.id)
        reply.resubmit = partial(self._line.enqueue, replace(new, accepted=True), job.body)
        try:
            admission = await self._enqueue(new, job.body, reply)
            if isinstance(admission, Refused):
                raise refusal_error(admission)
            if isinstance(admission, Clash):
                raise clash_error(admission)
        except BaseException:
            reply.close()
            raise
        if isinstance(admission, Attached):
            job.body = b""
            reply.close()
            reply = self._inbox.open(admission.id, attached=True)
        place = admission if isinstance(admission, Accepted) else None
        logger.debug(
            "a job is in line",
            extra={
                "event": "job_in_line",
                "job": reply.job,
                "key": job.caller.fingerprint,
                "position": place.place if place else "attached",
            },
        )
        return Ticket(self, reply, new, place, entry)

    async def _subscribed(self) -> None:
        """Wait until events can be received: those published before that would be missed."""
        try:
            async with asyncio.timeout(SUBSCRIBE_PATIENCE):
                await self._inbox.subscribed.wait()
        except TimeoutError:
            raise LineUnavailable from None

    async def _turn_to_enqueue(self) -> None:
        try:
            async with asyncio.timeout(ENQUEUE_PATIENCE):
                await self._enqueues.acquire()
        except TimeoutError:
            raise LineUnavailable from None

    async def _enqueue(self, new: NewJob, body: bytes, reply: Reply) -> Admission | None:
        """Enqueue a job; detach from it if the result of the enqueue is unknown."""
        await self._turn_to_enqueue()
        try:
            return await self._line.enqueue(new, body)
        except WrongVersionError:
            raise LineUnavailable from None  # this front end is about to stop
        except BaseException as error:  # also of a cancelled task: the job may have been enqueued
            self.detach(reply, new.id, new.key, idempotency=new.idem)
            if isinstance(error, REDIS_ERRORS):
                logger.warning(
                    "a job could not be put in line: %s",
                    trouble(error),
                    extra={"event": "enqueue_failed", "job": new.id} | address_of(error),
                )
                raise LineUnavailable from None
            raise
        finally:
            self._enqueues.release()

    def _new_job(self, job: SealedJob, scheduling: Scheduling) -> NewJob:
        """Describe a job to the line."""
        queue, caller = self.config.queue, job.caller
        new = NewJob(
            id=job.id,
            lane=job.lane,
            family=job.family,
            key=line_key(self._seal, caller.identity),
            front_end=self._front_end_id,
            own_slots=0 if job.shared else self._own_slots(caller.bearer),
            slots=job.slots,
            user=self._seal.name("user", f"{caller.identity} {scheduling.tier} {scheduling.user}"),
            weight=caller.weight(queue.weights),
            tier=SHARES[scheduling.tier],
            band=BANDS[scheduling.tier] if queue.strict_priority else 0.0,
            bytes=job.bytes,
            max_wait=scheduling.max_wait,
            book=job.caller.book,
            model=job.model,
            units=0.0 if job.is_free else self.config.usage.units_of(job.model),
            usage_days=self.config.usage.keep_days,
            issued=caller.issued.id if caller.issued else "",
        )
        if (same := scheduling.idempotency) is None:
            return new
        key = key_name(self._seal, caller.identity, same.key)
        return replace(new, idem=key, digest=same.digest, resumes=same.resumes)

    def _own_slots(self, bearer: str) -> int:
        upstream = self.config.upstream
        return (
            upstream.per_pool_concurrency if is_pool(bearer) else upstream.per_account_concurrency
        )

    def detach(
        self,
        reply: Reply,
        reader: str,
        key: str,
        *,
        enough: bool = False,
        idempotency: str | None = None,
    ) -> None:
        """Detach from a job unless it has finished. See `FrontEndLine.detach`.

        Returns immediately; runs in the background, as the handler is being cancelled, or has an
        error to send or an answer to complete.
        """
        if reply.ended and not reply.abandoned:
            return
        logger.debug("a reader detaches", extra={"event": "reader_detached", "job": reply.job})
        self._detachments.add((key, Detachment(reply.job, reader, enough, idempotency)))

    async def _detach_all(self, detached: Sequence[tuple[str, Detachment]]) -> Sequence[None]:
        # The last ones of a key first: no job moves up that is about to leave, too.
        readers = [reader for _, reader in reversed(detached)]
        # Repeated until it succeeds: while we are present, the jobs would run without a reader.
        await retry(partial(self._line.detach_all, readers))
        return [None] * len(readers)

    async def give_up_waiting(self, id: str, key: str, lane: str) -> Failed | None:
        """Finish a job that waited too long, and return its ending. None if it is not waiting: it
        has a slot, or its ending is on its way to us."""
        failed = self._too_late(lane)
        with contextlib.suppress(*REDIS_ERRORS):
            if await finish_if_waiting(self._line, self._seal, id, key, failed) is not None:
                return None
        return failed

    async def _ask_places(self, asked: Sequence[tuple[str, str]]) -> Sequence[Accepted | None]:
        return await self._line.places(id for _, id in asked)

    async def place(self, id: str, key: str, *, at_once: bool) -> Accepted | None:
        """Return the current place of a job; None if it is not waiting, or Redis is unreachable.

        Unless `at_once`, it is asked together with others: thousands of clients may wait.
        """
        with contextlib.suppress(*REDIS_ERRORS):
            if at_once:
                return (await self._line.places([id]))[0]
            return await self._places.add((key, id))
        return None

    def fail_all(self, message: str, code: str) -> None:
        """End every open answer with an error."""
        self._inbox.fail_all(message, code)


class Ticket:
    """One job in the line, and its events. `place` is its initial one.

    It is a context, at whose end it detaches from the job, unless that has finished. Under an
    idempotency key, `id` may be that of a job that was accepted earlier.
    """

    def __init__(
        self,
        line: Line,
        reply: Reply,
        new: NewJob,
        place: Accepted | None,
        entry: Entry | None = None,
    ) -> None:
        self.id = reply.job
        self.place = place
        self._entry = entry or Entry("")
        self._submitted = time.time()
        self._line = line
        self._reply = reply
        self._reader = new.id
        self._key = new.key
        self._lane = new.lane
        self._deadline = _now() + line.config.queue.longest_wait
        self._detached = False
        # The handler may be blocked by the very client because of which the reply ended.
        reply.on_abandoned = self.detach

    def __enter__(self) -> Ticket:
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: object
    ) -> None:
        if isinstance(error, ApiError):
            error.job, error.allowance = self.id, self.allowance
        self._entry.job = self.id
        figures = self._figures
        self._entry.add(figures)
        span = tracing.child("wait", self._entry.span.traceparent, at=self._submitted)
        span.note({"job": self.id, "lane": self._lane, "claimed": figures.wait is not None})
        span.end(None if figures.wait is None else self._submitted + figures.wait)
        self.detach()
        self._reply.close()

    @property
    def _figures(self) -> JobFigures:
        arrived, claimed = self.place.arrived if self.place else 0.0, self._reply.claimed
        wait = max(0.0, claimed - arrived) if arrived and claimed else None
        return JobFigures(wait, self._reply.began, self._reply.tokens)

    @property
    def begun(self) -> bool:
        """True once a part of the answer has been received."""
        return self._reply.begun

    async def events(self, until: float = math.inf) -> list[Event]:
        """Return the next events, at least one; none at the time `until` of the loop's clock.

        Raises:
            JobFailed: the job did not start in time and has been finished.
        """
        while True:
            soonest = until if self.begun else min(until, self._deadline)
            events = await self._reply.events(soonest)
            if events or soonest == until:
                return events
            await self._extend_or_give_up()

    async def _extend_or_give_up(self) -> None:
        # A job with a slot may still begin, if its files take long; its worker finishes it.
        if failed := await self._line.give_up_waiting(self.id, self._key, self._lane):
            raise JobFailed(failed)
        self._deadline += self._line.config.longest_start

    @property
    def allowance(self) -> Allowance | None:
        """Requests that the key may still make, if that is limited and this one was counted."""
        return self.place.allowance if self.place else None

    def detach(self, *, enough: bool = False) -> None:
        """Stop following the job. Returns immediately; runs in the background.

        `enough`: the client has received all it asked for.
        Request no more events after this, unless an ending is still to come.
        """
        if not self._detached:
            self._detached = True
            self._line.detach(self._reply, self._reader, self._key, enough=enough)

    @property
    def headers(self) -> dict[str, str]:
        """Response headers with the id of the job and its initial place."""
        headers = {"x-queue-id": self.id}
        if self.place is not None:
            headers["x-queue-position"] = str(self.place.place)
            headers["x-queue-eta"] = str(math.ceil(self.place.wait))
        return headers

    async def current_place(self, *, at_once: bool) -> Accepted | None:
        """Return its current place; see `Line.place`."""
        if self.begun:
            return None
        return await self._line.place(self.id, self._key, at_once=at_once)


def _now() -> float:
    return asyncio.get_running_loop().time()
