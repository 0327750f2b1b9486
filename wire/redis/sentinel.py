"""Connections to the server that Sentinels name as the current master.

redis-py's own pool for Sentinels does not fit: it raises where ours waits, it keeps working
connections to a master that has been replaced, and its errors make dead Sentinels look like a dead
Redis. Here the Sentinels are asked whenever a connection is made. While connections are in use they
are also asked once a second, and as soon as they name another master no connection to the former
one is used any longer: it may be alive, and accept our writes until it is demoted.

All Sentinels are asked at once. The answers of a majority are enough, and of different answers the
one with the highest epoch is the latest.

`docs/redis.md`, "Failovers", says when the refusal of a master proves that no process uses Redis.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import weakref
from collections.abc import Iterable
from typing import Any

from redis.asyncio.connection import BlockingConnectionPool, Connection, SSLConnection
from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import BusyLoadingError, RedisError, ResponseError

from settings.redis_url import SentinelUrl
from wire.redis.trouble import MasterError, trouble

logger = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds after which the Sentinels are asked again, in case the master has changed."""

PAUSE = 0.1
"""Seconds for which an answer, or the lack of one, is shared by all callers: they may be many."""

ANSWER_TIMEOUT = 2.0
"""Seconds that the Sentinels have to answer."""

SLACK = 1.5
"""Seconds by which a Sentinel may have lost a master before its death: it asks once a second."""

_NOT_THE_MASTER = ("READONLY", "MASTERDOWN")


class Master:
    """A server that the Sentinels have named. `epoch` grows with every failover."""

    def __init__(self, host: str, port: int, epoch: int, down_after: float) -> None:
        self.address = (host, port)
        self.epoch = epoch
        self.down_after = down_after
        """Seconds after its death before the Sentinels replace it."""
        self.alive = -math.inf
        """The latest time (monotonic) at which it is known to have served."""

    def is_irreplaceable(self, now: float) -> bool:
        """True if it served so recently that the Sentinels cannot have replaced it after a death.

        Later than that, another master may serve other processes while this one refuses us.
        """
        return now < self.alive + self.down_after - SLACK


class Sentinels:
    """The Sentinels of one URL, and their latest answer."""

    def __init__(self, url: SentinelUrl) -> None:
        self._url = url
        self._asking: asyncio.Task[Master] | None = None
        self._asked = -math.inf
        self._warned = False
        self.connections: weakref.WeakSet[MasterConnection] = weakref.WeakSet()
        self.current: Master | None = None

    async def master(self) -> Master:
        """Ask for the master; callers share a query under way, or just answered.

        Raises:
            MasterNotFoundError: no Sentinel answers, or knows it.
        """
        return await asyncio.shield(self._ask())

    def look(self) -> None:
        """Ask again in the background, if the last answer is old."""
        if time.monotonic() - self._asked >= LOOK:
            self._ask()

    def close(self) -> None:
        """Cancel a query under way."""
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None

    def _ask(self) -> asyncio.Task[Master]:
        now = time.monotonic()
        if self._asking is None or (self._asking.done() and now - self._asked >= PAUSE):
            self._asked = now
            self._asking = asyncio.create_task(self._settle())
            # No caller waits for the query of a `look`: the next one makes up for its failure.
            self._asking.add_done_callback(lambda done: done.cancelled() or done.exception())
        return self._asking

    async def _settle(self) -> Master:
        answers, faults = await self._answers()
        if not answers:
            if not self._warned:
                logger.warning(
                    "no Sentinel names the master %s: %s",
                    self._url.master,
                    faults,
                    extra={"event": "master_unknown", "address": str(self._url)},
                )
            self._warned = True
            raise MasterNotFoundError("no Sentinel names the master")
        self._warned = False
        latest = max(answers, key=lambda answer: answer.epoch)
        known = self.current
        if known is None or not self._is_older(latest, known, len(answers)):
            if known is not None and known.address == latest.address:
                known.epoch, known.down_after = latest.epoch, latest.down_after
            else:
                logger.info(
                    "the master is %s port %d", *latest.address, extra={"event": "master_changed"}
                )
                self.current = known = latest
                for connection in list(self.connections):
                    connection.abort_if_replaced()
        return known

    def _is_older(self, answer: Master, known: Master, answers: int) -> bool:
        """True if an answer comes from Sentinels that missed the latest failover.

        If a majority names an older epoch, the Sentinels have been set up anew.
        """
        return answer.epoch < known.epoch and answers <= len(self._url.sentinels) // 2

    async def _answers(self) -> tuple[list[Master], str]:
        """The answers of a majority, or of fewer if no more answer; and the others' faults."""
        asked = [asyncio.create_task(self._question(*address)) for address in self._url.sentinels]
        answers: list[Master] = []
        faults: set[str] = set()
        try:
            for answer in asyncio.as_completed(asked, timeout=ANSWER_TIMEOUT):
                try:
                    answers.append(await answer)
                except (RedisError, OSError) as error:
                    faults.add(trouble(error))
                if len(answers) > len(asked) // 2:
                    break
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        return answers, ", ".join(sorted(faults))

    async def _question(self, host: str, port: int) -> Master:
        tls: dict[str, Any] = self._url.tls or {}
        options: dict[str, Any] = {
            "host": host,
            "port": port,
            "username": self._url.sentinel_access.username,
            "password": self._url.sentinel_access.password,
            "socket_timeout": ANSWER_TIMEOUT,
            "lib_name": None,
            "lib_version": None,
            **tls,
        }
        connection = Connection(**options) if self._url.tls is None else SSLConnection(**options)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            await connection.send_command("SENTINEL", "MASTER", self._url.master)
            return _master(await connection.read_response())
        finally:
            await connection.disconnect(nowait=True)


def _master(reply: Iterable[bytes]) -> Master:
    """Parse a Sentinel's answer: names and values in turn.

    Raises:
        MasterError: it was not sent by a Sentinel.
    """
    try:
        pairs = iter(reply)
        values = dict(zip(pairs, pairs, strict=True))
        return Master(
            values[b"ip"].decode(),
            int(values[b"port"]),
            int(values[b"config-epoch"]),
            int(values[b"down-after-milliseconds"]) / 1000,
        )
    except (KeyError, TypeError, ValueError):
        raise MasterError("the server that answers is not a Sentinel") from None


class MasterConnection(Connection):
    """A connection to the server that is the master when the connection is made."""

    def __init__(self, *, sentinels: Sentinels, **options: Any) -> None:
        super().__init__(**options)
        self._sentinels = sentinels
        self._master = Master("", 0, 0, 0.0)
        self._sent = -math.inf
        self._reading = False

    async def connect(self) -> None:
        """See `redis.asyncio.Connection`; the pool calls it before every use."""
        self._sentinels.look()
        if self._is_replaced:
            await self.disconnect(nowait=True)
        await super().connect()  # type: ignore[no-untyped-call]

    async def _connect(self) -> None:
        master = self._master = await self._sentinels.master()
        self.host, self.port = master.address
        self._sentinels.connections.add(self)
        try:
            await super()._connect()  # type: ignore[no-untyped-call]
        except OSError:
            if master.is_irreplaceable(time.monotonic()):
                raise
        else:
            return
        # Not in the handler: an error in the chain of another one is taken for its cause.
        raise MasterError("the server that was the master cannot be reached")

    async def on_connect(self) -> None:
        """See `redis.asyncio.Connection`. The server itself must report that it is the master."""
        await super().on_connect()
        await self.send_command("INFO", "replication", check_health=False)
        if b"role:master" not in await self.read_response():
            raise MasterError("the server that the Sentinels name is not the master yet")

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """See `redis.asyncio.Connection`."""
        if self._is_replaced:
            await self.disconnect(nowait=True)
            raise MasterError("there is another master")
        self._sent = time.monotonic()
        await super().send_packed_command(command, check_health)

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """See `redis.asyncio.Connection`. The connection ends if a replica answers."""
        self._reading = True
        try:
            response = await super().read_response(*args, **options)
        except BusyLoadingError:
            if self._master.is_irreplaceable(time.monotonic()):
                raise
        except ResponseError as error:
            # In the error of a script, Redis 6.2 puts the word in the middle.
            if not any(word in str(error) for word in _NOT_THE_MASTER):
                raise
        else:
            # The time of the request counts: this process may have slept before the answer.
            self._master.alive = max(self._master.alive, self._sent)
            return response
        finally:
            self._reading = False
        await self.disconnect(nowait=True)
        raise MasterError("the server is not the master, or has only just started")

    def abort_if_replaced(self) -> None:
        """End the wait for an answer of a former master: it may never arrive."""
        # A task that is about to write must not lose its socket to another task.
        if self._is_replaced and self._reading and self._writer is not None:
            self._writer.transport.abort()

    @property
    def _is_replaced(self) -> bool:
        return self.is_connected and self._master is not self._sentinels.current


class TlsMasterConnection(MasterConnection, SSLConnection):
    """The same over TLS."""


class MasterPool(BlockingConnectionPool):
    """A pool of connections to the master of a URL, with the `options` of any pool."""

    def __init__(self, url: SentinelUrl, **options: Any) -> None:
        self._sentinels = Sentinels(url)
        tls: dict[str, Any] = url.tls or {}
        super().__init__(
            connection_class=MasterConnection if url.tls is None else TlsMasterConnection,
            sentinels=self._sentinels,
            db=url.database,
            username=url.access.username,
            password=url.access.password,
            **tls,
            **options,
        )

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """See `redis.asyncio.ConnectionPool`."""
        self._sentinels.close()
        await super().disconnect(inuse_connections)
