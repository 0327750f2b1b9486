"""The name of the model in an answer: the client's own, which may be an alias. Pure."""

from __future__ import annotations

import msgspec

_Members = dict[str, msgspec.Raw]

_decode = msgspec.json.Decoder(_Members).decode
_encode = msgspec.json.Encoder().encode


def with_model(data: bytes, model: str, within: str = "") -> bytes:
    """Return a JSON object with this model in place of the server's name for it.

    `within` names the member that has it. An object that has none, or this one already, is returned
    as it is, and so is whatever cannot be read.
    """
    try:
        members = _decode(data)
        inner = _decode(members[within]) if within else members
        if msgspec.json.decode(inner["model"]) == model:
            return data
    except (KeyError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return data
    inner["model"] = msgspec.Raw(_encode(model))
    if within:
        members[within] = msgspec.Raw(_encode(inner))
    return _encode(members)
