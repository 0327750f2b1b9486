"""Keep-alive of one request: the operator's setting, unless the client's `X-Keepalive` differs.

A stream and a whole answer have different kinds. A kind of the other one is ignored, so that a
client may send the same header with every request.
"""

from __future__ import annotations

from typing import Literal, get_args

from sanic import Request

import settings

HEADER = "x-keepalive"

StreamKeepalive = Literal["comment", "empty_delta", "off"]
WholeKeepalive = Literal["off", "whitespace"]

_STREAM: dict[str, StreamKeepalive] = {kind: kind for kind in get_args(StreamKeepalive)}
_WHOLE: dict[str, WholeKeepalive] = {kind: kind for kind in get_args(WholeKeepalive)}


def stream_keepalive(request: Request, config: settings.Stream) -> StreamKeepalive:
    """Return the kind of keep-alive for a streamed answer."""
    return _STREAM.get(request.headers.get(HEADER, ""), config.keepalive)


def whole_keepalive(request: Request, config: settings.Stream) -> WholeKeepalive:
    """Return the kind of keep-alive for an answer that is not streamed."""
    return _WHOLE.get(request.headers.get(HEADER, ""), config.whole_keepalive)
