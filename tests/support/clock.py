"""A clock for the scripts in Redis that stands still until the test moves it."""

from __future__ import annotations

import pytest

from benchmarks.line import CLOCK_KEY, STOPPED_CLOCK
from wire.line.scripts import modules
from wire.redis.client import Redis


class Clock:
    """The stopped clock of one Redis. Made by `Clock.at_redis_time`."""

    def __init__(self, redis: Redis, now: int) -> None:
        self._redis = redis
        self.now = now
        """Microseconds."""

    @classmethod
    async def at_redis_time(cls, redis: Redis) -> Clock:
        """A clock that shows the time of Redis, as do scripts that have no stopped clock."""
        seconds, micros = await redis.time()
        clock = cls(redis, seconds * 1_000_000 + micros)
        await clock.advance(0)
        return clock

    async def advance(self, seconds: float) -> None:
        """Let time pass without calls; keys that expire by then are removed."""
        self.now += round(seconds * 1e6)
        await self._redis.set(CLOCK_KEY, self.now)
        passed = round(seconds * 1000)
        for key in await self._redis.keys("*") if passed else []:
            left = await self._redis.pttl(key)
            if left > 0:
                # With no time left, Redis deletes it.
                await self._redis.pexpire(key, max(0, left - passed))


def stop_clock_of_deletions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the scripts of deletions read the stopped clock."""
    monkeypatch.setattr(
        "workers.pandora.deletions.modules",
        lambda fingerprint: modules(fingerprint) | {"clock": STOPPED_CLOCK},
    )
