"""A role whose event loop is watched from inside: `python -m benchmarks.watched ROLE FILE`.

ROLE is `app` (one front end, without the process that watches over it) or `workers`. FILE receives
a line for every stall of the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Coroutine
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

import msgspec
import uvloop

import app.front_end
import workers.__main__
from app.http.sockets import listen
from settings.loader import load
from wire import VERSION

TICK = 0.005
"""Seconds between two looks at the clock."""

NOTED = 0.015
"""Seconds of a stall that is noted."""

FRAMES = 3

_IDLE = ("runners.py", "thread.py", "threading.py")
"""Files in which a thread waits."""


class Stall(msgspec.Struct, frozen=True):
    """A time in which the loop ran no other task; all in seconds.

    `at` is its end by the machine's monotonic clock. A stall is longer than `cpu`, for which the
    loop's thread computed, if the machine or another thread held it up; `others` is the time for
    which the other threads computed. `place` is the code that ran, or had just run, early in it.
    """

    at: float
    wall: float
    cpu: float
    others: float
    place: str


def stalls(file: Path, since: float) -> list[Stall]:
    """Return what a watched process has noted."""
    noted = [msgspec.json.decode(line, type=Stall) for line in file.read_bytes().splitlines()]
    return [stall for stall in noted if stall.at > since]


class _Watch:
    """A late timer of a loop is a stall. A thread looks for the code that runs meanwhile."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = threading.get_ident()
        self._ticked = time.monotonic()
        self._place = ""
        threading.Thread(target=self._look, daemon=True).start()

    async def run(self) -> None:
        """Note the stalls of the running loop."""
        while True:
            self._ticked, self._place = time.monotonic(), ""
            before = self._ticked, time.thread_time(), time.process_time()
            await asyncio.sleep(TICK)
            now = time.monotonic(), time.thread_time(), time.process_time()
            wall, cpu, process = (b - a for a, b in zip(before, now, strict=True))
            if wall - TICK > NOTED:
                stall = Stall(now[0], wall - TICK, cpu, process - cpu, self._place)
                os.write(self._descriptor, msgspec.json.encode(stall) + b"\n")

    def _look(self) -> None:
        # Not by faulthandler, which looks even during a call of native code, but may crash.
        while True:
            time.sleep(TICK)
            if time.monotonic() - self._ticked > TICK + NOTED and not self._place:
                frames = sys._current_frames()
                del frames[threading.get_ident()]
                ordered = sorted(frames.items(), key=lambda item: item[0] != self._loop)
                self._place = " | ".join(filter(None, (_told(frame) for _, frame in ordered)))


def _told(innermost: FrameType) -> str:
    """Return the innermost functions of a thread that works."""
    stack = traceback.extract_stack(innermost, limit=FRAMES)[::-1]
    if Path(stack[0].filename).name in _IDLE:
        return ""
    return " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in stack)


async def watched(role: Coroutine[Any, Any, None], descriptor: int) -> None:
    """Run a role, and note the stalls of its loop."""
    watching = asyncio.create_task(_Watch(descriptor).run())
    try:
        await role
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


def _front_end() -> None:
    app.front_end.main(str(listen(load().server).detach()), str(VERSION))


def main(role: str, file: str) -> None:
    """Run a role until SIGTERM."""
    sys.argv = sys.argv[:1]
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    run = uvloop.run
    with patch("uvloop.run", lambda main: run(watched(main, descriptor))):
        {"app": _front_end, "workers": workers.__main__.main}[role]()


if __name__ == "__main__":
    main(*sys.argv[1:])
