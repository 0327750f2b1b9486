"""The Redis client that all roles use."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio.connection import AbstractConnection

from local.redis import EmbeddedRedis
from runtime.tasks import background
from settings.redis_url import redis_url
from wire.redis.client import Redis, connect
from wire.redis.outage import REDIS_ERRORS, is_down_for_everyone


async def test_a_cancellation_in_the_middle_of_a_command_is_never_lost(redis: Redis) -> None:
    """redis-py checks its socket under `asyncio.timeout(0)` before every command; a cancellation
    at that time was taken for the timeout, and a loop went on forever."""

    async def forever() -> None:
        while True:
            await redis.get("key")

    for turns in range(200):
        task = asyncio.create_task(forever())
        for _ in range(turns % 40):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=30)
        assert done, f"lost after {turns % 40} turns of the loop"


async def test_a_loop_in_the_background_ends_with_its_context(redis: Redis) -> None:
    async def forever() -> None:
        while True:
            async with redis.pipeline() as pipe:
                pipe.get("key")
                await pipe.execute()

    before = asyncio.all_tasks()
    for turns in range(60):
        async with asyncio.timeout(30), background(forever()):
            for _ in range(turns):
                await asyncio.sleep(0)
        assert asyncio.all_tasks() == before


async def test_a_refused_connection_is_down_for_everyone_and_a_timeout_is_not() -> None:
    nobody = connect(redis_url("redis://127.0.0.1:1/0"))
    with pytest.raises(REDIS_ERRORS) as refused:
        await nobody.ping()
    assert is_down_for_everyone(refused.value)
    assert not is_down_for_everyone(TimeoutError())
    await nobody.aclose()


@pytest.mark.parametrize("moment", ["send_packed_command", "read_response", "disconnect"])
async def test_a_transport_that_has_just_closed_counts_as_redis_unreachable(
    redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """uvloop raises RuntimeError then, and a front end's loop ended with it."""
    client = connect(redis_url(redis_server.url))
    await client.set("key", "value")

    async def closed(*_: object, **__: object) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport>; the handler is closed")

    with monkeypatch.context() as patched:
        patched.setattr(AbstractConnection, moment, closed)
        if moment == "disconnect":
            await client.connection_pool.disconnect()
        else:
            with pytest.raises(REDIS_ERRORS):
                await client.get("key")
    assert await client.get("key") == b"value"
    await client.aclose()
