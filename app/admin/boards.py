"""The board with the names of keys, read at most once a second for all readers of a process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Iterable, Mapping
from itertools import chain
from typing import TypeVar

import msgspec
from msgspec import field
from msgspec.structs import asdict

from wire.keyring import Keyring
from wire.line.board import Board, BoardJob
from wire.line.operator import OperatorLine
from wire.line.usage import PASSTHROUGH
from wire.redis.outage import REDIS_ERRORS
from wire.redis.trouble import trouble

_Result = TypeVar("_Result")

INTERVAL = 1.0
"""Seconds for which a reading is used, and between two readings."""

PATIENCE = 1.5
"""Seconds that Redis may take to answer."""

NAMES_FRESH = 10.0
"""Seconds after which the name of a key is read again."""

SHOWN = 8
"""Hex digits of a key that has no name."""


class NamedBoard(Board, frozen=True, kw_only=True):
    """A board. `names` are those of all keys on it, by their HMACs."""

    names: dict[str, str] = field(default_factory=dict)

    def name_of(self, key: str) -> str:
        """Return the name of a key that is on the board; "" for ""."""
        return self.names.get(key, "") or unnamed(key, PASSTHROUGH)


class Unreadable(msgspec.Struct, frozen=True, kw_only=True):
    """The board cannot be read: Redis cannot be used, for a reason."""

    reason: str


class RedisGone(Exception):
    """Redis cannot be used; the text is the reason."""


def unnamed(key: str, book: str) -> str:
    """Return the name of a key that was not issued here: it is listed, or passed through."""
    if not key:
        return ""
    return f"passthrough {key[:SHOWN]}" if book == PASSTHROUGH else f"key {book[:SHOWN]}"


class KeyNames:
    """Names of keys, by the books that their jobs are in; of a key without a job, by its HMAC."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._of_books: dict[str, str] = {}
        self._of_keys: dict[str, str] | None = None
        self._read = 0.0

    async def of(self, books: Mapping[str, str | None]) -> dict[str, str]:
        """Return the names of keys, given the book of each, None if it is not known.

        Raises `REDIS_ERRORS`.
        """
        now = asyncio.get_running_loop().time()
        if now - self._read >= NAMES_FRESH:
            self._of_books, self._of_keys, self._read = {}, None, now
        wanted = {book for book in books.values() if book and book != PASSTHROUGH}
        if missing := sorted(wanted - self._of_books.keys()):
            found = await self._keyring.some(missing)
            self._of_books |= dict.fromkeys(missing, "") | {one.id: one.name for one in found}
        if self._of_keys is None and None in books.values():
            every = await self._keyring.list()
            self._of_keys = {self._keyring.key_of(one.id): one.name for one in every}
        return {key: self._name(key, book) for key, book in books.items() if key}

    def _name(self, key: str, book: str | None) -> str:
        known = (self._of_keys or {}).get(key) if book is None else self._of_books.get(book)
        return known or unnamed(key, book or PASSTHROUGH)


class _Reading(msgspec.Struct, frozen=True):
    begun: float
    board: asyncio.Task[NamedBoard]


class Boards:
    """Boards as one process reads them, only while somebody wants one."""

    def __init__(self, line: OperatorLine, keyring: Keyring) -> None:
        self._line = line
        self._names = KeyNames(keyring)
        self._last: _Reading | None = None

    async def latest(self) -> NamedBoard:
        """Return a board that is at most a second old.

        Raises:
            RedisGone: Redis cannot be used.
        """
        return await _result(self._reading())

    def forget(self) -> None:
        """Have the next reader read anew, as an operator has changed something."""
        self._last = None

    async def changes(self) -> AsyncGenerator[NamedBoard | Unreadable]:
        """Yield a board each second, and a reason while there is none.

        A reader that is slow misses some.
        """
        seen: _Reading | None = None
        while True:
            while (reading := self._reading()) is seen:  # noqa: ASYNC110 - readings begin by the clock
                await asyncio.sleep(reading.begun + INTERVAL - _now())
            seen = reading
            yield await _outcome(reading)

    async def named(self, jobs: Iterable[BoardJob]) -> dict[str, str]:
        """Return the names of the keys of some jobs.

        Raises:
            RedisGone: Redis cannot be used.
        """
        return await in_time(self._names.of({job.key: job.book for job in jobs}))

    def _reading(self) -> _Reading:
        """Return the last reading, which may still go on, or begin the next one."""
        now = _now()
        if self._last is None or now - self._last.begun >= INTERVAL:
            self._last = _Reading(now, asyncio.ensure_future(self._read()))
            # Without this asyncio logs the failure of a reading whose readers were cancelled.
            self._last.board.add_done_callback(lambda done: done.cancelled() or done.exception())
        return self._last

    async def _read(self) -> NamedBoard:
        return await in_time(self._read_named())

    async def _read_named(self) -> NamedBoard:
        board = await self._line.board()
        return NamedBoard(**asdict(board), names=await self._names.of(_books(board)))


async def in_time(call: Awaitable[_Result]) -> _Result:
    """Wait for an answer of Redis.

    Raises:
        RedisGone: it cannot be used, or takes too long.
    """
    try:
        async with asyncio.timeout(PATIENCE):
            return await call
    except REDIS_ERRORS as error:
        raise RedisGone(trouble(error)) from None


async def _outcome(reading: _Reading) -> NamedBoard | Unreadable:
    try:
        return await _result(reading)
    except RedisGone as error:
        return Unreadable(reason=str(error))


async def _result(reading: _Reading) -> NamedBoard:
    return await asyncio.shield(reading.board)


def _books(board: Board) -> dict[str, str | None]:
    """Return the book of each key on a board; None if it is paused and has no job."""
    own = {account.account: PASSTHROUGH for account in board.own_accounts}
    paused = {pause.name: None for pause in board.pauses if pause.what == "key"}
    flows = {flow.key: flow.book for flow in board.flows}
    return paused | own | flows | {job.key: job.book for job in chain(board.running, board.waiting)}


def _now() -> float:
    return asyncio.get_running_loop().time()
