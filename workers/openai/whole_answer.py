"""Answers that are not streamed: embeddings, and counts of tokens. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from wire.events import Complete, Event, Piece, Started
from workers.openai.dialects.dialect import NULL, read_error, read_text, says
from workers.openai.judgement import judge
from workers.upstream import BROKEN_OFF, UpstreamError

MAX_WHOLE = 16 * 1024 * 1024
"""Bytes of a whole answer."""


def read_whole(
    body: bytes, model: str, secrets: Sequence[str] = (), pause: float = 0.0
) -> list[Event]:
    """Return the events of a whole answer. `model` is the name that the server was asked for,
    `pause` the time in seconds for which its account is used up.

    Raises:
        UpstreamError, UpstreamBusy: it is not a JSON object, or reports an error.
    """
    try:
        members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        named = read_text(members.get("model", NULL))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UpstreamError(BROKEN_OFF, passing=True) from None
    if says(members.get("error", NULL)):
        error = read_error(body).without(secrets)
        raise judge(error.status or 500, error)
    return [Started(named or model), Piece(body), Complete(pause=pause)]
