"""Everything that operators read, from Redis, for all readers of a process."""

from __future__ import annotations

from collections.abc import Sequence

from app.admin.boards import Boards, NamedBoard, in_time
from app.admin.kept import Kept
from app.admin.ledger import Ledger, Ledgers
from wire.keyring import Keyring
from wire.line.audit import Audit, AuditEntry
from wire.line.board import BoardJob, Story
from wire.line.history import Minute, read_history
from wire.line.operator import OperatorLine
from wire.redis.client import Redis

HISTORY_FRESH = 10.0
"""Seconds for which the history is used: it gets one entry a minute."""


class Sources:
    """Reads for the page and the API. Every method raises `RedisGone` if Redis cannot be used."""

    def __init__(self, redis: Redis, line: OperatorLine, keyring: Keyring) -> None:
        self.boards = Boards(line, keyring)
        self._line = line
        self._keyring = keyring
        self._ledgers = Ledgers(redis, keyring)
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

    async def endings(self, limit: int) -> list[Story]:
        """Return the jobs that ended last."""
        return await in_time(self._line.endings(limit))

    async def names(self, board: NamedBoard, jobs: Sequence[BoardJob]) -> dict[str, str]:
        """Return the names of all keys of a board and of jobs."""
        return board.names | await self.boards.named(jobs)

    async def ledger(self) -> Ledger:
        """Return the gateway keys and their usage."""
        return await self._ledgers.latest()

    async def jobs_of(self, keys: Sequence[str]) -> list[tuple[int, int]]:
        """Return the numbers of the waiting and running jobs of some keys."""
        return await in_time(self._line.key_jobs(keys))

    async def audit(self, limit: int) -> list[AuditEntry]:
        """Return the latest entries of the audit log."""
        return await in_time(self._audit.latest(limit))

    def hmac_of(self, id: str) -> str:
        """Return the name on the board of a gateway key."""
        return self._keyring.key_of(id)
