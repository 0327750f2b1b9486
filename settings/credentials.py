"""Secrets as values whose repr never shows them."""

from __future__ import annotations

import msgspec


class Secret:
    """A secret text, such as a bearer. Only `reveal` shows it; an empty one is false."""

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret('***')" if self else "Secret('')"


class Access(msgspec.Struct, frozen=True):
    """User name and password for a server."""

    username: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return "Access(***)"
