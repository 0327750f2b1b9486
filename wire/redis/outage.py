"""Outages of Redis: the errors that mean one, tolerance of it, and repeating a call until it ends.

A process outlives every outage. What it does meanwhile is one of three things: it goes on without
(`Outage.tolerated`, or `suppress(*REDIS_ERRORS)` where the outage is logged elsewhere), it repeats
the call (`retry`), or it fails the request at hand.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, TypeVar

from redis.exceptions import BusyLoadingError, ConnectionError, RedisError

from wire.redis.trouble import address_of, trouble

_Result = TypeVar("_Result")

REDIS_ERRORS = (RedisError, OSError)
"""Errors that a client raises while Redis cannot serve: it is unreachable, restarting, failing
over, full, read-only, or refuses our password. It may well serve later, so no process ends because
of one; `OSError` covers our own time-outs around commands."""

RETRY_PAUSE = 0.2
"""Seconds between two tries of a repeated call."""


class Outage:
    """Something a process cannot do while Redis is unreachable.

    Logs the first failure and the recovery, and nothing in between: a line for each failed call
    would bury all others. `task` completes the sentence "cannot ...", as in "renew leases".
    """

    def __init__(self, logger: logging.Logger, task: str) -> None:
        self._logger = logger
        self._task = task
        self.since: float | None = None
        """Monotonic time of the first failure; None while Redis serves."""
        self.reason = ""
        """Description of the latest error; "" while Redis serves."""
        self.is_for_everyone = False
        """True if, judging by the latest error, no other process can reach Redis either."""

    def tolerated(self) -> Self:
        """Context that suppresses `REDIS_ERRORS`; leaving it without one ends the outage."""
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if error is None:
            self.end()
        elif isinstance(error, REDIS_ERRORS):
            self._fail(error)
            return True
        return False

    def _fail(self, error: BaseException) -> None:
        self.reason = trouble(error)
        self.is_for_everyone = is_down_for_everyone(error)
        if self.since is None:
            self.since = time.monotonic()
            self._logger.warning(
                "Redis is unavailable (%s): cannot %s",
                self.reason,
                self._task,
                extra={"event": "redis_unreachable"} | address_of(error),
            )

    def lasts(self, seconds: float) -> bool:
        """Return True if Redis has not served for that time."""
        return self.since is not None and time.monotonic() - self.since > seconds

    def end(self) -> None:
        """Note that Redis serves; does nothing if it did before."""
        if self.since is not None:
            self._logger.info(
                "Redis is available again: can %s",
                self._task,
                extra={"event": "redis_recovered", "after": round(time.monotonic() - self.since)},
            )
        self.since, self.reason, self.is_for_everyone = None, "", False


async def retry(call: Callable[[], Awaitable[_Result]], within: float | None = None) -> _Result:
    """Repeat a call until Redis serves it.

    Raises:
        TimeoutError: Redis has not served it `within` seconds; by default it is repeated forever.
    """
    async with asyncio.timeout(within):
        while True:
            try:
                return await call()
            except REDIS_ERRORS:
                await asyncio.sleep(RETRY_PAUSE)


def is_down_for_everyone(error: BaseException) -> bool:
    """True if no process can be talking to Redis, as far as this process can tell.

    A refused connection means that its host is up and no server listens; a server that is loading
    has only just started. A time-out proves nothing: only this process may be cut off. Nor does a
    master that may have been replaced: `wire/redis/sentinel.py` passes its refusal on only while
    it cannot have been.
    """
    if isinstance(error, BusyLoadingError):
        return True
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError):
            return True
        cause = cause.__cause__ or cause.__context__
    # redis-py keeps only the message of asyncio's error.
    return isinstance(error, ConnectionError) and "refused" in str(error).lower()
