"""Data URLs and base64: files that are part of a request's body. Pure.

They may be very long, so they are never copied: they are decoded slice by slice; see
`app/openai/file_text.py`.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

import msgspec

from app.openai.file_text import FileText, FileTextError

_HEAD = 1024
"""Characters within which the comma must be."""

_SPACE = re.compile(rb"\s+")
_INVALID_BASE64 = "The file's data is not valid base64."


class DataUrlError(Exception):
    """Not a data URL, or its data cannot be decoded. The text is for the client."""


class InlineFile(msgspec.Struct, frozen=True):
    """A file in a text: the media type without parameters, and the data from `start` on."""

    type: str
    is_base64: bool
    text: FileText
    start: int = 0

    def pieces(self) -> Iterator[bytes]:
        """Decode the file piece by piece.

        Raises:
            DataUrlError: the data cannot be decoded.
        """
        slices = _unescape(self.text.slices(self.start))
        return _decode_base64(slices) if self.is_base64 else slices


def read_data_url(text: FileText) -> InlineFile:
    """Parse a data URL, `data:[<type>][;<parameter>]...[;base64],<data>`.

    Raises:
        DataUrlError: it does not have this form.
    """
    url = text.start
    comma = url.find(",", 0, _HEAD)
    if not is_data_url(url) or comma < 0:
        raise DataUrlError("The data URL must have the form `data:<type>;base64,<data>`.")
    kind, *parameters = url[len("data:") : comma].split(";")
    is_base64 = any(parameter.strip().lower() == "base64" for parameter in parameters)
    # By the specification of data URLs, one without a type is plain text.
    return InlineFile(kind.strip().lower() or "text/plain", is_base64, text, comma + 1)


def is_data_url(url: str) -> bool:
    """Return True if a URL has the scheme `data:`."""
    return url[:5].lower() == "data:"


def _unescape(slices: Iterator[str]) -> Iterator[bytes]:
    # Slice by slice: unescaping takes up to eighty times the length of the text in memory.
    try:
        yield from map(unquote_to_bytes, slices)
    except FileTextError:
        raise DataUrlError(_INVALID_BASE64) from None


def _decode_base64(slices: Iterator[bytes]) -> Iterator[bytes]:
    # Lines of 76 characters, an escaped "=" and missing padding are common and harmless.
    left = b""
    for piece in slices:
        left += _SPACE.sub(b"", piece)
        complete = len(left) // 4 * 4
        # Keep what may be the end: only there is padding valid, or allowed to be missing.
        if complete == len(left):
            complete -= 4
        if complete > 0:
            yield _decoded(left[:complete], is_last=False)
            left = left[complete:]
    yield _decoded(left, is_last=True)


def _decoded(encoded: bytes, *, is_last: bool) -> bytes:
    padding = b"=" * (-len(encoded) % 4)
    try:
        plain = binascii.a2b_base64(encoded + padding, strict_mode=True)
    except ValueError:  # binascii's own error is one
        raise DataUrlError(_INVALID_BASE64) from None
    if not is_last and len(plain) != len(encoded) // 4 * 3:
        raise DataUrlError(_INVALID_BASE64)
    return plain
