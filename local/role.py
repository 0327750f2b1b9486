"""One role as a child process, with its output relayed to the terminal."""

from __future__ import annotations

import asyncio
import re
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress

from local.terminal import say
from runtime import children

TAIL = 10
"""Number of last lines that are shown if something is wrong with a role."""

LAST_WORDS = 4.0
"""Seconds that a role may take to end its answers with an error."""

# A record (see runtime/logs.py). Lines without that form are tracebacks, or why a process gives up.
_MINOR = re.compile(
    r'\S+ \S+ (DEBUG|INFO) |\{"time":"[^"]*","level":"(DEBUG|INFO)"|(simulator|llama) ready'
)


class Role:
    """A child process. Its warnings and errors are printed to the terminal under its name.

    With `verbose`, all its output is. `tail` has the last lines in either case.
    """

    def __init__(self, name: str, process: Process, verbose: bool) -> None:
        self.name = name
        self.tail: deque[str] = deque(maxlen=TAIL)
        self._process = process
        self._verbose = verbose
        self._relaying = asyncio.create_task(self._relay())

    @classmethod
    async def start(
        cls, name: str, *command: str, environ: Mapping[str, str], verbose: bool
    ) -> Role:
        """Start a command in a session of its own, so that Ctrl-C does not reach it."""
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environ,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            start_new_session=True,
            preexec_fn=children.die_with_parent(),
        )
        return cls(name, process, verbose)

    @property
    def status(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self._process.returncode

    async def last_words(self) -> str:
        """Return its last lines, indented; complete if the process has ended."""
        if self.status is not None:
            await asyncio.wait([self._relaying], timeout=1.0)
        return indented(self.tail)

    async def stop(self, timeout: float) -> None:
        """End it with SIGTERM, with a second one after `timeout` seconds, at last with SIGKILL.

        At the second one a role does not wait for its answers any more, but ends them in order.
        """
        for patience in (timeout, LAST_WORDS):
            self._signal(signal.SIGTERM)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), patience)
                return
        await self.kill()

    async def kill(self) -> None:
        """End it with SIGKILL."""
        self._signal(signal.SIGKILL)
        await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # it has just ended
            self._process.send_signal(number)

    async def _relay(self) -> None:
        async for line in _lines(self._process):
            self.tail.append(line)
            if self._verbose or not _MINOR.match(line):
                say(f"{self.name:>9} | {line}")


def indented(lines: deque[str] | list[str]) -> str:
    """Put each line on a line of its own, indented, below a message."""
    return "".join(f"\n    {line}" for line in lines)


async def _lines(process: Process) -> AsyncIterator[str]:
    assert process.stdout is not None  # noqa: S101 - it was started with a pipe
    while True:
        try:
            line = await process.stdout.readline()
        except ValueError:  # longer than the reader's limit: dropped, so that the role can continue
            continue
        if not line:
            return
        yield line.decode(errors="replace").rstrip()
