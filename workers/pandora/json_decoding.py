"""Decoding JSON that a stranger sent."""

from __future__ import annotations

from typing import TypeVar

import msgspec

T = TypeVar("T")


def decode_json(data: bytes | str, type: type[T]) -> T | None:
    """The JSON value as an object of `type`; None if the data is anything else."""
    try:
        return msgspec.json.decode(data, type=type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
