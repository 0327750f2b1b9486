"""A worker that claims a job again which it has just lost, on a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest

import settings
from benchmarks.line import WholeLine
from tests.support.line import enqueue_chat
from wire.events import Done, Event, Started
from wire.jobs import ChatJob
from wire.redis.client import Redis
from wire.seal import Seal
from workers.worker import Worker

LEASE = 4.0


class SlowToClose:
    """An upstream that yields nothing for its first question, and is slow to close that
    conversation."""

    def __init__(self) -> None:
        self.claimed_again = asyncio.Event()
        self.asked = 0
        self.active = 0
        self.peak = 0

    async def answer(self, job: ChatJob) -> AsyncGenerator[Sequence[Event], None]:
        """See `workers.upstream.Upstream`."""
        self.asked += 1
        self.active += 1
        self.peak = max(self.peak, self.active)
        try:
            if self.asked == 1:
                try:
                    await asyncio.Event().wait()
                finally:
                    await self.claimed_again.wait()
            yield [Started("m")]
            await asyncio.sleep(1.25 * LEASE)
            yield [Done("stop")]
        finally:
            self.active -= 1


@pytest.fixture
def upstream() -> SlowToClose:
    return SlowToClose()


@pytest.fixture
def config() -> settings.Settings:
    return settings.Settings(queue=settings.Queue(lease=LEASE, heartbeat=0.2))


async def test_a_job_claimed_again_by_its_former_worker_has_one_conversation_and_keeps_its_lease(
    queue: WholeLine, redis: Redis, seal: Seal, worker: Worker, upstream: SlowToClose
) -> None:
    """A worker that was frozen for longer than a lease claimed its own job again while it was
    still closing the conversation; the end of that conversation then removed the lease of the
    new attempt."""
    await enqueue_chat(queue, seal, "job")
    async with asyncio.timeout(30):
        while not upstream.asked:
            await asyncio.sleep(0.02)
        first = await redis.hget("gateway:job:job", "attempt")  # type: ignore[misc]  # redis-py: sync or async
        while await redis.hget("gateway:job:job", "attempt") == first:  # type: ignore[misc]  # as above
            await redis.zadd("gateway:leases:main:chat", {"job": 1}, xx=True)
            await queue.reap()
            await asyncio.sleep(0.01)
        upstream.claimed_again.set()
        crashes = await redis.hget("gateway:job:job", "crashes")  # type: ignore[misc]  # as above
        while await redis.hget("gateway:job:job", "state") != b"done":  # type: ignore[misc]  # as above
            await queue.presences.show_front_end("front")
            await asyncio.sleep(0.05)
        while worker.tasks:  # arq still cleans up
            await asyncio.sleep(0.01)
    assert crashes == await redis.hget("gateway:job:job", "crashes")  # type: ignore[misc]  # as above
    assert upstream.asked == 2
    assert upstream.peak == 1
