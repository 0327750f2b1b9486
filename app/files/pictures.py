"""Type and size of a picture, read from its beginning; nothing is decoded.

Bytes that begin as a picture are one, however they are declared.
"""

from __future__ import annotations

import re
import struct
import warnings
from io import BytesIO

import msgspec
from PIL import Image

HEAD = 20 * 1024 * 1024
"""Bytes within which a picture must declare its size: OpenAI accepts none larger than this. Cameras
write much before it, and Pillow reads a WebP only as a whole."""

_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "ICO", "AVIF")


_BEGINS = re.compile(
    rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF.{4}WEBP|BM|II\*\0|MM\0\*|\0\0\x01\0|.{4}ftypavi[fs]",
    re.DOTALL,
)
_HEIC = re.compile(rb".{4}ftyp(?:hei[cmsx]|hev[cmsx]|mif1|msf1)", re.DOTALL)
_BRANDS = 64  # bytes with the brands that such a file is compatible with


def may_be_picture(head: bytes | bytearray) -> bool:
    """True if a file with these first bytes is worth a call of `read_picture`."""
    return _BEGINS.match(head) is not None or b"avif" in head[:_BRANDS]


def is_heic(head: bytes | bytearray) -> bool:
    """True for a HEIC picture, as iPhones take them: no model sees one, and few programs do."""
    return _HEIC.match(head) is not None and b"avif" not in head[:_BRANDS]


class Picture(msgspec.Struct, frozen=True):
    """A picture's media type, detected from its content, and its size in pixels."""

    type: str
    width: int
    height: int


def read_picture(head: bytes) -> Picture | None:
    """Identify a picture by its first bytes; None if they are not a picture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pictures that are large once decoded
            with Image.open(BytesIO(head), formats=_FORMATS) as image:
                # Phones append further pictures to the first; for other programs it is a JPEG.
                kind = Image.MIME.get("JPEG" if image.format == "MPO" else image.format or "")
                width, height = image.size
    except (OSError, ValueError, SyntaxError, EOFError, OverflowError, RuntimeError, struct.error):
        return None  # errors of Pillow's readers on bytes that are not a picture
    except Image.DecompressionBombError:
        return None
    return Picture(kind, width, height) if kind and width > 0 and height > 0 else None
