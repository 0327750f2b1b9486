"""All views of the line in one object, for benchmarks and tests that play every role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import settings
from wire.line import keys
from wire.line.claims import Claim
from wire.line.front_end import FrontEndLine
from wire.line.offers import Offer
from wire.line.scripts import Scripts
from wire.line.upkeep import UpkeepLine
from wire.line.worker import WorkerLine
from wire.redis.client import Redis
from wire.seal import Seal

CLOCK_KEY = "test:clock"

STOPPED_CLOCK = f"""
local at = tonumber(redis.call('GET', '{CLOCK_KEY}'))
return {{now = math.floor(at / 1000), micros = at % 1000000}}
"""


class WholeLine(FrontEndLine, WorkerLine, UpkeepLine):
    """All three views of one line. A stopped clock shows the time of `set_clock`."""

    def __init__(
        self,
        redis: Redis,
        seal: Seal,
        config: settings.Queue,
        upstream: settings.Upstream | None = None,
        *,
        stopped_clock: bool = False,
    ) -> None:
        self.redis = redis
        self.scripts = Scripts(
            redis, seal.fingerprint, {"clock": STOPPED_CLOCK} if stopped_clock else {}
        )
        super().__init__(self.scripts, config)
        self._upstream = upstream or settings.Upstream()

    async def offer_main(self) -> None:
        """Describe the upstream of all benchmarks, where each key has an account of its own."""
        await self.offer(
            Offer(
                upstream="main",
                max_concurrency=self._upstream.max_concurrency,
                accounts={},
                lanes=["chat", "images"],
                about=b"",
                circuit_failures=self._upstream.circuit_failures,
            )
        )

    @property
    def settling(self) -> int:
        """Time (ms) after a disturbance in which nothing is claimed."""
        return self._gap

    def queue_key(self, lane: str) -> str:
        """The lane's sorted set of jobs that may be claimed."""
        return keys.queue(lane, self.scripts.fingerprint)

    async def claim(
        self,
        worker: str,
        limit: int,
        upstreams: Sequence[str] = ("main",),
        record: bytes = b"",
        held: Mapping[str, int] = MappingProxyType({}),
    ) -> list[Claim]:
        """Claim from the upstream of all benchmarks."""
        return await super().claim(worker, limit, upstreams, record, held)

    async def set_clock(self, now: float) -> None:
        """Set a stopped clock to a time in seconds."""
        await self.redis.set(CLOCK_KEY, round(now * 1e6))
