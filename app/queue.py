"""`GET` and `DELETE /v1/queue/{id}`: where a request of one's own is in the line, and out of it."""

from __future__ import annotations

import math
from typing import Literal
from urllib.parse import unquote

import msgspec
from sanic import HTTPResponse, Request

from app.http.body import bearer
from app.http.json_answer import json
from app.line import Line
from app.openai.errors import NotFound


class QueueEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Where a job is. `position` (from 1) and `eta` (seconds) are null unless it waits."""

    id: str
    object: Literal["queue.entry"] = "queue.entry"
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    position: int | None = None
    eta: int | None = None


class Withdrawal(msgspec.Struct, frozen=True, kw_only=True):
    """The job has been told to end, if it had not ended before; its answer is kept no longer."""

    id: str
    object: Literal["queue.entry"] = "queue.entry"
    deleted: bool = True


class QueueEntries:
    """The handlers. An id is ours, or the Idempotency-Key that the request came with."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def show(self, request: Request, id: str) -> HTTPResponse:
        """Tell where a job is.

        Raises:
            Unauthorized: no bearer; NotFound: it has no such job; LineUnavailable: Redis is away.
        """
        found = await self._line.find(bearer(request), unquote(id))
        if found is None:
            raise NotFound("This key has no such request in the line.")
        entry = QueueEntry(id=found.id, state=found.state)
        if found.state == "waiting":
            entry = QueueEntry(
                id=found.id, state="waiting", position=found.place, eta=math.ceil(found.wait)
            )
        return json(entry)

    async def withdraw(self, request: Request, id: str) -> HTTPResponse:
        """End a job, waiting or running, or forget its answer. Raises as `show`."""
        found = await self._line.withdraw(bearer(request), unquote(id))
        if found is None:
            raise NotFound("This key has no such request in the line.")
        return json(Withdrawal(id=found))
