"""Secrets as values whose repr never shows them."""

from __future__ import annotations

import re

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


def bearer(secret: Secret) -> Secret:
    """Check that a secret can be sent as a bearer. Raises ValueError, without showing it."""
    if not re.fullmatch(r"[!-~]*", secret.reveal()):
        raise ValueError("expected ASCII characters without spaces")
    return secret


def key_hash(text: str) -> str:
    """Normalize a hash that names a client's key. Raises ValueError, without showing the text."""
    if not re.fullmatch(r"[0-9a-fA-F]{16}([0-9a-fA-F]{48})?", text):
        raise ValueError(
            "expected SHA-256 hashes of keys, all 64 hex digits or the first 16 of each"
        )
    return text.lower()
