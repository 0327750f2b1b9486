"""`python -m app chat "..."`: ask through the gateway, and see the place in line meanwhile.

The answer is written to standard output as it streams; place, forecast and errors to standard
error. Without a question, or with -, it is read from standard input. The key is that of --key-file,
or the variable OPENAI_API_KEY, or none.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TextIO

from app.commands.asking import Api, AskError, Place, Step
from app.commands.durations import duration
from app.commands.safe_text import one_line, safe_text
from runtime.command_line import new_parser
from settings import SettingsError
from settings.loader import load
from settings.urls import http_url

SILENCE = 300.0
"""Seconds for which the gateway may send nothing, by default. Keep-alives are far more frequent."""

INTERRUPTED = 130
"""Status after Ctrl-C, as of any program that SIGINT ends."""


def main(arguments: Sequence[str]) -> None:
    """Ask. The status is 0, 1 after a failure, 2 for a wrong command line, 130 after Ctrl-C."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.question is None and sys.stdin.isatty():
        parser.error("expected a question")
    try:
        url = http_url(given.url or os.environ.get("OPENAI_BASE_URL", ""))
    except ValueError as error:
        parser.error(f"--url or OPENAI_BASE_URL: {error}")
    try:
        question = _question(given.question)
        api = Api(url or _own_url(), read_key(given.key_file, os.environ), given.silence)
        asyncio.run(_chat(api, given.model, question))
    except (AskError, SettingsError) as error:
        sys.exit(one_line(str(error)))
    except KeyboardInterrupt:
        sys.stderr.write("Cancelled.\n")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Nobody reads the answer any more; Python would complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = new_parser("app chat", __doc__ or "")
    parser.add_argument("question", nargs="?", help="question; - for standard input")
    parser.add_argument(
        "--url", help="URL of the API, with /v1 (OPENAI_BASE_URL, or the gateway of the settings)"
    )
    parser.add_argument("--key-file", metavar="FILE", help="file with the key (OPENAI_API_KEY)")
    parser.add_argument("--model", default="", help="model (the first one of /v1/models)")
    parser.add_argument(
        "--silence",
        type=float,
        default=SILENCE,
        metavar="SECONDS",
        help=f"longest time without a byte from the gateway ({SILENCE:g})",
    )
    return parser


def _question(given: str | None) -> str:
    try:
        question = sys.stdin.read() if given in (None, "-") else given or ""
    except UnicodeDecodeError:
        raise AskError("Standard input is not UTF-8.") from None
    if not question.strip():
        raise AskError("The question is empty.")
    return question


def _own_url() -> str:
    server = load().server
    return f"{server.local_url}{server.api_prefix}/v1"


def read_key(file: str | None, environ: Mapping[str, str]) -> str:
    """Return the key, empty for a gateway that needs none. Raises AskError."""
    try:
        key = Path(file).read_text("utf-8") if file else environ.get("OPENAI_API_KEY", "")
    except OSError as error:
        raise AskError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise AskError(f"{file}: is not UTF-8") from None
    key = key.strip()
    if not (key.isascii() and key.isprintable()) or (file and not key):
        raise AskError(f"{file or 'OPENAI_API_KEY'}: expected one key of printable ASCII")
    return key


async def _chat(api: Api, model: str, question: str) -> None:
    model = model or await api.first_model()
    async with Notice(sys.stderr).running() as notice:
        steps = api.ask(model, question)
        await _show(steps, notice, sys.stdout)


async def _show(steps: AsyncIterator[Step], notice: Notice, output: TextIO) -> None:
    """Show the steps of an answer, which ends with a line end."""
    readable = safe_text if output.isatty() else str
    last = ""
    async for step in steps:
        if isinstance(step, Place):
            notice.waits(step)
            continue
        notice.working()
        if step:
            notice.clear()
            output.write(readable(step))
            output.flush()
            last = step
    if not last.endswith("\n"):
        output.write("\n")
        output.flush()


class Notice:
    """Place of the question, and later that it is being answered.

    On a terminal it is one line, renewed every second; elsewhere a line for each change.
    """

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._tty = output.isatty()
        self._begun = time.monotonic()
        self._place: Place | None = None
        self._since = self._begun
        self._shown = False
        self._over = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Notice]:
        """Context within which the line is renewed; it is removed at the end."""
        renewing = asyncio.create_task(self._keep_renewing())
        try:
            yield self
        finally:
            renewing.cancel()
            self.clear()

    async def _keep_renewing(self) -> None:
        while self._tty and not self._over:
            if self._place:
                self._show(self._text())
            await asyncio.sleep(1)

    def waits(self, place: Place) -> None:
        """Show a place, unless it is shown already."""
        if place != self._place:
            self._place, self._since = place, time.monotonic()
            self._show(self._text())

    def working(self) -> None:
        """Show that the question waits no longer."""
        if self._place:
            self._place = None
            self._show("Being answered ...")

    def clear(self) -> None:
        """Remove the line from a terminal, for good."""
        self._over = True
        self._place = None
        if self._tty and self._shown:
            self._shown = False
            self._output.write("\r\x1b[K")
            self._output.flush()

    def _text(self) -> str:
        now = time.monotonic()
        assert self._place  # noqa: S101 - called while there is one
        return waiting_text(self._place, now - self._since, now - self._begun)

    def _show(self, text: str) -> None:
        if self._tty:
            width = shutil.get_terminal_size().columns - 1
            self._output.write(f"\r\x1b[K{text[:width]}")
            self._shown = True
        else:
            self._output.write(f"{text}\n")
        self._output.flush()


def waiting_text(place: Place, age: float, waited: float) -> str:
    """Describe a place that was received `age` seconds ago, by a question that has `waited`."""
    left = place.eta - age
    soon = "any second now" if left < 1 else f"about {duration(left)} to go"
    ahead = "next in line" if place.position == 1 else f"place {place.position} in line"
    return f"Waiting: {ahead}, {soon} (so far {duration(waited)})"
