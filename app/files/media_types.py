"""Media type of a file, by its first bytes, else its name, else its declaration. Pure.

Servers and bots declare many files as bytes of no known type (Telegram, S3), and some declare them
wrongly. Pictures are recognized by `pictures`. The name in a URL comes last: that of a page that
was made on request (`view.php`) is not the name of the file.
"""

from __future__ import annotations

import codecs
import mimetypes
import re

from wire.media_types import DOCUMENTS

HEAD = 64 * 1024
"""First bytes of a file that decide its type, unless it is a picture."""

UNKNOWN = "application/octet-stream"

_UNDECLARED = {
    "",
    UNKNOWN,
    "application/binary",
    "application/download",
    "application/force-download",
    "application/unknown",
    "application/x-binary",
    "application/x-download",
    "application/x-unknown",
    "application/zip",  # the container of many formats
    "binary/octet-stream",
    "unknown/unknown",
}
"""Declared types that say nothing."""


def _wide(name: bytes) -> bytes:
    """A name in UTF-16, as in the directory of an old Office file."""
    return name.decode().encode("utf-16-le")


_OFFICE = "application/vnd.openxmlformats-officedocument."
_OLD_OFFICE = rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1.*?"
_SIGNATURES = [
    (re.compile(rb"[\s\x00]{0,1024}%PDF-"), "application/pdf"),
    (re.compile(rb"PK\x03\x04.*?word/", re.DOTALL), f"{_OFFICE}wordprocessingml.document"),
    (re.compile(rb"PK\x03\x04.*?ppt/", re.DOTALL), f"{_OFFICE}presentationml.presentation"),
    (re.compile(rb"PK\x03\x04.*?xl/", re.DOTALL), f"{_OFFICE}spreadsheetml.sheet"),
    (re.compile(_OLD_OFFICE + _wide(b"WordDocument"), re.DOTALL), "application/msword"),
    (re.compile(_OLD_OFFICE + _wide(b"PowerPoint"), re.DOTALL), "application/vnd.ms-powerpoint"),
    (re.compile(_OLD_OFFICE + _wide(b"Workbook"), re.DOTALL), "application/vnd.ms-excel"),
]
_OFFICE_PARTS = re.compile(rb"\[Content_Types\]\.xml|_rels/\.rels|docProps/")

_TABLE = mimetypes.MimeTypes(filenames=())  # the same on every machine
_BY_EXTENSION = {extension: kind for kind, extension in DOCUMENTS.items()}


def media_type(head: bytes, name: str = "", declared: str = "", in_url: str = "") -> str:
    """Return the media type of a file that is not a picture; `in_url` is its name in its URL."""
    if kind := _by_signature(head):
        return kind
    named = _by_name(name)
    if named and not named.startswith("image/"):
        return named
    if declared.startswith("image/"):
        return "text/plain"  # as the predecessor did
    if declared not in _UNDECLARED:
        return declared
    if in_url and (named := media_type(head, in_url)) != UNKNOWN:
        return named
    if _is_text(head):
        return "text/plain"
    return declared or UNKNOWN


def _by_signature(head: bytes) -> str:
    for signature, kind in _SIGNATURES:
        if signature.match(head) and (head[:2] != b"PK" or _OFFICE_PARTS.search(head)):
            return kind
    return ""


def _by_name(name: str) -> str:
    _, dot, extension = name.lower().rpartition(".")
    known = _BY_EXTENSION.get(dot + extension)
    return known or _TABLE.guess_type(f"file{dot}{extension}")[0] or ""


def _is_text(head: bytes) -> bool:
    """True if the bytes are the beginning of a text in UTF-8."""
    if b"\0" in head:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True
