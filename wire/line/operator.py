"""The operator's view of the line: the board, pages of waiting jobs, and stories of jobs."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

import settings
from wire.line import keys
from wire.line.board import Board, BoardJob, Story
from wire.line.limits import Limits
from wire.line.processes import Processes
from wire.line.records import read_ending
from wire.line.scripts import Scripts
from wire.line.survey import Survey
from wire.line.view import LineView

_AT_ONCE = 500
"""Endings that are read in one call."""


class OperatorLine(LineView):
    """The line as operators see it, and act on it."""

    def __init__(self, scripts: Scripts, config: settings.Queue) -> None:
        super().__init__(scripts, config)
        limits = msgspec.msgpack.encode(Limits.of(config, self.presences.ttl))
        self._processes = Processes(scripts, config)
        self._survey = Survey(self._run, self._gap, limits)

    async def board(self) -> Board:
        """Read the whole line. Several calls, so its parts may differ by some milliseconds."""
        board = await self._survey.board()
        return replace(board, processes=await self._processes.list())

    async def jobs(self, offset: int, limit: int, key: str = "") -> list[BoardJob]:
        """Return a page of the waiting jobs, in the order of their arrival; or those of a key, in
        the order in which they go. Jobs that begin meanwhile are left out."""
        return await self._survey.waiting(offset, limit, key)

    async def story(self, id: str) -> Story | None:
        """Return the story of a job; None if it is not known, or is not among the latest endings
        any more."""
        if found := await self._survey.jobs([id], Story):
            return found[0]
        before = "+"
        while entries := await self._endings(before, _AT_ONCE):
            for entry, values in entries:
                before = f"({entry.decode()}"
                if values[b"id"] == id.encode():
                    return read_ending(values[b"job"], Story)
        return None

    async def endings(self, limit: int) -> list[Story]:
        """Return the stories of jobs that have ended, the latest first."""
        return [read_ending(values[b"job"], Story) for _, values in await self._endings("+", limit)]

    async def _endings(self, before: str, limit: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
        entries: list[tuple[bytes, dict[bytes, bytes]]]
        entries = await self._redis.xrevrange(keys.endings, max=before, count=limit)
        return entries
