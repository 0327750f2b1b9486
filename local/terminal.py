"""Output for the person at the terminal."""

from __future__ import annotations

from contextlib import suppress


class LocalError(Exception):
    """The gateway cannot start or cannot continue. The message is for the person."""


def say(text: str, end: str = "\n") -> None:
    """Print a text. A closed terminal is no error, so that the gateway is stopped in order."""
    with suppress(OSError):
        print(text, end=end, flush=True)
