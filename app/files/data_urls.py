"""Data URLs: a file written into a request. Pure."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

import msgspec

_SLICE = 256 * 1024
"""Characters that are decoded at a time; a multiple of four."""

_HEAD = 1024
"""Characters within which the comma must be."""

_SPACE = re.compile(rb"\s+")


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
        return _decode_base64(self.data) if self.is_base64 else _unescape(self.data)


def read_data_url(url: str) -> DataUrl:
    """The parts of a data URL, `data:[<type>][;<parameter>]...[;base64],<data>`.

    Raises:
        DataUrlError: it is none.
    """
    comma = url.find(",", 0, _HEAD)
    if not is_data_url(url) or comma < 0:
        raise DataUrlError("The file is no data URL of the form data:<type>;base64,<data>.")
    kind, *parameters = url[len("data:") : comma].split(";")
    is_base64 = any(parameter.strip().lower() == "base64" for parameter in parameters)
    # By its specification, what names no type is plain text.
    return DataUrl(kind.strip().lower() or "text/plain", is_base64, url[comma + 1 :])


def is_data_url(url: str) -> bool:
    """Whether this means to be a data URL."""
    return url[:5].lower() == "data:"


def _unescape(data: str) -> Iterator[bytes]:
    # Slice by slice: what is unescaped at once takes up to eighty times its length meanwhile.
    start = 0
    while start < len(data):
        end = start + _SLICE
        if end < len(data) and (escape := data.rfind("%", end - 2, end)) >= 0:
            end = escape  # which must not be cut in two
        yield unquote_to_bytes(data[start:end])
        start = end


def _decode_base64(data: str) -> Iterator[bytes]:
    # Lines of 76 characters, an escaped "=" and missing padding are common and harmless.
    left = b""
    for piece in _unescape(data):
        left += _SPACE.sub(b"", piece)
        whole = len(left) // 4 * 4
        # Whatever may be the end stays: only there padding is valid, or missing.
        if whole == len(left):
            whole -= 4
        if whole > 0:
            yield _decoded(left[:whole], is_last=False)
            left = left[whole:]
    yield _decoded(left, is_last=True)


def _decoded(encoded: bytes, *, is_last: bool) -> bytes:
    padding = b"=" * (-len(encoded) % 4)
    try:
        plain = binascii.a2b_base64(encoded + padding, strict_mode=True)
    except ValueError:  # of which binascii's own error is one
        raise DataUrlError("The file's data is not valid base64.") from None
    if not is_last and len(plain) != len(encoded) // 4 * 3:
        raise DataUrlError("The file's data is not valid base64.")
    return plain
