"""The Redis client of every role, and its connections."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import redis.asyncio
from redis.asyncio.connection import AbstractConnection, BlockingConnectionPool, SSLConnection
from redis.exceptions import ConnectionError, RedisError, TimeoutError

from settings.redis_url import RedisUrl, SentinelUrl
from wire.redis.sentinel import MasterPool
from wire.redis.trouble import NoTlsAnswerError, note_address

TIMEOUT = 5.0
"""Seconds that a command may take."""

SHORT = 64 * 1024
"""Bytes of a command that is written without waiting for the server."""


class SteadyConnection(AbstractConnection):
    """Raises the errors that say what is wrong.

    uvloop considers a write to a transport that the server has just closed a bug of its caller. No
    handler of redis-py, nor any of ours, takes a RuntimeError for a connection error; a front end
    stopped because of one. And redis-py does not say that a time-out was one of TLS.

    It also saves turns of the event loop: redis-py looks for unread bytes by waiting for them,
    under a timeout of zero, and writes each command in a task of its own.
    """

    async def connect(self) -> None:
        """See `redis.asyncio.Connection`."""
        try:
            await super().connect()  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            note_address(error, self._address)
            if isinstance(error, TimeoutError) and isinstance(self, SSLConnection):
                raise NoTlsAnswerError(str(error)) from error
            raise

    @property
    def _address(self) -> str:
        """The address and the database, or the socket; without user and password."""
        pieces = dict(self.repr_pieces())  # type: ignore[no-untyped-call]
        if "path" in pieces:
            return str(pieces["path"])
        host = f"[{pieces['host']}]" if ":" in pieces["host"] else pieces["host"]
        return f"{host}:{pieces['port']}/{self.db}"

    async def can_read_destructive(self) -> bool:
        """Tell if something is left unread, which would be taken for the next reply."""
        reader = self._reader
        if reader is None or reader.at_eof() or reader.exception():
            raise ConnectionError("The connection was closed by the server.")
        # No public call shows either of these.
        return bool(reader._buffer) or self._parser._reader.has_data()  # type: ignore[attr-defined]

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """See `redis.asyncio.Connection`. A short write to an empty buffer cannot block."""
        packed = [command] if isinstance(command, bytes) else command
        try:
            if sum(map(len, packed)) <= SHORT and self._is_free():
                if check_health:
                    await self.check_health()  # type: ignore[no-untyped-call]
                self._writer.writelines(packed)  # type: ignore[union-attr]
            else:
                await super().send_packed_command(packed, check_health)
        except RuntimeError as error:
            raise ConnectionError(str(error)) from error

    def _is_free(self) -> bool:
        """Tell if all that was written before has been sent."""
        return self._writer is not None and not self._writer.transport.get_write_buffer_size()

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """See `redis.asyncio.Connection`."""
        try:
            return await super().read_response(*args, **options)
        except RuntimeError as error:
            raise ConnectionError(str(error)) from error
        except (RedisError, OSError) as error:
            note_address(error, self._address)
            raise

    async def disconnect(self, nowait: bool = False) -> None:
        """See `redis.asyncio.Connection`."""
        with contextlib.suppress(RuntimeError):
            await super().disconnect(nowait)


class Redis(redis.asyncio.Redis):
    """A client whose commands can be cancelled safely.

    redis-py closes the connection of a command that is cancelled, since its reply would be taken
    for that of the next one, and Python can take a cancellation for the end of a timeout: then it
    is lost, and a caller that waits for the task to end waits forever. So each command runs in a
    task of its own, which goes on when its caller is cancelled.
    """

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """See `redis.asyncio.Redis`."""
        command = asyncio.ensure_future(
            super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        )
        # Without this asyncio logs the failure of a command whose caller was cancelled.
        command.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(command)


def connect(url: RedisUrl, connections: int = 50) -> Redis:
    """A client with at most `connections` sockets; it connects at first use and reconnects itself.

    A URL with Sentinels gives a client that follows the master (see `wire/redis/sentinel.py`).
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
    # The class that the URL asks for (TCP, TLS, a Unix socket, a master) comes first: a connection
    # to a master checks that there is no other one before anything is written.
    pool.connection_class = type("Connection", (pool.connection_class, SteadyConnection), {})
    client = Redis(connection_pool=pool)
    client.auto_close_connection_pool = True
    return client
