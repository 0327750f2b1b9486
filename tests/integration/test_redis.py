"""The Redis client that all roles use."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio.connection import AbstractConnection

from local.redis import EmbeddedRedis
from runtime.tasks import background
from settings.redis_url import redis_url
from wire.redis.client import SHORT, Redis, connect
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


@pytest.mark.parametrize("flaw", ["unread reply", "closed by Redis"])
async def test_a_connection_that_cannot_serve_is_replaced_before_the_next_command(
    redis: Redis, redis_server: EmbeddedRedis, flaw: str
) -> None:
    await redis.set("key", "value")
    pool: Any = redis.connection_pool
    connection = await pool.get_connection()
    reader: asyncio.StreamReader = connection._reader
    if flaw == "unread reply":
        await connection.send_command("ECHO", "late")
    else:
        other = connect(redis_url(redis_server.url))
        await other.client_kill_filter(_type="normal", skipme=True)
        await other.aclose()
    async with asyncio.timeout(30):
        while not (reader.at_eof() or reader._buffer):  # type: ignore[attr-defined]
            await asyncio.sleep(0.001)
    await pool.release(connection)
    assert await redis.get("key") == b"value"
    assert connection._reader is not reader


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


@pytest.mark.parametrize(
    "moment", ["writelines", "send_packed_command", "read_response", "disconnect"]
)
async def test_a_transport_that_has_just_closed_counts_as_redis_unreachable(
    redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """uvloop raises RuntimeError then, and a front end's loop ended with it."""
    client = connect(redis_url(redis_server.url))
    await client.set("key", "value")

    def closed_now(*_: object) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport>; the handler is closed")

    async def closed(*_: object, **__: object) -> None:
        closed_now()

    with monkeypatch.context() as patched:
        if moment == "writelines":
            patched.setattr(asyncio.StreamWriter, moment, closed_now)
        else:
            patched.setattr(AbstractConnection, moment, closed)
        if moment == "disconnect":
            await client.connection_pool.disconnect()
        elif moment == "send_packed_command":
            with pytest.raises(REDIS_ERRORS):
                await client.set("long", b"x" * SHORT)
        else:
            with pytest.raises(REDIS_ERRORS):
                await client.get("key")
    assert await client.get("key") == b"value"
    await client.aclose()
