"""The operator's view of the line: the board, pages of waiting jobs, and stories of jobs."""

from __future__ import annotations

from typing import Literal, cast, get_args

import msgspec
from msgspec.structs import replace

import settings
from wire.line import keys
from wire.line.board import Board, BoardJob, Pause, PauseKind, Story
from wire.line.inspection import Inspection
from wire.line.limits import Limits
from wire.line.pauses import pause_of, read_pauses
from wire.line.processes import Processes
from wire.line.records import read_ending
from wire.line.scripts import Scripts
from wire.line.status import FinalState, State
from wire.line.view import LineView, front_ends, known_word

Paused = Literal[
    "paused",  # it is paused, or was, and has another end now
    "already",  # it is paused without an end, and was
    "unknown",  # there is no such upstream or account
    "too_many",  # there is the maximum number of pauses
]
"""Result of pausing something."""

Drained = Literal[
    "draining",  # the worker was asked to end
    "already",  # it has been asked, or stops by itself
    "unknown",  # no worker of this name is alive
    "unreachable",  # it does not listen to commands now
]
"""Result of draining a worker."""

Stopped = State | Literal["already", "unknown"]
"""State of a job that an operator cancels: a running one will be finished by its worker. `already`:
an operator has cancelled it before."""

_AT_ONCE = 500
"""Endings that are read in one call."""


class OperatorLine(LineView):
    """The line as operators see it, and act on it."""

    def __init__(self, scripts: Scripts, config: settings.Queue) -> None:
        super().__init__(scripts, config)
        limits = msgspec.msgpack.encode(Limits.of(config, self.presences.ttl))
        self._processes = Processes(scripts, config)
        self._inspection = Inspection(self._run, self._gap, limits)

    async def board(self) -> Board:
        """Read the whole line. Several calls, so its parts may differ by some milliseconds."""
        board = await self._inspection.board(await self.pauses())
        return replace(board, processes=await self._processes.list())

    async def jobs(self, offset: int, limit: int, key: str = "") -> list[BoardJob]:
        """Return a page of the waiting jobs, in the order of their arrival; or those of a key, in
        the order in which they go. Jobs that begin meanwhile are left out."""
        return await self._inspection.waiting(offset, limit, key)

    async def story(self, id: str) -> Story | None:
        """Return the story of a job; None if it is not known, or is not among the latest endings
        any more."""
        if found := await self._inspection.jobs([id], Story):
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

    async def ping(self) -> None:
        """Raise redis.RedisError or OSError unless Redis answers."""
        await self._redis.ping()

    async def pauses(self) -> list[Pause]:
        """Return all pauses, the oldest first."""
        return await read_pauses(self._redis)

    async def pause(
        self, what: PauseKind, name: str, by: str, seconds: float | None = None
    ) -> tuple[Paused, Pause | None]:
        """Pause the intake of all jobs or of a key's, an upstream, or an account; or change the end
        of a pause: after that time, or none. Returns the pause, too, if there is one.
        """
        ms = "" if seconds is None else round(seconds * 1000)
        result, *stored = await self._run("pause", what, name, by, ms)
        pause = pause_of(f"{what} {name}", stored[0]) if stored and stored[0] else None
        return cast(Paused, known_word(result, get_args(Paused))), pause

    async def resume(self, what: PauseKind, name: str) -> bool:
        """End a pause. Returns False if there is none."""
        return bool(await self._run("resume", what, name))

    async def wake(self, account: str) -> bool | None:
        """Use an account again at once, for all its models. Returns False if it can be used
        already, None if it is unknown.
        """
        woken = await self._run("wake", account)
        return None if woken < 0 else bool(woken)

    async def cancel(self, id: str) -> tuple[Stopped, list[str]]:
        """Cancel a running job through its worker. Returns the state of the job, and its front
        ends: a waiting one is left to the caller, who has an ending for them.
        """
        state, readers = await self._run("stop", id)
        return cast(Stopped, known_word(state, _STOPPED)), front_ends(readers)

    async def drain(self, worker: str) -> Drained:
        """Ask a worker to finish its jobs, claim no more, and end."""
        return cast(Drained, known_word(await self._run("drain", worker), get_args(Drained)))

    async def knows_key(self, key: str) -> bool:
        """Return True if something is known of a key, given by its HMAC, or it is paused."""
        if await self._redis.exists(keys.key(key), keys.waits(key)):
            return True
        return bool(await self._redis.hexists(keys.pauses, f"key {key}"))  # type: ignore[misc]  # redis-py: sync or async

    async def _endings(self, before: str, limit: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
        entries: list[tuple[bytes, dict[bytes, bytes]]]
        entries = await self._redis.xrevrange(keys.endings, max=before, count=limit)
        return entries


_STOPPED = ("waiting", "running", *get_args(FinalState), "already", "unknown")
