"""Names of stored objects, and the media types read from them. Pure, apart from the random token.

A folder keeps no attributes, so the name carries all that is known of an object: 128 random bits,
then the part of its original name that a client may see. The extension is the type that the first
bytes show; only a type that cannot be recognized by its bytes keeps its original extension.
"""

from __future__ import annotations

import re
import secrets

import msgspec

PICTURES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
}
"""The types that a browser may show, by extension. No object has one of these without its bytes."""

_TYPES = {
    **PICTURES,
    "csv": "text/csv; charset=utf-8",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "json": "application/json",
    "md": "text/plain; charset=utf-8",
    "pdf": "application/pdf",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "py": "text/plain; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "zip": "application/zip",
}
_SIGNATURES = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), ("png",)),
    (re.compile(rb"\xff\xd8\xff"), ("jpg", "jpeg")),
    (re.compile(rb"GIF8[79]a"), ("gif",)),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), ("webp",)),
    (re.compile(rb"%PDF-"), ("pdf",)),
)
SIGNATURE_BYTES = 16
"""First bytes of an object that decide its type."""

_MAX_NAME = 255  # bytes, in most file systems
_MAX_STEM = 120  # bytes: with token and extension it must stay below that
_NAME = re.compile(r"(?P<token>[0-9a-f]{32})(?:_(?P<stem>[\w.-]+))?\.(?P<extension>[a-z0-9]{1,8})")


class ObjectName(msgspec.Struct, frozen=True):
    """The parts of an object's name."""

    token: str
    stem: str | None
    extension: str

    @property
    def media_type(self) -> str:
        """The media type to serve it with."""
        return _TYPES.get(self.extension, "application/octet-stream")

    @property
    def filename(self) -> str:
        """The name under which a client saves it."""
        return f"{self.stem or self.token}.{self.extension}"

    @property
    def is_picture(self) -> bool:
        """True if a browser may show it."""
        return self.extension in PICTURES


def parse_name(name: str) -> ObjectName | None:
    """The parts of a name made by `make_name`; None for any other text."""
    fits = len(name.encode(errors="replace")) <= _MAX_NAME
    match = _NAME.fullmatch(name) if fits else None
    return None if match is None else ObjectName(**match.groupdict())


def make_name(head: bytes, original: str = "") -> str:
    """A new name for an object with these first bytes and this original name."""
    stem, _, suffix = re.sub(r"[^\w.-]+", "_", original).strip("._").rpartition(".")
    if not stem:
        stem, suffix = suffix, ""
    extension = _extension(head, suffix.lower())
    if suffix and suffix.lower() != extension:
        stem = f"{stem}.{suffix}"  # still part of the original name, but not of the type
    shown = stem.encode()[:_MAX_STEM].decode(errors="ignore")
    return secrets.token_hex(16) + (f"_{shown}" if shown else "") + f".{extension}"


def _extension(head: bytes, original: str) -> str:
    for signature, extensions in _SIGNATURES:
        if signature.match(head):
            return original if original in extensions else extensions[0]
    if original in PICTURES or not re.fullmatch(r"[a-z0-9]{1,8}", original):
        return "bin"
    return original
