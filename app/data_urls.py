"""Data URLs: a file written into a request. Pure."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from urllib.parse import unquote, unquote_to_bytes

import msgspec

_SLICE = 256 * 1024
"""Characters that are decoded at a time; a multiple of four."""

_HEAD = 1024
"""Characters within which the comma must be."""

_SPACE = re.compile(r"\s+")


class DataUrlError(Exception):
    """It is no data URL, or its data is not what it says. The text is for the client."""


class DataUrl(msgspec.Struct, frozen=True):
    """What a data URL says: a media type without its parameters, and how the data is written."""

    type: str
    is_base64: bool
    data: str

    def pieces(self) -> Iterator[bytes]:
        """The file, piece by piece.

        Raises:
            DataUrlError: the data cannot be decoded.
        """
        return _decode_base64(self.data) if self.is_base64 else iter((unquote_to_bytes(self.data),))


def read_data_url(url: str) -> DataUrl:
    """The parts of a data URL, `data:[<type>][;<parameter>]...[;base64],<data>`.

    Raises:
        DataUrlError: it is none.
    """
    comma = url.find(",", 0, _HEAD)
    if not is_data_url(url) or comma < 0:
        raise DataUrlError("It is no data URL of the form data:<type>;base64,<data>.")
    kind, *parameters = url[len("data:") : comma].split(";")
    is_base64 = any(parameter.strip().lower() == "base64" for parameter in parameters)
    # By its specification, what names no type is plain text.
    return DataUrl(kind.strip().lower() or "text/plain", is_base64, url[comma + 1 :])


def is_data_url(url: str) -> bool:
    """Whether this means to be a data URL."""
    return url[:5].lower() == "data:"


def _decode_base64(data: str) -> Iterator[bytes]:
    # Lines of 76 characters, an escaped "=" and missing padding are common and harmless. Looking
    # for them costs nothing; mending them copies, so it is done where there is something to mend.
    if "%" in data:
        data = unquote(data)
    if _SPACE.search(data):
        data = _SPACE.sub("", data)
    padding = "=" * (-len(data) % 4)
    for start in range(0, len(data), _SLICE):
        piece = data[start : start + _SLICE]
        is_last = start + _SLICE >= len(data)
        try:
            plain = binascii.a2b_base64(piece + padding if is_last else piece, strict_mode=True)
        except ValueError:  # of which binascii's own error is one
            raise DataUrlError("Its data is not valid base64.") from None
        if not is_last and len(plain) != _SLICE // 4 * 3:
            raise DataUrlError("Its data is not valid base64.")
        yield plain
