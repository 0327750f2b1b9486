"""The operator's view of the line: the board, pages of waiting jobs, and stories of jobs."""

from __future__ import annotations

import time

from wire.line.board import Board, BoardJob, Story
from wire.line.view import LineView


class OperatorLine(LineView):
    """The line as operators see it, and act on it."""

    async def board(self) -> Board:
        """Read the whole line. Several calls, so its parts may differ by some milliseconds."""
        _, _, _, _, settling, *_ = await self._run("snapshot", self._gap)
        return Board(at=time.time(), settling=settling / 1000)

    async def jobs(self, offset: int, limit: int, key: str = "") -> list[BoardJob]:
        """Return a page of the waiting jobs, in the order of their arrival; or those of a key, in
        the order in which they go."""
        return []

    async def story(self, id: str) -> Story | None:
        """Return the story of a job, or None if none is known: it may be too long ago."""
        return None

    async def endings(self, limit: int) -> list[Story]:
        """Return the stories of jobs that have ended, the latest first."""
        return []
