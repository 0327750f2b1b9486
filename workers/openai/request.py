"""A client's request as it goes upstream: as it was written, but for a few members. Pure.

Answers are always asked for as a stream, since a server notices sooner that nobody reads a stream.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from wire.jobs import ApiPath
from workers.openai.surrogates import mask_surrogates, unmask_surrogates

_STREAMED = ("chat/completions", "completions", "responses", "messages")
_WITH_USAGE = ("chat/completions", "completions")
"""Paths whose servers tell the usage of a stream only if they are asked."""

_TRUE = Raw(b"true")

_Members = dict[str, Raw]

_decode = msgspec.json.Decoder(_Members).decode
_encode = msgspec.json.Encoder().encode


class Request(msgspec.Struct, frozen=True):
    """The body of a request. `model` is the server's own name."""

    body: bytes
    model: str
    streamed: bool


def prepare(
    path: ApiPath, body: bytes, model: str, *, pass_service_tier: bool = False, tier: str = ""
) -> Request:
    """Make the request to send for a client's body. `model` is the server's own name.

    `tier` is the `service_tier` in place of the client's, if that is passed at all and its key
    bounds it.

    Raises:
        msgspec.DecodeError: the body is not a JSON object.
    """
    try:
        members = _decode(body)
    except msgspec.DecodeError:
        masked = mask_surrogates(body)
        if masked is None:
            raise
        request = prepare(path, masked, model, pass_service_tier=pass_service_tier, tier=tier)
        return replace(request, body=unmask_surrogates(request.body))
    members["model"] = Raw(_encode(model))
    # It would wait for one slot of llama.cpp, even while others are free.
    members.pop("id_slot", None)
    if not pass_service_tier:
        members.pop("service_tier", None)
    elif tier:
        members["service_tier"] = Raw(_encode(tier))
    streamed = path in _STREAMED
    if streamed:
        members["stream"] = _TRUE
    if path in _WITH_USAGE:
        members["stream_options"] = _with_usage(members.get("stream_options", Raw(b"null")))
    return Request(_encode(members), model, streamed)


def _with_usage(options: Raw) -> Raw:
    try:
        merged = msgspec.json.decode(options, type=_Members | None) or {}
    except msgspec.ValidationError:
        return options  # the server's own error is the right answer
    return Raw(_encode({**merged, "include_usage": _TRUE}))
