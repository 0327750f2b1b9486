"""One worker: claims jobs, runs an attempt at each, and sees that every attempt is settled.

arq runs the claimed jobs (`workers/arq.py`). The rest is ours: jobs are claimed in one script
together with their lease, so no running job stays in the queue; the loop is woken by pub/sub and
polls only as a safety net; it outlives an unreachable Redis; and every job that is claimed here is
finished here or requeued, on every path (`workers/settlement.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Iterable
from functools import partial

import msgspec
from msgspec.structs import replace

from runtime import tracing
from runtime.tasks import background
from settings import Settings
from settings.credentials import Secret
from store.blobs import Blobs
from store.objects import StoreError
from wire import VERSION
from wire.events import Ending, Failed
from wire.jobs import decode_job, fingerprint
from wire.line import keys
from wire.line.commands import Attach, Cancel, Command, Drain, decode_command
from wire.line.history import History
from wire.line.presence import Presence
from wire.line.processes import ProcessFigures
from wire.line.scripts import Scripts
from wire.line.upkeep import UpkeepLine
from wire.line.worker import WorkerLine
from wire.redis.client import Redis
from wire.redis.outage import REDIS_ERRORS
from wire.redis.subscription import Subscription
from wire.redis.trouble import address_of, trouble
from wire.seal import Seal
from wire.stream.channel import RedisChannel
from wire.stream.outbox import Outbox
from wire.tokens.job import JobTokens
from wire.tokens.text import encoding
from wire.upkeep.history import keep_recording
from wire.upkeep.processes import showing
from wire.upkeep.reaper import keep_reaping
from wire.upkeep.reconciler import keep_reconciling
from wire.upkeep.version import keep_version
from workers.arq import RECORD, ArqRunner
from workers.attempt import Attempt
from workers.leases import Leases
from workers.served import AnyServed
from workers.settlement import Settlement

logger = logging.getLogger(__name__)

POLL = 0.5
"""Seconds between two looks for claimable jobs, should no nudge arrive."""

LOST = Failed("gateway_error", "Redis has lost the request. Retry the request.", code="job_lost")


class Worker:
    """Runs attempts at up to `workers.max_jobs` jobs of each upstream. `id` is its name in Redis.

    A job's `blobs` are removed with its ending.
    """

    def __init__(
        self,
        id: str,
        redis: Redis,
        seal: Seal,
        upstreams: Iterable[AnyServed],
        config: Settings,
        blobs: Blobs | None = None,
    ) -> None:
        self.id = id
        scripts = Scripts(redis, seal.fingerprint)
        self.line = WorkerLine(scripts, config.queue)
        self._channel = RedisChannel(redis)
        self.outbox = Outbox(self._channel, self.line, seal, config.queue.max_log_bytes)
        self._upstreams = {upstream.name: upstream for upstream in upstreams}
        max_jobs = config.workers.max_jobs
        presence = Presence(id, VERSION, seal.fingerprint, max_jobs, tuple(self._upstreams))
        self.leases = Leases(self.line, self.outbox, presence, config.queue)
        self.tasks: dict[str, asyncio.Task[None]] = {}
        """The tasks of all attempts, by their jobs; of one job, the latest."""
        self._upkeep = UpkeepLine(scripts, config.queue)
        self._history = History(scripts)
        self._settlement = Settlement(self.line, self._upstreams, self.outbox, seal, blobs, config)
        # Our own deadlines finish a job; arq's is only a backstop, far longer.
        self._arq = ArqRunner(redis, config.longest_answer + 3600)
        self._redis = redis
        self._seal = seal
        self._blobs = blobs
        self._config = config
        self._attempts: dict[tuple[str, int], Attempt] = {}
        self._wake = asyncio.Event()
        self._draining = False
        # Commands for attempts whose claim has not been received yet.
        self._overtaken: list[Command] = []

    async def main(self) -> None:
        """Work until `drain` is called, then settle the attempts that still run."""
        heartbeat = self._config.queue.heartbeat
        upkeep = background(
            self.leases.keep(),
            self._listen(),
            keep_reaping(self._upkeep, self._channel, self._seal, heartbeat),
            keep_reconciling(self._upkeep, heartbeat),
            keep_version(self._upkeep, heartbeat),
            keep_recording(self._history, self._upkeep.snapshot),
            *(one.keep_offering(self.line, heartbeat) for one in self._upstreams.values()),
        )
        shown = showing(self.line.processes, self.id, "worker", self._add_work, heartbeat)
        async with self.outbox.running(), shown, upkeep:
            # Before there are answers: loading stops the event loop for a quarter of a second.
            await asyncio.to_thread(encoding)
            slots = {"worker": self.id, "max_jobs": self._config.workers.max_jobs}
            logger.info("the worker claims jobs", extra={"event": "worker_started", **slots})
            while not self._draining:
                await self._wait_for_work()
                # An outage of Redis is logged where leases are renewed.
                with contextlib.suppress(*REDIS_ERRORS):
                    await self._claim()
            await self._drain()
        with contextlib.suppress(*REDIS_ERRORS):
            await self.line.presences.remove_worker(self.id)

    def drain(self) -> None:
        """Claim nothing more; `main` returns when all attempts are settled or their time is up."""
        self._draining = True
        self._wake.set()

    def _add_work(self, figures: ProcessFigures) -> ProcessFigures:
        return replace(
            figures,
            jobs=len(self._attempts),
            max_jobs=self._config.workers.max_jobs,
            upstreams=tuple(self._upstreams),
            draining=self._draining,
        )

    async def _wait_for_work(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL):
                await self._wake.wait()
        self._wake.clear()

    async def _claim(self) -> None:
        limit, names = self._config.workers.max_jobs, list(self._upstreams)
        held = Counter(attempt.claim.upstream for attempt in self._attempts.values())
        if all(held[name] >= limit for name in names):
            return
        self._overtaken.clear()
        asked = time.monotonic()
        for claim in await self.line.claim(self.id, limit, names, RECORD, held):
            logger.debug("a job is claimed", extra={"event": "job_claimed", "job": claim.id})
            attempt = self._attempts[claim.id, claim.attempt] = Attempt(claim)
            self.leases.add(attempt, asked)
            run = self._run(attempt, self.tasks.get(claim.id))
            self.tasks[claim.id] = asyncio.create_task(run)
        overtaken, self._overtaken = self._overtaken, []
        for command in overtaken:
            self._obey(command)

    async def _listen(self) -> None:
        own = keys.worker(self.id)
        subscription = Subscription(self._redis, own, self.line.nudge_channel)
        async for message in subscription.messages():
            if message is not None and message[0] == own:
                self._receive(message[1])
            else:
                self._wake.set()

    def _receive(self, message: bytes) -> None:
        """Obey a command from our own channel."""
        try:
            command = decode_command(message)
        except msgspec.MsgspecError as error:
            logger.error(
                "a command to this worker cannot be read",
                extra={"event": "unknown_command", "worker": self.id, "error": str(error)},
            )
        else:
            self._obey(command)

    def _obey(self, command: Command) -> None:
        if isinstance(command, Drain):
            logger.info("an operator drains this worker", extra={"event": "drained_by_operator"})
            self.drain()
            return
        attempt = self._attempts.get((command.job, command.attempt))
        if attempt is None:
            self._overtaken.append(command)
            return
        match command:
            case Cancel(revoked=True):
                attempt.stop("revoked")
            case Cancel(by_operator=True):
                attempt.stop("operator")
            case Cancel():
                attempt.stop("cancel")
            case Attach(front_end=front_end):
                attempt.publication.attach(front_end)

    async def _run(self, attempt: Attempt, before: asyncio.Task[None] | None) -> None:
        """Run an attempt and settle it, after the one `before` at the same job.

        A job that this worker has lost or requeued may be claimed here again while the former
        conversation is still being closed.
        """
        job, number = attempt.claim.id, attempt.claim.attempt
        try:
            if before is not None:
                await asyncio.wait([before])
            if not await self._hold(attempt):
                await self._settlement.finish(attempt, LOST)
        except REDIS_ERRORS as error:
            # Nothing was begun: its lease expires, and it is requeued.
            logger.warning(
                "a job was not started, Redis is unavailable: %s",
                trouble(error),
                extra={"event": "job_not_started", "job": job} | address_of(error),
            )
        finally:
            attempt.span.end()
            self.leases.remove(attempt)
            del self._attempts[job, number]
            if self.tasks[job] is asyncio.current_task():
                del self.tasks[job]
            self._wake.set()

    async def _hold(self, attempt: Attempt) -> bool:
        """Hold the conversation of an attempt. False: arq did not run the job to its end.

        The conversation begins while arq reads its record of the job from Redis: a client that
        waits for its first token does not wait for that.
        """
        claim = attempt.claim
        conversation = asyncio.create_task(self._converse(attempt))
        attempt.bind(conversation)
        settle = partial(self._settle, attempt, conversation)
        try:
            return await self._arq.run_claimed(claim.id, claim.attempt, settle)
        except REDIS_ERRORS:
            if not attempt.publication.begun:
                raise
            await settle()  # the answer has begun, so it cannot be tried again
            return True
        finally:
            conversation.cancel()  # only has an effect if it was not settled
            await asyncio.wait([conversation])

    async def _settle(self, attempt: Attempt, conversation: asyncio.Task[Ending]) -> None:
        """Wait for the end of a conversation, and settle its attempt."""
        await asyncio.wait([conversation])
        await self._settlement.settle(attempt, conversation)

    async def _converse(self, attempt: Attempt) -> Ending:
        claim = attempt.claim
        request = decode_job(self._seal.open(claim.body, f"job {claim.id}"))
        attempt.key = request.key or fingerprint(request.bearer)
        attempt.blob_keys = request.blob_keys
        attempt.span = tracing.child("attempt", request.trace, "consumer", attempt.claimed)
        where = {"upstream": claim.upstream, "account": claim.account, "lane": claim.lane}
        attempt.span.note({"job": claim.id, "worker": self.id} | where)
        if request.offloaded is not None:
            if self._blobs is None:
                raise StoreError("no_store")
            request = await self._blobs.restore(request)
            attempt.blob_keys += request.blob_keys
        upstream = self._upstreams[claim.upstream]
        request = upstream.with_token(request, claim)
        attempt.token = Secret(request.bearer)
        attempt.tokens = JobTokens(request)
        with tracing.current(attempt.span):
            return await upstream.converse(
                request, attempt.publication, self.outbox, attempt.tokens
            )

    async def _drain(self) -> None:
        running = {"worker": self.id, "running": len(self.tasks)}
        logger.info("the worker claims no more jobs", extra={"event": "worker_draining", **running})
        self.leases.announce_draining()
        with contextlib.suppress(*REDIS_ERRORS):
            await self.line.presences.remove_worker(self.id)
        if self.tasks:
            await asyncio.wait(self.tasks.values(), timeout=self._config.workers.drain_timeout)
        self.leases.stop_all("drain")
        if self.tasks:
            await asyncio.wait(self.tasks.values(), timeout=self._config.redis.outage_grace)
