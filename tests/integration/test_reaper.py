"""Failures of jobs whose own process is gone: each leaves a line in the log."""

from __future__ import annotations

import asyncio

import pytest

import settings
from benchmarks.line import WholeLine
from tests.support.line import QUICK, claim, enqueue, enqueue_chat, field
from wire.events import Delta, Started
from wire.jobs import fingerprint
from wire.redis.client import Redis
from wire.seal import Seal
from wire.stream.channel import RedisChannel
from wire.stream.outbox import Outbox
from wire.stream.publication import Publication
from wire.upkeep import reaper

NUMBERS = ["requests", "ended:worker_lost", "input_tokens", "output_tokens", "units"]


@pytest.fixture
def config() -> settings.Settings:
    return settings.Settings(queue=QUICK)


async def failure(queue: WholeLine, seal: Seal, caplog: pytest.LogCaptureFixture) -> list[object]:
    """Reap until a failure is logged; return its job, key and reason."""
    async with asyncio.timeout(30):
        while not (found := [r for r in caplog.records if hasattr(r, "reason")]):
            await reaper.reap(queue, RedisChannel(queue.redis), seal)
            await queue.presences.show_front_end("front")
            await asyncio.sleep(QUICK.heartbeat)
    [record] = found
    return [vars(record)[name] for name in ("event", "job", "key", "reason")]


async def test_a_lost_workers_answer_is_logged_with_its_key(
    queue: WholeLine, redis: Redis, seal: Seal, caplog: pytest.LogCaptureFixture
) -> None:
    await enqueue_chat(queue, seal, "job")
    (claimed,) = await claim(queue)
    outbox = Outbox(RedisChannel(redis), queue, seal, settings.Queue().max_log_bytes)
    async with outbox.running():
        await outbox.publish(Publication(claimed), [Started("m"), Delta("Hello there")])
        said = await failure(queue, seal, caplog)
    assert said == ["job_failed", "job", fingerprint("bearer"), "worker_lost"]
    # The tokens are those of its log.
    [day] = await redis.keys("gateway:usage:*")
    counted = {name: await field(redis, day.decode(), f"passthrough  {name}") for name in NUMBERS}
    assert counted == dict(zip(NUMBERS, [b"1", b"1", b"3", b"2", b"14"], strict=True))


@pytest.mark.parametrize(
    ("readable", "key"), [(True, fingerprint("bearer")), (False, "unknown")], ids=["", "unreadable"]
)
async def test_a_job_that_waited_too_long_without_its_front_end_is_logged_with_its_key(
    queue: WholeLine,
    seal: Seal,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    *,
    readable: bool,
    key: str,
) -> None:
    monkeypatch.setattr(reaper, "SLACK", -3600.0)
    if readable:
        await enqueue_chat(queue, seal, "job")
    else:
        await enqueue(queue, "job")
    said = await failure(queue, seal, caplog)
    assert said == ["job_failed", "job", key, "waited_too_long"]
