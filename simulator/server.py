"""The server: routes, control endpoints, start and end.

It listens on two ports. The API and the control endpoints are on the given one. Storage and
sockets, which are hosts of their own in reality, are on a side port.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from simulator import hub
from simulator.accounts import Limits
from simulator.conversation import Conversations
from simulator.errors import NOT_FOUND
from simulator.filehost import FilesApi, Storage
from simulator.gizmos import Gizmos
from simulator.handlers import answer, refusing
from simulator.listening import listen, url_of
from simulator.preflight import Preflight
from simulator.script import parse_posted
from simulator.state import State

# Images and documents are uploaded as files, so this is only text; scripts decide what is too long.
_LARGEST_BODY = 64 * 1024 * 1024


@asynccontextmanager
async def serve(
    limits: Limits | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    side_port: int = 0,
    prefix: str = "",
    middlewares: Sequence[Middleware] = (),
) -> AsyncIterator[str]:
    """Run a simulator inside this process; yields its URL, `http://host:port`, without the prefix.

    Port 0 takes a free port. `middlewares` may answer requests to the API before it. On exit, open
    conversations end within a second. Raises OSError if it cannot listen at the address.
    """
    state = State(limits or Limits())
    async with AsyncExitStack() as stack:
        state.side_port = await listen(stack, build_side(state), host, side_port)
        api = build(state, prefix)
        api.middlewares.extend(middlewares)
        bound = await listen(stack, api, host, port)
        yield url_of(host, bound)


def build(state: State, prefix: str = "") -> web.Application:
    """Build the API for the running loop. The prefix may have slashes around it."""
    conversations = Conversations(state)
    files, gizmos, preflight, control = (
        FilesApi(state),
        Gizmos(state),
        Preflight(state),
        _Control(state),
    )
    bare = prefix.strip("/")
    root = f"/{bare}" if bare else ""
    base = f"{root}/backend-api"
    app = web.Application(client_max_size=_LARGEST_BODY)
    routes = [
        ("POST", f"{base}/conversation", conversations.post),
        ("PATCH", f"{base}/conversation/{{id}}", conversations.patch),
        ("POST", f"{base}/stop_conversation", conversations.stop),
        ("GET", f"{base}/conversation/{{id}}/interpreter/download", files.sandbox),
        ("POST", f"{base}/files", files.create),
        ("GET", f"{base}/files/{{id}}", files.info),
        ("POST", f"{base}/files/{{id}}/uploaded", files.uploaded),
        ("GET", f"{base}/files/{{id}}/download", files.download),
        ("GET", f"{base}/gizmos/{{id}}", gizmos.get),
        ("POST", f"{base}/register-websocket", preflight.register),
        ("POST", f"{root}/api/arkose/token", preflight.arkose),
        ("GET", "/simulator/stats", control.stats),
        ("GET", "/simulator/files", control.files),
        ("POST", "/simulator/script", control.script),
        ("POST", "/simulator/gate", control.gate),
        ("POST", "/simulator/reset", control.reset),
        ("*", "/{anything:.*}", _not_found),
    ]
    app.add_routes([web.route(method, path, refusing(handler)) for method, path, handler in routes])

    async def close(_app: web.Application) -> None:
        await conversations.close()

    app.on_shutdown.append(close)
    return app


def build_side(state: State) -> web.Application:
    """Build the hosts of storage and sockets."""
    storage = Storage(state)
    app = web.Application()
    routes = [
        ("GET", hub.PATH, state.hub.connect),
        ("PUT", "/{id}", storage.put),
        ("GET", "/{id}", storage.get),
        ("*", "/{anything:.*}", _not_found),
    ]
    app.add_routes([web.route(method, path, refusing(handler)) for method, path, handler in routes])

    async def close(_app: web.Application) -> None:
        await state.hub.close_all()

    app.on_shutdown.append(close)
    return app


async def _not_found(_request: web.Request) -> web.StreamResponse:
    return answer(NOT_FOUND)


class _Control:
    """Control endpoints for tests and benchmarks."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def stats(self, _request: web.Request) -> web.StreamResponse:
        conversations = msgspec.structs.asdict(self._state.accounts.stats())
        return web.json_response(conversations | asdict(self._state.counts))

    async def files(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response([file.shown() for file in self._state.files.all()])

    async def script(self, request: web.Request) -> web.StreamResponse:
        self._state.scripts.post(parse_posted(await request.read()))
        return web.json_response({"success": True})

    async def gate(self, _request: web.Request) -> web.StreamResponse:
        self._state.gate.set()
        return web.json_response({"success": True})

    async def reset(self, _request: web.Request) -> web.StreamResponse:
        self._state.accounts.reset()
        self._state.counts.reset()
        self._state.scripts.clear()
        self._state.files.clear()
        self._state.gate.clear()
        return web.json_response({"success": True})
