"""The worker: arq's, with the line's own claiming, leases and endings.

arq runs the jobs (its record of a job, its function table, its tasks). What differs: jobs are
claimed in one script together with their lease, so no running job stays in the waiting set; the
loop is woken by pub/sub and polls only as a safety net; it outlives a Redis that is away; and every
job that is claimed here gets its one ending here, or goes back to its place, on every path
(`workers/settlement.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Any, get_args

import msgspec
from arq.connections import ArqRedis
from arq.worker import Worker as ArqWorker
from arq.worker import func

from runtime.tasks import background
from settings import Settings
from store.blobs import Blobs
from store.media import MediaError
from wire.events import Ending, Failed
from wire.jobs import Lane, decode_job
from wire.line import keys
from wire.line.commands import Attach, Cancel, Command, decode_command
from wire.line.scripts import Scripts
from wire.line.upkeep import UpkeepLine
from wire.line.worker import WorkerLine
from wire.redis.outage import REDIS_ERRORS
from wire.redis.subscription import Subscription
from wire.seal import Seal
from wire.stream.outbox import Outbox
from wire.upkeep.reaper import keep_reaping
from wire.upkeep.reconciler import keep_reconciling
from workers import chat
from workers.attempt import Attempt
from workers.leases import Leases
from workers.settlement import Settlement
from workers.upstream import Upstream

logger = logging.getLogger(__name__)

LOST = Failed("gateway_error", "Redis has lost the request.", code="job_lost")


async def _hold(ctx: dict[str, Any]) -> None:
    """arq's function for each lane: the rest came with the claim. See `Worker._run` for `score`."""
    worker: Worker = ctx["worker"]
    await worker.hold(ctx["job_id"], ctx["score"])


class Worker(ArqWorker):
    """Holds up to `workers.max_jobs` conversations. `id` names it in Redis.

    What a job has among the `blobs` is removed with its ending.
    """

    def __init__(
        self,
        id: str,
        redis: ArqRedis,
        seal: Seal,
        upstream: Upstream,
        config: Settings,
        blobs: Blobs | None = None,
    ) -> None:
        super().__init__(
            [func(_hold, name=lane) for lane in get_args(Lane)],
            redis_pool=redis,
            handle_signals=False,
            max_jobs=config.workers.max_jobs,
            # Our own deadlines end a job; arq's is a net far below them.
            job_timeout=config.upstream.max_duration + 3600,
            max_tries=2**31,  # the line counts attempts; arq would end a job without a word
            retry_jobs=False,
            keep_result=0,
            log_results=False,
            job_serializer=msgspec.msgpack.Encoder(enc_hook=repr).encode,
            job_deserializer=msgspec.msgpack.decode,
        )
        self.ctx["worker"] = self
        self.id = id
        scripts = Scripts(redis, seal.fingerprint)
        self.line = WorkerLine(scripts, config.queue, config.upstream)
        self._upkeep = UpkeepLine(scripts, config.queue, config.upstream)
        self.outbox = Outbox(redis, self.line, seal, config.queue.max_log_bytes)
        self.leases = Leases(self.line, seal, id, config.workers.max_jobs, config.queue)
        self._settlement = Settlement(self.line, self.outbox, seal, blobs, config)
        self._seal = seal
        self._upstream = upstream
        self._blobs = blobs
        self._config = config
        self._attempts: dict[tuple[str, int], Attempt] = {}
        self._wake = asyncio.Event()
        self._draining = False
        # Commands for attempts whose claim has not been received yet.
        self._overtaken: list[Command] = []

    async def main(self) -> None:
        """Work until `drain` is called, and finish what is held then."""
        reaping = keep_reaping(self._upkeep, self._seal, self._config.queue.heartbeat)
        reconciling = keep_reconciling(self._upkeep, self._config.queue.heartbeat)
        beside = background(self.leases.keep(), self._listen(), reaping, reconciling)
        async with self.outbox.running(), beside:
            logger.info("worker %s takes up to %d jobs", self.id, self.max_jobs)
            while not self._draining:
                await self._wait_for_work()
                # That Redis is away is said where leases are renewed.
                with contextlib.suppress(*REDIS_ERRORS):
                    await self._poll_iteration()
            await self._drain()
        with contextlib.suppress(*REDIS_ERRORS):
            await self.line.presences.remove_worker(self.id)

    def drain(self) -> None:
        """Take no more jobs and end `main` when those held are done, or their time is up."""
        self._draining = True
        self._wake.set()

    async def _wait_for_work(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.poll_delay_s):
                await self._wake.wait()
        self._wake.clear()

    async def _poll_iteration(self) -> None:
        want = self.max_jobs - len(self.tasks)
        if want <= 0:
            return
        self._overtaken.clear()
        asked = time.monotonic()
        for claim in await self.line.claim(self.id, want):
            attempt = self._attempts[claim.id, claim.attempt] = Attempt(claim)
            self.leases.hold(attempt, asked)
            run = self._run(attempt, self.tasks.get(claim.id))
            self.tasks[claim.id] = asyncio.create_task(run)
        overtaken, self._overtaken = self._overtaken, []
        for command in overtaken:
            self._obey(command)

    async def _listen(self) -> None:
        own = keys.worker(self.id)
        subscription = Subscription(self.pool, own, self.line.nudge_channel)
        async for message in subscription.messages():
            if message is not None and message[0] == own:
                self._receive(message[1])
            else:
                self._wake.set()

    def _receive(self, message: bytes) -> None:
        """Obey a message on our own channel."""
        try:
            command = decode_command(message)
        except msgspec.MsgspecError as error:
            logger.error(
                "A command to this worker cannot be read.",
                extra={"event": "unknown_command", "worker": self.id, "error": str(error)},
            )
        else:
            self._obey(command)

    def _obey(self, command: Command) -> None:
        attempt = self._attempts.get((command.job, command.attempt))
        if attempt is None:
            self._overtaken.append(command)
            return
        match command:
            case Cancel():
                attempt.stop("cancel")
            case Attach(front_end=front_end):
                attempt.answer.attach(front_end)

    # One attempt, from its claim to its ending.

    async def _run(self, attempt: Attempt, before: asyncio.Task[None] | None) -> None:
        """Run an attempt, when the one `before` is over: we may get a job again that we have lost,
        or given back, while its former conversation is still being closed."""
        job, number = attempt.claim.id, attempt.claim.attempt
        try:
            if before is not None:
                await asyncio.wait([before])
            await self.run_job(job, number)  # arq passes it on as the score, and only logs it
            if not attempt.settled:  # arq ended it without calling our function
                await self._settlement.end(attempt, LOST)
        except REDIS_ERRORS as error:
            # Not begun: its lease runs out, and it goes back to its place.
            logger.warning("job %s not started, Redis is away: %s", job, type(error).__name__)
        finally:
            self.leases.drop(attempt)
            del self._attempts[job, number]
            if self.tasks[job] is asyncio.current_task():
                del self.tasks[job]
            self._wake.set()

    async def hold(self, job: str, number: int) -> None:
        """Hold the conversation of an attempt at a claimed job and give it its ending."""
        attempt = self._attempts[job, number]
        conversation = asyncio.create_task(self._converse(attempt))
        attempt.converse(conversation)
        try:
            await asyncio.wait([conversation])
        finally:
            conversation.cancel()  # only if we are torn down ourselves
        await self._settlement.settle(attempt, conversation)
        attempt.settled = True

    async def _converse(self, attempt: Attempt) -> Ending:
        claim = attempt.claim
        request = decode_job(self._seal.open(claim.body, f"job {claim.id}"))
        attempt.held = request.blob_keys
        if request.offloaded is not None:
            if self._blobs is None:
                raise MediaError("no_store")
            request = await self._blobs.restore(request)
            attempt.held += request.blob_keys
        return await chat.converse(
            request, attempt.answer, self._upstream, self.outbox, self._config.upstream
        )

    async def _drain(self) -> None:
        logger.info("worker %s stops, %d jobs are held", self.id, len(self.tasks))
        self.leases.take_no_more()
        with contextlib.suppress(*REDIS_ERRORS):
            await self.line.presences.remove_worker(self.id)
        if self.tasks:
            await asyncio.wait(self.tasks.values(), timeout=self._config.workers.drain_timeout)
        self.leases.stop_all("drain")
        if self.tasks:
            await asyncio.wait(self.tasks.values(), timeout=self._config.redis.outage_grace)

    # arq's own bookkeeping, which the line has done in the scripts that ended the job.

    async def finish_job(self, *args: object, **kwargs: object) -> None:
        """Nothing to do: the ending's script has removed what arq keeps of a job."""

    async def finish_failed_job(self, *args: object, **kwargs: object) -> None:
        """As above; `_run` sees that the job has no ending yet and gives it one."""
