"""Events that front ends count themselves: refusals that never get as far as the line.

They are added to the metrics in Redis at intervals. A front end that is killed loses those of its
last interval.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from runtime.tasks import background
from wire.line.metrics import Sample
from wire.redis.outage import REDIS_ERRORS

Add = Callable[[Mapping[Sample, int]], Awaitable[None]]


class Tally:
    """Counts until they are added, which takes one call of `add` every `interval` seconds."""

    def __init__(self, add: Add, interval: float) -> None:
        self._add = add
        self._interval = interval
        self._counts: Counter[Sample] = Counter()

    def count(self, name: str, **labels: str) -> None:
        """Count one event under the name and the labels of a metric."""
        self._counts[Sample(name, tuple(sorted(labels.items())))] += 1

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Add what is counted for as long as the context lasts, and the rest at its end."""
        async with background(self._keep_adding()):
            yield
        await self._add_all()

    async def _keep_adding(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await self._add_all()

    async def _add_all(self) -> None:
        counts, self._counts = self._counts, Counter()
        if not counts:
            return
        try:
            await self._add(counts)
        except REDIS_ERRORS:  # others report that
            self._counts += counts
