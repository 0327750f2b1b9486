"""Builds the server: routes, control endpoints, and the way it is started."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from aiohttp import web

from simulator.accounts import Accounts, Limits
from simulator.clock import Clock
from simulator.conversation import Conversations, answer
from simulator.errors import NOT_FOUND, RefusedError
from simulator.history import History
from simulator.script import ScriptBook, parse_posted

# Images and documents travel as files, so this is text only; the script decides what is too long.
_LARGEST_BODY = 64 * 1024 * 1024


@asynccontextmanager
async def serve(
    limits: Limits | None = None, *, host: str = "127.0.0.1", port: int = 0, prefix: str = ""
) -> AsyncIterator[str]:
    """Run a simulator inside this process; yields its URL, `http://host:port`, without the prefix.

    Port 0 takes a free port. Leaving ends open conversations within a second.
    Raises OSError when the address cannot be had.
    """
    runner = web.AppRunner(
        build(limits or Limits(), prefix),
        # A client that leaves must end its conversation even while nothing is being written.
        handler_cancellation=True,
        access_log=None,
        shutdown_timeout=0.1,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=1024).start()
        bound = runner.addresses[0][1]
        yield f"http://[{host}]:{bound}" if ":" in host else f"http://{host}:{bound}"
    finally:
        await runner.cleanup()


def build(limits: Limits, prefix: str = "") -> web.Application:
    """The application, for the running loop. The prefix may come with or without slashes."""
    accounts = Accounts(limits)
    scripts = ScriptBook()
    conversations = Conversations(accounts, scripts, History(), Clock())
    control = _Control(accounts, scripts)
    bare = prefix.strip("/")
    base = f"/{bare}/backend-api" if bare else "/backend-api"
    app = web.Application(client_max_size=_LARGEST_BODY)
    app.add_routes(
        [
            web.post(f"{base}/conversation", conversations.post),
            web.patch(f"{base}/conversation/{{id}}", conversations.patch),
            web.get("/simulator/stats", control.stats),
            web.post("/simulator/script", control.script),
            web.post("/simulator/reset", control.reset),
            web.route("*", "/{anything:.*}", _not_found),
        ]
    )
    return app


async def _not_found(_request: web.Request) -> web.Response:
    return answer(NOT_FOUND)


class _Control:
    """What tests and benchmarks use to steer the simulator and to see what it did."""

    def __init__(self, accounts: Accounts, scripts: ScriptBook) -> None:
        self._accounts = accounts
        self._scripts = scripts

    async def stats(self, _request: web.Request) -> web.Response:
        body = msgspec.json.encode(self._accounts.stats())
        return web.Response(body=body, content_type="application/json")

    async def script(self, request: web.Request) -> web.Response:
        try:
            self._scripts.post(parse_posted(await request.read()))
        except RefusedError as refused:
            return answer(refused.answer)
        return web.json_response({"success": True})

    async def reset(self, _request: web.Request) -> web.Response:
        self._accounts.reset()
        self._scripts.clear()
        return web.json_response({"success": True})
