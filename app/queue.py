"""`GET` and `DELETE /v1/queue/{id}`: status of a client's own job, and its cancellation."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Literal
from urllib.parse import unquote

import msgspec
from sanic import HTTPResponse, Request

from app.auth import Auth, Caller
from app.http.json_answer import json
from app.idempotency import key_name
from app.line import finish_if_waiting, line_key
from app.openai.errors import LineUnavailable, NotFound
from wire.line.front_end import FrontEndLine
from wire.line.status import JobStatus
from wire.redis.outage import REDIS_ERRORS
from wire.seal import Seal
from wire.stream.endings import CANCELLED


class QueueEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Status of a job. `position` (from 1) and `eta` (seconds) are null unless it waits."""

    id: str
    object: Literal["queue.entry"] = "queue.entry"
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    position: int | None = None
    eta: int | None = None


class Cancellation(msgspec.Struct, frozen=True, kw_only=True):
    """The job is being cancelled, or its stored answer was deleted if it had finished."""

    id: str
    object: Literal["queue.entry"] = "queue.entry"
    deleted: bool = True


class QueueEntries:
    """Handlers. An id is that of a job, or the Idempotency-Key of the request."""

    def __init__(self, line: FrontEndLine, seal: Seal, auth: Auth) -> None:
        self._line = line
        self._seal = seal
        self._auth = auth

    async def show(self, request: Request, id: str) -> HTTPResponse:
        """Return the status of a job.

        Raises:
            Unauthorized: there is no bearer.
            NotFound: the bearer has no such job.
            LineUnavailable: Redis is unreachable.
        """
        with _redis_needed():
            job = await self._find(await self._auth.caller(request), unquote(id))
        entry = QueueEntry(id=job.id, state=job.state)
        if job.position is not None and job.wait is not None:
            entry = QueueEntry(
                id=job.id, state="waiting", position=job.position, eta=math.ceil(job.wait)
            )
        return json(entry)

    async def cancel(self, request: Request, id: str) -> HTTPResponse:
        """Cancel a waiting or running job, or delete its answer. Raises like `show`."""
        caller = await self._auth.caller(request)
        key = line_key(self._seal, caller.identity)
        with _redis_needed():
            job = await self._find(caller, unquote(id))
            # Its state may change at any time between these calls, and its readers must be sent
            # an ending.
            while await finish_if_waiting(self._line, self._seal, job.id, key, CANCELLED):
                if await self._line.cancel(job.id, unless_waiting=True) != "waiting":
                    break
        return json(Cancellation(id=job.id))

    async def _find(self, caller: Caller, name: str) -> JobStatus:
        named = key_name(self._seal, caller.identity, name)
        job = await self._line.status(name, line_key(self._seal, caller.identity), named)
        if job is None:
            raise NotFound("No such request in the queue for this bearer.")
        return job


@contextlib.contextmanager
def _redis_needed() -> Iterator[None]:
    try:
        yield
    except REDIS_ERRORS:
        raise LineUnavailable from None
