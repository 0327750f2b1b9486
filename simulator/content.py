"""Contents of the simulator's files: small real ones, and large ones made on the fly."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

_PIECE = 64 * 1024
_TYPES = {
    "png": "image/png",
    "csv": "text/csv",
    "txt": "text/plain",
    "pdf": "application/pdf",
    "json": "application/json",
}


@dataclass(frozen=True)
class Content:
    """Bytes of one file: a beginning, then a filler repeated up to the size."""

    head: bytes
    filler: bytes
    size: int
    mime: str

    def pieces(self) -> Iterator[bytes]:
        """Yield all bytes, at most 64 KB at a time."""
        at = min(len(self.head), self.size)
        for start in range(0, at, _PIECE):
            yield self.head[start : min(start + _PIECE, at)]
        if at == self.size:
            return
        block = self.filler * (_PIECE // len(self.filler))
        while at < self.size:
            piece = block[: self.size - at]
            yield piece
            at += len(piece)


def picture(width: int, height: int, number: int, size: int = 0) -> Content:
    """Make a PNG with stripes that depend on the number; zeros follow its end up to the size."""
    head = png(width, height, number)
    return Content(head, b"\0", max(size, len(head)), "image/png")


def document(name: str, size: int = 0) -> Content:
    """Make a file of the type that its name says. `size` 0 is the smallest possible."""
    ending = name.rpartition(".")[2].lower()
    mime = _TYPES.get(ending, "application/octet-stream")
    if ending == "png":
        return picture(64, 64, len(name), size)
    if ending == "csv":
        head, filler = b"n,square\n", b"1,1\n2,4\n3,9\n"
        return Content(head, filler, size or len(head + filler), mime)
    if ending == "pdf":
        head = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
        return Content(head, b"%\n", size or len(head), mime)
    head = f"This is {name}, made by the simulator.\n".encode()
    return Content(head, b"And so on.\n", size or len(head), mime)


def uploaded(data: bytes, mime: str) -> Content:
    """Make the content of an uploaded file."""
    return Content(data, b"\0", len(data), mime or "application/octet-stream")


def png(width: int, height: int, number: int) -> bytes:
    """Make a real PNG, one bit per pixel, in two colours that depend on the number."""
    header = struct.pack(">IIBBBBB", width, height, 1, 3, 0, 0, 0)
    colour = bytes((number * 67 % 256, number * 131 % 256, 200))
    stripe = b"\xf0" if number % 2 else b"\xcc"
    row = b"\0" + stripe * -(-width // 8)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"PLTE", b"\xff\xff\xff" + colour)
        + _chunk(b"IDAT", zlib.compress(row * height))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
