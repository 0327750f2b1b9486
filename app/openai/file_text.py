"""Texts of files in a body: URLs, and the base64 of whole files. Pure.

The base64 of a file may be nearly as long as the largest body. Decoding it with the rest would copy
it, and stop the event loop for longer than all other work on a request, even from another thread.
So long files are cut out of a body before it is decoded. They are left where they are, and decoded
slice by slice when they are needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from app.openai.bounds import check_size

Body = bytes | bytearray

SLICE = 256 * 1024
"""Characters that are decoded at a time."""

_STEP = 16 * 1024
"""A text at least twice as long as this is long."""

CHAT_FILES = re.compile(rb'"(url|file_data)"\s*:\s*"$')
RESPONSES_FILES = re.compile(rb'"(image_url|file_url|file_data)"\s*:\s*"$')
MESSAGES_FILES = re.compile(rb'"(url|data)"\s*:\s*"$')
RELAYED_FILES = re.compile(rb'"(url|image_url|file_url|file_data|data)"\s*:\s*"$')
"""The fields that hold files in a dialect; for requests that are relayed, in any of them."""

_BARE = (b"file_data", b"data")
"""Fields that may hold bare base64."""

_LONGEST_KEY = 64
_BASE64 = re.compile(rb"[\w%+/=\\-]{64}")
"""Beginning of a field `data` with base64. With Anthropic, it may also hold a plain text."""

_DATA = re.compile(rb'data:[^",\\]{0,256};base64,', re.IGNORECASE)
_URL = re.compile(rb"data:|https?://", re.IGNORECASE)
_ESCAPE = re.compile(r"[%\\]")
_LONGEST_ESCAPE = 6  # \u002b


class FileTextError(Exception):
    """The text is not a JSON string, or not ASCII."""


class FileText:
    """Text of a file, as a client sent it. `start` is all of it, except for a long one."""

    __slots__ = ("_rest", "start")

    def __init__(self, start: str, rest: memoryview | None = None) -> None:
        self.start = start
        self._rest = rest
        """Still escaped as in JSON."""

    def as_data_url(self, media_type: str) -> FileText:
        """Return bare base64 as a data URL."""
        return FileText(f"data:{media_type};base64,{self.start}", self._rest)

    def slices(self, at: int = 0) -> Iterator[str]:
        """Yield the text from index `at` of `start` on. No escape of JSON or of a URL is cut.

        Raises:
            FileTextError: see there.
        """
        yield from _slices(self.start, at)
        if self._rest is None:
            return
        try:
            for text in _slices(self._rest):
                yield msgspec.json.decode(f'"{text}"', type=str) if "\\" in text else text
        except (UnicodeDecodeError, msgspec.DecodeError):
            raise FileTextError from None


def _slices(source: str | memoryview, at: int = 0) -> Iterator[str]:
    while at < len(source):
        piece = source[at : at + SLICE]
        text = piece if isinstance(piece, str) else str(piece, "ascii")
        is_last = at + SLICE >= len(source)
        if not is_last and (escape := _ESCAPE.search(text, len(text) - _LONGEST_ESCAPE)):
            text = text[: escape.start()]
        yield text
        at += len(text)


def cut_files(body: Body, fields: re.Pattern[bytes] = CHAT_FILES) -> tuple[Body, list[FileText]]:
    """Cut the long files out of a body; each leaves its index in the list, a number.

    A text has no quote inside it that is not escaped. So a long one is found by its longest stretch
    without any, in steps, however many quotes the rest of the body has.

    Raises:
        BodyTooLarge: the rest is larger than `MOST_BYTES`.
    """
    rest, files, view = bytearray(), list[FileText](), memoryview(body)
    at = probe = 0
    while (end := body.find(b'"', probe)) >= 0:
        if end - probe < _STEP:
            probe += _STEP
            continue
        start = body.rfind(b'"', at, probe) + 1
        if start and (file := _file(view, start, end, fields)):
            check_size(len(rest) + start - at)
            rest += view[at : start - 1]
            rest += b"%d" % len(files)
            files.append(file)
            at = end + 1
        probe = end + 1
    check_size(len(rest) + len(body) - at)
    return rest + view[at:], files


def _file(body: memoryview, start: int, end: int, fields: re.Pattern[bytes]) -> FileText | None:
    """Return the file in a text of the body, or None if it is not the base64 of one."""
    key = fields.search(body[max(0, start - _LONGEST_KEY) : start])
    if key is None or body[end - 1] == ord("\\"):
        return None
    if data := _DATA.match(body, start):
        return FileText(data[0].decode(), body[data.end() : end])
    is_bare = key[1] in _BARE and not _URL.match(body, start)
    if not is_bare or (key[1] == b"data" and not _BASE64.match(body, start)):
        return None
    return FileText("", body[start:end])
