"""A front end's hold on the line: it puts jobs in, receives their events, and lets go of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Collection

from arq.connections import ArqRedis

from app.errors import LineUnavailable, WaitedTooLong
from background import background
from settings import Settings
from wire import VERSION
from wire.events import Event
from wire.gpts import GptInfos
from wire.inbox import Inbox, Reply
from wire.jobs import ChatJob, encode_job
from wire.queue import Queue
from wire.reaper import keep_reaping
from wire.redis import AWAY, RedisError
from wire.seal import Seal

logger = logging.getLogger(__name__)

SUBSCRIBE_PATIENCE = 2.0
"""Seconds that a request waits for a subscription that is just being made again."""

READY_PATIENCE = 1.0
"""Seconds that a look at our readiness may take."""

_POOL = "pk-"


class Ticket:
    """One job in the line, and its events."""

    def __init__(self, line: Line, reply: Reply) -> None:
        self._line = line
        self._reply = reply
        self._clock = asyncio.get_running_loop().time
        self._give_up = self._clock() + 2 * line.config.queue.max_wait
        self._extended = False
        self.left = False
        """Whether the job has been let go of before its ending."""

    @property
    def begun(self) -> bool:
        """Whether anything of the answer has come."""
        return self._reply.begun

    async def events(self, patience: float | None = None) -> list[Event]:
        """The next events, at least one; or none, when `patience` (seconds) has passed.

        Raises:
            WaitedTooLong: the job did not begin in time. It is cancelled.
        """
        until = None if patience is None else self._clock() + patience
        while True:
            soonest = until
            if not self.begun and (until is None or self._give_up < until):
                soonest = self._give_up
            events = await self._reply.events(soonest)
            if events or soonest == until:
                return events
            await self._extend_or_give_up()

    async def _extend_or_give_up(self) -> None:
        # A job that has got its slot at last may still begin; its worker sets it a deadline too.
        if self._extended or await self._line.cancel_unless_running(self._reply.job):
            raise WaitedTooLong
        self._extended = True
        upstream = self._line.config.upstream
        self._give_up += upstream.connect_timeout + upstream.first_event_timeout

    def leave(self) -> None:
        """Let go of the job, of which nothing more is wanted: at once, beside what the caller does.

        Ask for no more events after this, unless there is still an ending to come.
        """
        if not self.left:
            self.left = True
            self._line.let_go(self._reply)

    async def place(self) -> int:
        """The job's place in the line, from 1; 0 when it runs, or nobody can say now."""
        return await self._line.place(self._reply.job)


class Line:
    """The line as one front end sees it. `front` is its random name in Redis."""

    def __init__(self, redis: ArqRedis, seal: Seal, config: Settings) -> None:
        self.config = config
        self.front = secrets.token_hex(8)
        self._redis = redis
        self._seal = seal
        self._queue = Queue(redis, seal, config.queue)
        self._inbox = Inbox(
            redis,
            self._queue,
            seal,
            self.front,
            outage_grace=config.redis.outage_grace,
            max_backlog=config.stream.max_backlog,
        )
        self._gpts = GptInfos(redis, seal, config.gpts.refresh)
        self._letting_go: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take part in the line for as long as the context lasts. Redis may be away at first."""
        heartbeat = self.config.queue.heartbeat
        reaping = keep_reaping(self._queue, self._seal, heartbeat)
        async with self._inbox.running(), background(self._beat(), reaping):
            yield
            if self._letting_go:
                await asyncio.wait(self._letting_go, timeout=heartbeat)
            for task in self._letting_go:
                task.cancel()
        with contextlib.suppress(*AWAY):
            await self._queue.absent_front(self.front)

    async def _beat(self) -> None:
        away = False
        while True:
            try:
                await self._queue.present_front(self.front)
                if away:
                    logger.info("Redis is back")
                away = False
            except AWAY as error:
                if not away:
                    logger.warning("Redis is away: %s", type(error).__name__)
                away = True
            await asyncio.sleep(self.config.queue.heartbeat)

    @contextlib.asynccontextmanager
    async def submit(self, job: ChatJob) -> AsyncIterator[Ticket]:
        """Put a job in line; on leaving the context it is cancelled unless it has ended.

        Raises:
            LineUnavailable: Redis is away.
        """
        try:
            async with asyncio.timeout(SUBSCRIBE_PATIENCE):
                await self._inbox.subscribed.wait()
        except TimeoutError:
            raise LineUnavailable from None
        body = self._seal.seal(encode_job(job), f"job {job.id}")
        upstream = self.config.upstream
        is_pool = job.bearer.startswith(_POOL)

        async def enqueue() -> None:
            await self._queue.enqueue(
                "chat",
                job.id,
                account=self._seal.name("account", job.bearer),
                cap=upstream.per_pool_concurrency if is_pool else upstream.per_account_concurrency,
                front=self.front,
                body=body,
            )

        with self._inbox.open(job.id) as reply:
            reply.resubmit = enqueue
            ticket = None
            try:
                try:
                    await enqueue()
                except RedisError as error:
                    logger.warning("a job could not be put in line: %s", type(error).__name__)
                    raise LineUnavailable from None
                ticket = Ticket(self, reply)
                # The handler may be held up by the very client that made the reply end.
                reply.on_abandoned = ticket.leave
                yield ticket
            finally:
                if ticket is None or not ticket.left:
                    self.let_go(reply)

    def let_go(self, reply: Reply) -> None:
        """Cancel a job unless it has ended. See `Ticket.leave`."""
        if reply.ended and not reply.abandoned:
            return
        # Beside the handler, which is being cancelled, has an error to tell or an answer to end.
        task = asyncio.create_task(self._cancel(reply.job))
        self._letting_go.add(task)
        task.add_done_callback(self._letting_go.discard)

    async def _cancel(self, job: str) -> None:
        # As long as it takes: while we are present, the job would run for nobody.
        while True:
            try:
                await self._queue.cancel(job)
                return
            except AWAY:
                await asyncio.sleep(0.2)

    async def cancel_unless_running(self, job: str) -> bool:
        """Cancel a job that still waits. False if it has got a slot."""
        try:
            return await self._queue.cancel(job, waiting_only=True) != "running"
        except AWAY:
            return True

    async def place(self, job: str) -> int:
        """See `Ticket.place`."""
        try:
            return await self._queue.place(job)
        except AWAY:
            return 0

    async def missed(self, bearer: str, gpts: Collection[str]) -> set[str]:
        """Those of some GPTs that cannot be reached with a bearer, as far as is known."""
        try:
            return await self._gpts.missed(bearer, gpts) if gpts else set()
        except AWAY:
            return set()

    async def emptied(self) -> None:
        """Wait until this front end waits for no job any more."""
        await self._inbox.empty.wait()

    def fail_all(self, message: str, code: str) -> None:
        """Tell every client that still waits that its answer will not come."""
        self._inbox.fail_all(message, code)

    async def troubles(self) -> tuple[list[str], list[str]]:
        """What keeps new requests from being served, and what is amiss besides."""
        try:
            async with asyncio.timeout(READY_PATIENCE):
                workers = await self._queue.workers()
        except AWAY as error:
            return [f"Redis cannot be reached, or refuses to serve ({type(error).__name__})"], []
        fatal, lesser = [], []
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
        if any(w.version != VERSION for w in ours):
            lesser.append("some workers are of another version")
        return fatal, lesser
