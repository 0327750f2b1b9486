"""A role whose event loop is watched from inside: `python -m benchmarks.watched ROLE FILE`.

ROLE is `app` (one front end, without the process that watches over it) or `workers`. FILE receives
a line for every stall of the loop, after the stacks of all threads in the middle of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import re
import sys
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import uvloop

import app.process
import workers.__main__
from app.http.sockets import listen
from settings.loader import load
from wire import VERSION

TICK = 0.005
"""Seconds between two looks at the clock."""

NOTED = 0.015
"""Seconds of a stall that is noted. Its stacks are written after twice as many."""

_STALL = re.compile(r"^stall (.+)$", re.MULTILINE)
_THREAD = re.compile(r"^(?:Current t|T)hread ", re.MULTILINE)
_IDLE = ("asyncio/runners.py", "futures/thread.py", "threading.py")
"""Files in which a thread waits."""

_FRAME = re.compile(r'^  File "(?:.*/)?([^/"]+/[^/"]+)", line (\d+) in (\S+)$', re.MULTILINE)


@dataclass(frozen=True)
class Stall:
    """A time in which the loop ran no other task; all in seconds.

    `at` is its end by the machine's monotonic clock. A stall is longer than `cpu`, for which the
    loop's thread computed, if the machine or another thread held it up; `others` is the time for
    which the other threads computed. `place` is the code that ran in the middle of it.
    """

    at: float
    wall: float
    cpu: float
    others: float
    place: str = ""


def stalls(file: Path, since: float) -> list[Stall]:
    """Return what a watched process has noted."""
    found = []
    stacks, *pieces = _STALL.split(file.read_text())
    for line, following in zip(pieces[::2], pieces[1::2], strict=True):
        at, wall, cpu, others = map(float, line.split())
        if at > since:
            found.append(Stall(at, wall, cpu, others, _place(stacks)))
        stacks = following
    return found


def _place(stacks: str) -> str:
    """Return the innermost frames of each thread that works."""
    threads = [_FRAME.findall(stack) for stack in _THREAD.split(stacks)]
    return " | ".join(
        " < ".join(f"{file}:{line} {name}" for file, line, name in frames[:3])
        for frames in threads
        if frames and frames[0][0] not in _IDLE
    )


async def _watch(descriptor: int) -> None:
    """Note every delay of a short timer."""
    while True:
        faulthandler.dump_traceback_later(2 * NOTED, file=descriptor)
        before = time.monotonic(), time.thread_time(), time.process_time()
        await asyncio.sleep(TICK)
        now = time.monotonic(), time.thread_time(), time.process_time()
        faulthandler.cancel_dump_traceback_later()
        wall, cpu, process = (b - a for a, b in zip(before, now, strict=True))
        if wall - TICK > NOTED:
            line = f"stall {now[0]} {wall - TICK:.4f} {cpu:.4f} {process - cpu:.4f}\n"
            os.write(descriptor, line.encode())


async def watched(role: Coroutine[Any, Any, None], descriptor: int) -> None:
    """Run a role, and note the stalls of its loop."""
    watching = asyncio.create_task(_watch(descriptor))
    try:
        await role
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


def _front_end() -> None:
    app.process.main(str(listen(load().server).detach()), str(VERSION))


def main(role: str, file: str) -> None:
    """Run a role until SIGTERM."""
    sys.argv = sys.argv[:1]
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    run = uvloop.run
    with patch("uvloop.run", lambda main: run(watched(main, descriptor))):
        {"app": _front_end, "workers": workers.__main__.main}[role]()


if __name__ == "__main__":
    main(*sys.argv[1:])
