"""Texts of clients, upstreams and models, made safe for a terminal.

A model or a client could otherwise move the cursor, clear the screen or rename the window.
"""

from __future__ import annotations

_CONTROLS = dict.fromkeys([*range(32), *range(127, 160)], "�")
_IN_TEXT = _CONTROLS | {ord("\n"): "\n", ord("\t"): "\t", ord("\r"): None}


def safe_text(text: str) -> str:
    """Replace every control character but line feeds and tabs."""
    return text.translate(_IN_TEXT)


def one_line(text: str) -> str:
    """Replace every character that cannot be printed within a line."""
    return "".join(character if character.isprintable() else "?" for character in text)
