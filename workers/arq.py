"""arq, which runs the jobs that a worker has claimed. No other module knows it.

The line claims, counts, requeues and finishes jobs in scripts of its own, so of arq's worker only
the running of one job is used: its record in Redis, its function and its task.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from arq.connections import ArqRedis
from arq.jobs import serialize_job
from arq.worker import Worker, func

from wire.redis.client import Redis

Call = Callable[[], Awaitable[None]]

_FUNCTION = "attempt"

RECORD = serialize_job(_FUNCTION, (), {}, None, 0, serializer=msgspec.msgpack.encode)
"""arq's record of a job, the same for each. The claim stores it, and arq reads it at once."""


class ArqRunner(Worker):
    """Runs claimed jobs over the connections of `redis`, each for `timeout` seconds at most."""

    def __init__(self, redis: Redis, timeout: float) -> None:
        super().__init__(
            [func(self._call, name=_FUNCTION)],
            redis_pool=ArqRedis(redis.connection_pool),
            handle_signals=False,
            job_timeout=timeout,
            max_tries=2**31,  # the line counts attempts; arq would end a job without an ending
            retry_jobs=False,
            keep_result=0,
            log_results=False,
            job_serializer=msgspec.msgpack.Encoder(enc_hook=repr).encode,
            job_deserializer=msgspec.msgpack.decode,
        )
        self._calls: dict[str, Call] = {}

    async def run_claimed(
        self, job: str, attempt: int, call: Callable[[], Awaitable[None]]
    ) -> bool:
        """Run `call` as this job, of which no other attempt may run here at the same time.

        False: arq did not call it, or it did not return.

        Raises:
            redis.RedisError: Redis is unreachable; `call` was not called.
        """
        returned = False

        async def run() -> None:
            nonlocal returned
            await call()
            returned = True

        self._calls[job] = run
        try:
            await self.run_job(job, attempt)  # arq only logs the number: it is the claim's time
        finally:
            del self._calls[job]
        return returned

    async def _call(self, ctx: dict[str, Any]) -> None:
        await self._calls[ctx["job_id"]]()

    async def finish_job(self, *args: object, **kwargs: object) -> None:
        """Do nothing: the script that finishes a job has removed what arq keeps of it."""

    async def finish_failed_job(self, *args: object, **kwargs: object) -> None:
        """Do nothing, as above; `run_claimed` returns False."""
