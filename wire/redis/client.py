"""Connections to Redis: how a URL becomes a client, and what counts as Redis being away."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from arq.connections import ArqRedis
from redis.asyncio.connection import AbstractConnection, BlockingConnectionPool
from redis.exceptions import BusyLoadingError, ConnectionError, OutOfMemoryError, RedisError

from settings.redis_url import RedisUrl, SentinelUrl
from wire.redis.sentinel import MasterPool

TIMEOUT = 5.0
"""Seconds that any one command may take."""

AWAY = (RedisError, OSError)
"""What a client raises while Redis cannot serve: it is away, restarting, failing over, full, read
only, or refuses our password. It may well serve later, so nobody dies of it; `OSError` covers our
own time-outs around commands."""

__all__ = ["AWAY", "TIMEOUT", "Client", "RedisError", "connect", "is_down_for_everyone", "trouble"]


class SteadyConnection(AbstractConnection):
    """What uvloop calls its caller's bug, told as what it is: the server closed the connection.

    A transport that has just been closed raises RuntimeError, which no handler of redis-py, nor any
    of ours, takes for a connection error; a front end stopped because of one.
    """

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """See `redis.asyncio.Connection`."""
        try:
            await super().send_packed_command(command, check_health)
        except RuntimeError as error:
            raise ConnectionError(str(error)) from error

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """See `redis.asyncio.Connection`."""
        try:
            return await super().read_response(*args, **options)
        except RuntimeError as error:
            raise ConnectionError(str(error)) from error

    async def disconnect(self, nowait: bool = False) -> None:
        """See `redis.asyncio.Connection`."""
        with contextlib.suppress(RuntimeError):
            await super().disconnect(nowait)


class Client(ArqRedis):
    """arq's client, whose commands can be cancelled safely.

    redis-py looks at its socket under `asyncio.timeout(0)` before it sends a command, and Python
    takes a cancellation that comes at that moment for the time-out: it is lost, and whoever waits
    for the task to end waits for ever. So a command runs in a task of its own, which is left alone
    when its caller is cancelled; its connection also stays usable that way.
    """

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """See `redis.asyncio.Redis`."""
        command = asyncio.ensure_future(
            super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        )
        # Should nobody wait for it any more, its failure is nobody's business either.
        command.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(command)


def connect(url: RedisUrl, connections: int = 50) -> Client:
    """A client with at most `connections` sockets; it connects at first use and reconnects itself.

    arq's own `create_pool` is not used: it tries five times and gives up, and it drops options. A
    URL with Sentinels gives a client that follows the master (see `wire/redis/sentinel.py`).
    """
    options: dict[str, Any] = {
        "max_connections": connections,
        "timeout": TIMEOUT,
        "socket_timeout": TIMEOUT,
        "socket_connect_timeout": TIMEOUT,
    }
    pool: BlockingConnectionPool
    if isinstance(url, SentinelUrl):
        pool = MasterPool(url, **options)
    else:
        pool = BlockingConnectionPool.from_url(url.text, **options)
    # Of whatever class the URL asks for: TCP, TLS, a Unix socket, a master.
    pool.connection_class = type("Connection", (SteadyConnection, pool.connection_class), {})
    client = Client(pool)
    client.auto_close_connection_pool = True  # the pool is nobody else's
    return client


def is_down_for_everyone(error: BaseException) -> bool:
    """Whether nobody can be talking to Redis, as far as this process can tell.

    A refused connection means that its host is there and no server listens; a server that says it
    is loading has only just begun. A time-out tells nothing: we alone may be cut off. Nor does a
    master that may have been replaced: `wire/redis/sentinel.py` lets its refusal through only while
    it cannot have been.
    """
    if isinstance(error, BusyLoadingError):
        return True
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError):
            return True
        cause = cause.__cause__ or cause.__context__
    # redis-py keeps only the sentence of what asyncio raised.
    return isinstance(error, ConnectionError) and "refused" in str(error).lower()


def trouble(error: BaseException) -> str:
    """What is wrong with Redis, for people: the kind of error, as its text may quote what we sent.

    A full Redis is named as docs/operating.md names it; from a script it is one ResponseError of
    many.
    """
    if isinstance(error, OutOfMemoryError) or "OOM command not allowed" in str(error):
        return "OOM command not allowed"
    return type(error).__name__
