"""A front end's hold on the line: it puts jobs in, receives their events, and lets go of them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import secrets
from collections.abc import AsyncIterator, Collection, Iterator
from functools import partial

from arq.connections import ArqRedis
from msgspec.structs import replace
from sanic import Request

from app.idempotency import Idempotency, idempotency
from app.openai.errors import (
    AnswerLost,
    ApiError,
    IdempotencyMismatch,
    LineUnavailable,
    refused,
)
from app.scheduling import BANDS, SHARES, Terms
from app.ticket import Ticket
from runtime.tasks import background
from settings import Settings
from wire import VERSION
from wire.events import Failed
from wire.gpts import GptInfos
from wire.jobs import ChatJob, Lane, encode_job
from wire.line.admission import Accepted, Admission, Attached, Clash, NewJob, Refused
from wire.line.front_end import FrontEndLine
from wire.line.scripts import Scripts
from wire.line.status import JobStatus
from wire.line.upkeep import UpkeepLine
from wire.redis.outage import REDIS_ERRORS, Outage, retry, trouble
from wire.seal import Seal
from wire.stream.endings import WAITED_TOO_LONG, end_waiting
from wire.stream.inbox import Inbox
from wire.stream.reply import Reply
from wire.upkeep.reaper import keep_reaping
from wire.upkeep.reconciler import keep_reconciling

logger = logging.getLogger(__name__)

SUBSCRIBE_PATIENCE = 2.0
"""Seconds that a request waits for a subscription that is just being made again."""

READY_PATIENCE = 1.0
"""Seconds that a look at our readiness may take."""

_POOL = "pk-"


def fingerprint(key: str) -> str:
    """How `queue.weights` names a key: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    """Turn an outage of Redis into the error that the client gets."""
    try:
        yield
    except REDIS_ERRORS:
        raise LineUnavailable from None


class Line:
    """The line as one front end sees it. `front_end` is its random name in Redis."""

    def __init__(self, redis: ArqRedis, seal: Seal, config: Settings) -> None:
        self.config = config
        self.front_end = secrets.token_hex(8)
        self._redis = redis
        self._seal = seal
        scripts = Scripts(redis, seal.fingerprint)
        self._queue = FrontEndLine(scripts, config.queue, config.upstream)
        self._upkeep = UpkeepLine(scripts, config.queue, config.upstream)
        self._inbox = Inbox(
            redis,
            self._queue,
            seal,
            self.front_end,
            outage_grace=config.redis.outage_grace,
            max_backlog=config.stream.max_backlog,
        )
        self._gpts = GptInfos(redis, seal, config.gpts.refresh)
        self._letting_go: set[asyncio.Task[None]] = set()
        self._outage = Outage(logger, "announce this front end")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take part in the line for as long as the context lasts. Redis may be away at first."""
        heartbeat = self.config.queue.heartbeat
        reaping = keep_reaping(self._upkeep, self._seal, heartbeat)
        reconciling = keep_reconciling(self._upkeep, heartbeat)
        async with self._inbox.running(), background(self._beat(), reaping, reconciling):
            yield
            if self._letting_go:
                await asyncio.wait(self._letting_go, timeout=heartbeat)
            for task in self._letting_go:
                task.cancel()
        with contextlib.suppress(*REDIS_ERRORS):
            await self._queue.presences.remove_front_end(self.front_end)

    async def _beat(self) -> None:
        while True:
            with self._outage.tolerated():
                await self._queue.presences.show_front_end(self.front_end)
            await asyncio.sleep(self.config.queue.heartbeat)

    @contextlib.asynccontextmanager
    async def submit(
        self, job: ChatJob, terms: Terms, lane: Lane = "chat"
    ) -> AsyncIterator[Ticket]:
        """Put a job in line; on leaving the context it is cancelled unless it has ended.

        Raises:
            LineUnavailable: Redis is away.
            LineFull, WaitTooLong, ModelCapped, NoWorker, CircuitOpen: it may not come in.
            IdempotencyMismatch, AnswerLost: its idempotency key leads to nothing it can have.
        """
        await self._subscribed()
        body = self._seal.seal(encode_job(job), f"job {job.id}")
        new = self._new_job(job, terms, lane, len(body) + job.blob_bytes)
        with contextlib.ExitStack() as opened:
            reply = opened.enter_context(self._inbox.open(job.id))
            reply.resubmit = lambda: self._queue.enqueue(replace(new, accepted=True), body)
            admission = await self._enqueue(new, body, reply)
            match admission:
                case Refused():
                    raise refused(admission)
                case Clash(why):
                    raise IdempotencyMismatch if why == "mismatch" else AnswerLost
                case Attached(id):
                    opened.close()
                    reply = opened.enter_context(self._inbox.open(id, attached=True))
            place = admission if isinstance(admission, Accepted) else None
            ticket = Ticket(self, reply, job.id, new.account, place)
            # The handler may be held up by the very client that made the reply end.
            reply.on_abandoned = ticket.leave
            try:
                yield ticket
            except ApiError as failure:
                failure.job = ticket.id
                raise
            finally:
                ticket.leave()

    async def _subscribed(self) -> None:
        """Wait until events would reach us: what comes before that is missed."""
        try:
            async with asyncio.timeout(SUBSCRIBE_PATIENCE):
                await self._inbox.subscribed.wait()
        except TimeoutError:
            raise LineUnavailable from None

    async def _enqueue(self, new: NewJob, body: bytes, reply: Reply) -> Admission | None:
        """Put a job in line, and let go of it unless we hear what became of it."""
        try:
            return await self._queue.enqueue(new, body)
        except BaseException as error:  # also when we are cancelled: it may have come in
            self.let_go(reply, new.id, idem=new.idem)
            if isinstance(error, REDIS_ERRORS):
                logger.warning("a job could not be put in line: %s", trouble(error))
                raise LineUnavailable from None
            raise

    def _new_job(self, job: ChatJob, terms: Terms, lane: Lane, size: int) -> NewJob:
        """What the line has to know of a job."""
        upstream, queue = self.config.upstream, self.config.queue
        is_pool = job.bearer.startswith(_POOL)
        return NewJob(
            id=job.id,
            lane=lane,
            family=job.family,
            account=self.account(job.bearer),
            front_end=self.front_end,
            cap=upstream.per_pool_concurrency if is_pool else upstream.per_account_concurrency,
            user=self._seal.name("user", f"{job.bearer} {terms.tier} {terms.user}"),
            weight=queue.weights.get(fingerprint(job.bearer), 1.0) if queue.weights else 1.0,
            tier=SHARES[terms.tier],
            band=BANDS[terms.tier] if queue.strict_priority else 0.0,
            bytes=size,
            max_wait=terms.max_wait,
            idem=self._idem(job.bearer, terms.idempotency.key) if terms.idempotency else None,
            digest=terms.idempotency.digest if terms.idempotency else "",
            resumes=terms.idempotency is not None and terms.idempotency.resumes,
        )

    def _idem(self, bearer: str, key: str) -> str:
        return self._seal.name("idempotency", f"{bearer} {key}")

    def idempotency(self, request: Request, body: bytes | bytearray) -> Idempotency | None:
        """What a request with this body asks for by its `Idempotency-Key`.

        Raises:
            BadRequest: the key is not one.
            AnswerLost: there is a `Last-Event-ID` but no key, so no answer to go on with.
        """
        headers = request.headers
        if "last-event-id" in headers and "idempotency-key" not in headers:
            raise AnswerLost
        key, after = headers.get("idempotency-key"), headers.get("last-event-id")
        return idempotency(key, self._seal, request.path, body, resumes=bool(after))

    def account(self, bearer: str) -> str:
        """The name in Redis of whatever a bearer's jobs run on."""
        return self._seal.name("account", bearer)

    def let_go(
        self, reply: Reply, reader: str, *, enough: bool = False, idem: str | None = None
    ) -> None:
        """Leave a job unless it has ended. See `Ticket.leave` and `FrontEndLine.detach`."""
        if reply.ended and not reply.abandoned:
            return
        # Beside the handler, which is being cancelled, has an error to tell or an answer to end.
        # For as long as it takes: while we are present, the job would run for nobody.
        leave = partial(self._queue.detach, reply.job, reader, enough=enough, idempotency=idem)
        task = asyncio.create_task(retry(leave))
        self._letting_go.add(task)
        task.add_done_callback(self._letting_go.discard)

    async def end_if_waiting(self, id: str, account: str) -> bool:
        """End a job that has waited too long, and tell whoever reads it. False if it does not wait:
        it has got a slot, or its ending is on its way to us."""
        with contextlib.suppress(*REDIS_ERRORS):
            return await self._end_waiting(id, account, WAITED_TOO_LONG) is None
        return True

    async def _end_waiting(self, id: str, account: str, failed: Failed) -> JobStatus | None:
        """End a job if it waits, and tell whoever reads it at that moment. Where it is, if it does
        not wait; None when it is ended, or unknown."""
        while (found := await self._queue.status(id, account)) and found.state == "waiting":
            if await end_waiting(self._queue, self._seal, id, found.front_ends, failed):
                return None
        return found

    async def find(self, bearer: str, name: str) -> JobStatus | None:
        """Where a bearer's job is, by its id or its idempotency key.

        Raises:
            LineUnavailable: Redis is away.
        """
        with _unavailable():
            return await self._queue.status(name, self.account(bearer), self._idem(bearer, name))

    async def withdraw(self, bearer: str, name: str) -> str | None:
        """End a bearer's job, and tell whoever reads it, or forget its answer. Its id; None if
        there is none such.

        Raises:
            LineUnavailable: Redis is away.
        """
        found = await self.find(bearer, name)
        if found is None:
            return None
        withdrawn = Failed("cancelled", "The request was cancelled.", "cancelled")
        with _unavailable():
            # It may begin, or go back to wait, at any moment; whoever reads it must be told.
            while await self._end_waiting(found.id, self.account(bearer), withdrawn):
                if await self._queue.cancel(found.id, unless_waiting=True) != "waiting":
                    break
        return found.id

    async def look(self, id: str, account: str) -> JobStatus | None:
        """See `Ticket.status`."""
        with contextlib.suppress(*REDIS_ERRORS):
            return await self._queue.status(id, account)
        return None

    async def missed(self, bearer: str, gpts: Collection[str]) -> set[str]:
        """Those of some GPTs that cannot be reached with a bearer, as far as is known."""
        with contextlib.suppress(*REDIS_ERRORS):
            return await self._gpts.missed(bearer, gpts) if gpts else set()
        return set()

    def fail_all(self, message: str, code: str) -> None:
        """Tell every client that still waits that its answer will not come."""
        self._inbox.fail_all(message, code)

    async def troubles(self) -> tuple[list[str], list[str]]:
        """What keeps new requests from being served, and what is amiss besides."""
        try:
            async with asyncio.timeout(READY_PATIENCE):
                workers = await self._queue.presences.workers()
                damage = await self._upkeep.repairs()
                open_for = (await self._upkeep.snapshot()).open_for
        except REDIS_ERRORS as error:
            return [f"Redis cannot be reached, or refuses to serve ({trouble(error)})"], []
        fatal, lesser = [], []
        if self._outage.reason:  # a full Redis can still be read
            fatal.append(f"Redis cannot be written to ({self._outage.reason})")
        if not self._inbox.subscribed.is_set():
            fatal.append("the subscription to Redis is being made again")
        ours = [w for w in workers if w.fingerprint == self._seal.fingerprint]
        if not ours:
            fatal.append("no worker is alive")
        if len(ours) < len(workers):
            lesser.append(
                f"workers with another GATEWAY_SECRET: {len(workers) - len(ours)}; they cannot "
                "unseal the jobs of this front end and take none of them"
            )
        if open_for is not None:
            # No reason for a load balancer to turn clients away: we tell them when to come back.
            lesser.append(
                "the upstream fails for everyone; requests are refused until it is tried again, "
                f"in {open_for:.0f} s"
            )
        if damage:
            lesser.append(f"the line was found damaged a moment ago and repaired, places: {damage}")
        if any(w.version != VERSION for w in ours):
            lesser.append("some workers are of another version")
        return fatal, lesser
