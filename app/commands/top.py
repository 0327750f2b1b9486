"""`python -m app top`: the gateway live on one screen, and keys to act on it (? lists them).

It reads Redis alone, so it also works when no front end is running. It needs a terminal; for
scripts there is `python -m app status --json`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from app.admin.boards import RedisGone
from app.commands.observer import observer
from app.commands.screen import TopScreen
from app.commands.user import terminal_operator
from runtime.command_line import new_parser
from settings import Settings, SettingsError
from settings.loader import load
from wire.line.scripts import WrongVersionError


def main(arguments: Sequence[str]) -> None:
    """Show the screen. The status is 0, 1 after a failure, 2 without a terminal."""
    parser = new_parser("app top", __doc__ or "")
    parser.add_argument("--light", action="store_true", help="colours for a light background")
    given = parser.parse_args(arguments)
    # The screen is drawn on standard error.
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        parser.error("it needs a terminal; scripts use `python -m app status --json`")
    try:
        reason = asyncio.run(_show(load(), light=given.light))
    except RedisGone as error:
        sys.exit(f"Redis cannot be used: {error}.")
    except (SettingsError, WrongVersionError) as error:
        sys.exit(str(error))
    sys.exit(reason or None)


async def _show(config: Settings, *, light: bool) -> str | None:
    async with observer(config) as observing:
        screen = TopScreen(observing.changes, observing.actions, terminal_operator())
        screen.theme = "textual-light" if light else "textual-dark"
        return await screen.run_async()
