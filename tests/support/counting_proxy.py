"""A proxy between worker and server that counts the answers that are open at the server."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

GENERATING = tuple(
    f"/v1/{path}"
    for path in ("chat/completions", "completions", "responses", "messages", "embeddings")
)
_OF_THE_CONNECTION = {"connection", "content-length", "host", "transfer-encoding"}


@dataclass
class Passed:
    """A request that generates, as it went through."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    begun: float
    ended: float = 0.0
    slots: int = 1
    received: bytearray = field(default_factory=bytearray)
    """The answer so far."""


class CountingProxy:
    """Runs in a thread of its own: `with CountingProxy(url) as proxy`.

    A request counts as many answers as it asks for choices. It is open from its arrival until the
    server has sent its last message, or the worker has closed the connection. While `gate` is not
    set, requests that generate wait here.
    """

    def __init__(self, target: str) -> None:
        self.url = ""
        self.open = 0
        self.peak = 0
        self.passed: list[Passed] = []
        self.gate = threading.Event()
        self.gate.set()
        self._target = target
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> CountingProxy:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(30)

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._pass)
        async with AsyncExitStack() as stack:
            # A connection each, so that none is closed by the server between two requests.
            connector = aiohttp.TCPConnector(limit=0, force_close=True)
            self._http = await stack.enter_async_context(
                aiohttp.ClientSession(
                    connector=connector,
                    auto_decompress=False,
                    timeout=aiohttp.ClientTimeout(total=None),
                )
            )
            runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            self._ready.set()
            await self._stopping.wait()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        passed = None
        if request.path in GENERATING:
            headers, asked = dict(request.headers), json.loads(body)
            slots = asked.get("n") or 1
            passed = Passed(request.path, headers, asked, time.monotonic(), slots=slots)
            self.passed.append(passed)
            self.open += slots
            self.peak = max(self.peak, self.open)
        try:
            while passed and not self.gate.is_set():
                await asyncio.sleep(0.005)
            return await self._relay(request, body, passed)
        except aiohttp.ClientError:  # the server was killed: so does its worker see it
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        finally:
            self._end(passed)

    async def _relay(
        self, request: web.Request, body: bytes, passed: Passed | None
    ) -> web.StreamResponse:
        headers = _without_hop(request.headers)
        url = self._target + request.path_qs
        async with self._http.request(request.method, url, data=body, headers=headers) as answer:
            response = web.StreamResponse(
                status=answer.status, headers=_without_hop(answer.headers)
            )
            await response.prepare(request)
            async for data in answer.content.iter_any():
                if passed is not None:
                    passed.received += data
                    if passed.received.endswith((b"data: [DONE]\n\n", b'"message_stop"}\n\n')):
                        self._end(passed)  # before the worker can see it and send the next one
                await response.write(data)
            self._end(passed)
            await response.write_eof()
            return response

    def _end(self, passed: Passed | None) -> None:
        if passed is not None and not passed.ended:
            passed.ended = time.monotonic()
            self.open -= passed.slots


def _without_hop(headers: Any) -> dict[str, str]:
    return {key: value for key, value in headers.items() if key.lower() not in _OF_THE_CONNECTION}
