"""Whole answers, and a keep-alive for clients whose proxies do not wait long enough for one.

JSON may begin with white space. So a client that asks for it (`stream.whole_keepalive`, or the
header `X-Keepalive: whitespace`) gets the status 200 after a grace period, a newline now and then,
and finally the body. The price: a later failure is an error object inside a 200.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

import msgspec
from sanic import HTTPResponse, Request

import settings
from app.http.access_log import log_failure
from app.http.error_answer import error_object
from app.http.json_answer import JSON
from app.http.keepalive import whole_keepalive
from app.http.stream import ResponseStream
from app.openai.errors import ApiError


async def send_with_keepalive(
    request: Request, answer: Coroutine[None, None, HTTPResponse], config: settings.Stream
) -> HTTPResponse | None:
    """Answer a request with the coroutine's response; return None if it has already been sent.

    Raises:
        ApiError: the answer failed before anything was sent.
    """
    if whole_keepalive(request, config) == "off":
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
            log_failure(request, error)
            body = msgspec.json.encode(error_object(request, error))
        await stream.send(body)
        await stream.end()
        return None
    finally:
        task.cancel()
