"""The jobs of a revoked key, step by step in the line."""

from __future__ import annotations

import pytest

import settings
from benchmarks.line import WholeLine
from tests.support.line import QUICK, claim, enqueue, field, finish, ids, lapse, present
from wire.keyring import identity
from wire.line.claims import Claim
from wire.line.usage import NO_TOKENS
from wire.redis.client import Redis
from wire.seal import Seal
from wire.stream.endings import KEY_REVOKED, finish_stalled
from wire.upkeep.revocation import end_jobs

ID = "0123456789abcdef"


async def state(redis: Redis, id: str) -> bytes | None:
    return await field(redis, f"gateway:job:{id}", "state")


async def running(queue: WholeLine, id: str, key: str) -> Claim:
    await enqueue(queue, id, key)
    (claimed,) = await claim(queue)
    assert claimed.id == id
    return claimed


async def test_waiting_jobs_end_wherever_they_wait_and_those_of_other_keys_do_not(
    queue: WholeLine, seal: Seal, redis: Redis
) -> None:
    key = seal.name("account", identity(ID))
    later = await running(queue, "later", key)
    assert await queue.retry(later, 60.0, 60.0, 5) == "requeued"
    for id in ("has-a-seat", "in-line"):
        await enqueue(queue, id, key)
    await enqueue(queue, "of-another", "other")
    # All are counted, also those that ended now, since some may have been running meanwhile.
    assert await end_jobs(queue, seal, ID, ends_running=False) == 3
    for id in ("later", "has-a-seat", "in-line"):
        assert await state(redis, id) == b"failed"
    assert ids(await claim(queue)) == ["of-another"]
    assert await end_jobs(queue, seal, ID, ends_running=False) == 0


async def test_a_running_job_is_left_alone_until_it_waits_again(
    queue: WholeLine, seal: Seal, redis: Redis
) -> None:
    runs = await running(queue, "runs", seal.name("account", identity(ID)))
    assert await end_jobs(queue, seal, ID, ends_running=False) == 1
    assert await present(queue, runs) == []
    assert await queue.requeue(runs) == "requeued"
    assert await end_jobs(queue, seal, ID, ends_running=False) == 1
    assert await state(redis, "runs") == b"failed"
    assert await end_jobs(queue, seal, ID, ends_running=False) == 0


async def test_a_running_job_that_has_to_end_is_ended_by_its_worker(
    queue: WholeLine, seal: Seal
) -> None:
    runs = await running(queue, "runs", seal.name("account", identity(ID)))
    for _ in "12":
        assert await end_jobs(queue, seal, ID, ends_running=True) == 1
        assert await present(queue, runs) == ["revoked"]
    assert await queue.requeue(runs) == "revoked"
    assert await finish(queue, runs)
    assert await end_jobs(queue, seal, ID, ends_running=True) == 0


@pytest.mark.parametrize("config", [settings.Settings(queue=QUICK)])
async def test_a_job_that_has_to_end_ends_even_if_its_worker_dies_first(
    queue: WholeLine, seal: Seal, redis: Redis
) -> None:
    runs = await running(queue, "runs", seal.name("account", identity(ID)))
    await end_jobs(queue, seal, ID, ends_running=True)
    requeued, (stalled,) = await lapse(queue)
    assert (requeued, stalled.id, stalled.cancelled) == (0, runs.id, "revoked")
    assert await finish_stalled(queue, seal, stalled, KEY_REVOKED, NO_TOKENS)
    assert await state(redis, "runs") == b"failed"
    reasons = await redis.hkeys("gateway:metrics")  # type: ignore[misc]  # redis-py: sync or async
    assert b'gateway_endings_total{lane="chat",reason="key_revoked"}' in reasons
