"""Texts in JSON whose exact form is unknown: those below members with certain names."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress

import msgspec
from msgspec import Raw

_DEPTH = 12
"""Levels of JSON that are looked into."""

_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode


def texts_of(data: bytes | Raw, names: Collection[str], depth: int = _DEPTH) -> Iterator[str]:
    """Yield the texts below members with these names, in order; of what is not JSON, none.

    Nothing else is decoded, such as pictures in base64.
    """
    kind = memoryview(data)[:1].tobytes() if data else b""
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if kind == b'"':
            yield _decode_text(data)
        elif kind == b"[" and depth:
            for item in _decode_list(data):
                yield from texts_of(item, names, depth - 1)
        elif kind == b"{" and depth:
            for name, value in _decode_object(data).items():
                if name in names:
                    yield from texts_of(value, names, depth - 1)
