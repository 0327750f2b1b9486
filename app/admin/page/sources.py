"""Everything that views show besides the board, read from Redis for all readers of a process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from app.admin.boards import Boards, NamedBoard, in_time
from app.admin.ledger import Ledger, Ledgers
from wire.keyring import identity
from wire.line.audit import Audit, AuditEntry
from wire.line.board import BoardJob, Story
from wire.line.history import Minute, read_history
from wire.line.operator import OperatorLine
from wire.redis.client import Redis
from wire.seal import Seal

HISTORY_FRESH = 10.0
"""Seconds for which the history is used: it gets one entry a minute."""

ENDINGS = 50
"""Latest endings that are shown."""

ENTRIES = 100
"""Latest entries of the audit log that are shown."""

_Read = TypeVar("_Read")


class Kept(Generic[_Read]):
    """A reading that is used for some seconds, by all who ask meanwhile."""

    def __init__(self, read: Callable[[], Awaitable[_Read]], fresh: float) -> None:
        self._read = read
        self._fresh = fresh
        self._begun = 0.0
        self._reading: asyncio.Future[_Read] | None = None

    async def latest(self) -> _Read:
        """Return the last reading, or read again.

        Raises:
            RedisGone: Redis cannot be used.
        """
        now = asyncio.get_running_loop().time()
        if self._reading is None or now - self._begun >= self._fresh:
            self._begun = now
            self._reading = asyncio.ensure_future(in_time(self._read()))
            # Without this asyncio logs the failure of a reading whose readers were cancelled.
            self._reading.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(self._reading)


class Sources:
    """Reads what views show. Every method raises `RedisGone` if Redis cannot be used."""

    def __init__(
        self, redis: Redis, seal: Seal, line: OperatorLine, boards: Boards, ledgers: Ledgers
    ) -> None:
        self.boards = boards
        self._seal = seal
        self._line = line
        self._ledgers = ledgers
        self._audit = Audit(redis)
        self._history = Kept(lambda: read_history(redis), HISTORY_FRESH)

    def forget(self) -> None:
        """Have all be read anew: an operator has changed something."""
        self.boards.forget()
        self._ledgers.forget()

    async def history(self) -> Sequence[Minute]:
        """Return the minutes of the last day. The same object for as long as it is fresh."""
        return await self._history.latest()

    async def waiting(self, offset: int, limit: int, key: str) -> list[BoardJob]:
        """Return a page of the waiting jobs, in all or of a key."""
        return await in_time(self._line.jobs(offset, limit, key))

    async def story(self, id: str) -> Story | None:
        """Return the story of a job."""
        return await in_time(self._line.story(id))

    async def endings(self) -> list[Story]:
        """Return the jobs that ended last."""
        return await in_time(self._line.endings(ENDINGS))

    async def names(self, board: NamedBoard, jobs: Sequence[BoardJob]) -> dict[str, str]:
        """Return the names of all keys of a board and of jobs."""
        return board.names | await self.boards.named(jobs)

    async def ledger(self) -> Ledger:
        """Return the gateway keys and their usage."""
        return await self._ledgers.latest()

    async def audit(self) -> list[AuditEntry]:
        """Return the latest entries of the audit log."""
        return await in_time(self._audit.latest(ENTRIES))

    def hmac_of(self, id: str) -> str:
        """Return the name on the board of a gateway key."""
        return self._seal.name("account", identity(id))
