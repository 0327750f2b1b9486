"""An answer that is sent as a whole, to a client whose proxies may not wait that long for it.

JSON may begin with white space. So whoever wants that (`stream.whole_keepalive`, or the header
`X-Keepalive: whitespace`) gets the status 200 after a grace, a newline now and then, and the body
when it is there. The price: a failure after that is an error object inside a 200.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import msgspec
from sanic import HTTPResponse, Request
from sanic.response import raw

import settings
from app.http.stream import ResponseStream
from app.openai.errors import ApiError

JSON = {"content-type": "application/json"}


async def send_whole(
    request: Request, answer: Coroutine[None, None, HTTPResponse], config: settings.Stream
) -> HTTPResponse | None:
    """Answer a request with what the coroutine returns; None if it has been sent already.

    Raises:
        ApiError: the answer failed before anything was sent.
    """
    asked = request.headers.get("x-keepalive", config.whole_keepalive)
    if asked != "whitespace":
        return await answer
    task = asyncio.ensure_future(answer)
    try:
        done, _ = await asyncio.wait([task], timeout=config.grace)
        if done:
            return task.result()
        stream = await ResponseStream.begin(request, config.send_timeout, JSON)
        while not done:
            await stream.send(b"\n")
            done, _ = await asyncio.wait([task], timeout=config.keepalive_interval)
        try:
            body = task.result().body or b""
        except ApiError as error:
            body = msgspec.json.encode(error.object)
        await stream.send(body)
        await stream.end()
        return None
    finally:
        task.cancel()


def whole(body: bytes, headers: dict[str, str] | None = None, status: int = 200) -> HTTPResponse:
    """A whole JSON answer."""
    return raw(body, status, headers, content_type=JSON["content-type"])


def json(
    data: msgspec.Struct, status: int = 200, headers: dict[str, str] | None = None
) -> HTTPResponse:
    """A typed body as a response."""
    return whole(msgspec.json.encode(data), headers, status)
