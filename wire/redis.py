"""Connections to Redis: how a URL becomes a client, and what counts as Redis being away."""

from __future__ import annotations

from arq.connections import ArqRedis
from redis.asyncio.connection import BlockingConnectionPool
from redis.exceptions import (
    BusyLoadingError,
    ConnectionError,
    ReadOnlyError,
    RedisError,
    TimeoutError,
)

TIMEOUT = 5.0
"""Seconds that any one command may take."""

AWAY = (ConnectionError, TimeoutError, BusyLoadingError, ReadOnlyError, OSError)
"""What a client raises while Redis is away, restarting or failing over: try again later."""

__all__ = ["AWAY", "TIMEOUT", "RedisError", "connect", "is_down_for_everyone"]


def connect(url: str, connections: int = 50) -> ArqRedis:
    """A client with at most `connections` sockets; it connects at first use and reconnects itself.

    arq's own `create_pool` is not used: it tries five times and gives up, and it drops options.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=TIMEOUT,
        socket_timeout=TIMEOUT,
        socket_connect_timeout=TIMEOUT,
    )
    client = ArqRedis(pool)
    client.auto_close_connection_pool = True  # the pool is nobody else's
    return client


def is_down_for_everyone(error: BaseException) -> bool:
    """Whether nobody can be talking to Redis, as far as this process can tell.

    A refused connection means that its host is there and no server listens; a server that says it
    is loading has only just begun. A time-out tells nothing: we alone may be cut off.
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
