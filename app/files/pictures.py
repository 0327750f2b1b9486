"""What a picture is and how large, read from its beginning; nothing is decoded."""

from __future__ import annotations

import struct
import warnings
from io import BytesIO

import msgspec
from PIL import Image

HEAD = 20 * 1024 * 1024
"""Bytes within which a picture must tell its size: OpenAI takes none that is larger. Cameras put
much before it, and Pillow reads a WebP only whole."""

_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "ICO", "AVIF")


class Picture(msgspec.Struct, frozen=True):
    """A picture's media type, as its bytes show it, and its size in pixels."""

    type: str
    width: int
    height: int


def read_picture(head: bytes) -> Picture | None:
    """What begins with these bytes; None if it cannot be read as a picture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pictures that are large once they are decoded
            with Image.open(BytesIO(head), formats=_FORMATS) as image:
                # Phones put further pictures behind the first; to all others it is a JPEG.
                kind = Image.MIME.get("JPEG" if image.format == "MPO" else image.format or "")
                width, height = image.size
    except (OSError, ValueError, SyntaxError, EOFError, OverflowError, RuntimeError, struct.error):
        return None  # whatever Pillow's readers meet in bytes that are no picture
    except Image.DecompressionBombError:
        return None
    return Picture(kind, width, height) if kind and width > 0 and height > 0 else None
