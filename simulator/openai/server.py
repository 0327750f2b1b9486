"""The server: routes, control endpoints, start and end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict

import msgspec
from aiohttp import web

from simulator.directive import ScriptError, read_posted
from simulator.listening import listen, url_of
from simulator.openai import asked
from simulator.openai.about import NOT_FOUND, About
from simulator.openai.conversations import Conversations, Read, Say
from simulator.openai.dialects.chat import Chat
from simulator.openai.dialects.completions import Completions
from simulator.openai.dialects.messages import Messages
from simulator.openai.dialects.responses import Responses
from simulator.openai.errors import RefusedError, invalid
from simulator.openai.script import Script
from simulator.openai.state import Config, State

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LARGEST_BODY = 64 * 1024 * 1024


@asynccontextmanager
async def serve(
    config: Config | None = None, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[str]:
    """Run a simulator inside this process; yields its URL, `http://host:port`.

    Port 0 takes a free port. Raises OSError if it cannot listen at the address.
    """
    async with AsyncExitStack() as stack:
        app = build(State(config or Config()))
        yield url_of(host, await listen(stack, app, host, port))


def build(state: State) -> web.Application:
    """Build the application for the running loop."""
    conversations, about, control = Conversations(state), About(state), _Control(state)

    def generating(read: Read, say: Say) -> Handler:
        return lambda request: conversations.ask(request, read, say)

    posted: dict[str, Handler] = {
        "chat/completions": generating(asked.chat, Chat),
        "completions": generating(asked.completion, Completions),
        "responses": generating(asked.response, Responses),
        "messages": generating(asked.messages, Messages),
        "messages/count_tokens": conversations.count,
        "embeddings": conversations.embed,
    }
    routes: list[tuple[str, str, Handler]] = [
        *(
            ("POST", f"/v1/{path}", handler)
            for path, handler in posted.items()
            if path not in state.config.without
        ),
        ("GET", "/v1/models", about.models),
        ("GET", "/v1/model", about.model),
        ("GET", "/health", about.health),
        ("GET", "/props", about.props),
        ("GET", "/slots", about.slots),
        ("GET", "/metrics", about.metrics),
        ("GET", "/server_info", about.server_info),
        ("GET", "/simulator/stats", control.stats),
        ("GET", "/simulator/requests", control.requests),
        ("POST", "/simulator/script", control.script),
        ("POST", "/simulator/gate", control.gate),
        ("POST", "/simulator/reset", control.reset),
        ("*", "/{anything:.*}", _not_found),
    ]
    app = web.Application(client_max_size=_LARGEST_BODY)
    app.add_routes(
        [web.route(method, path, _refusing(handler)) for method, path, handler in routes]
    )
    return app


def _refusing(handler: Handler) -> Handler:
    """Wrap a handler so that a RefusedError becomes its answer."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except RefusedError as refused:
            error = refused.answer
            headers = {"Content-Type": error.content_type, **dict(error.headers)}
            return web.Response(status=error.status, body=error.body, headers=headers)

    return handle


async def _not_found(_request: web.Request) -> web.StreamResponse:
    raise RefusedError(NOT_FOUND)


class _Control:
    """Control endpoints for tests and benchmarks."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def stats(self, _request: web.Request) -> web.StreamResponse:
        state = self._state
        slots = msgspec.structs.asdict(state.slots.stats())
        peak = state.embeddings.stats().peak
        return web.json_response({**slots, **asdict(state.counts), "peak_embeddings": peak})

    async def requests(self, _request: web.Request) -> web.StreamResponse:
        body = msgspec.json.encode(list(self._state.seen))
        return web.Response(body=body, content_type="application/json")

    async def script(self, request: web.Request) -> web.StreamResponse:
        try:
            self._state.scripts.post(read_posted(await request.read(), Script))
        except ScriptError as error:
            raise RefusedError(invalid(str(error))) from None
        return web.json_response({"success": True})

    async def gate(self, _request: web.Request) -> web.StreamResponse:
        self._state.gate.set()
        return web.json_response({"success": True})

    async def reset(self, _request: web.Request) -> web.StreamResponse:
        self._state.reset()
        return web.json_response({"success": True})
