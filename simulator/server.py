"""Builds the server: routes, control endpoints, and the way it is started.

It listens twice. The API and the control endpoints are on the port that is asked for; the hosts
that the real API hands out addresses of, storage and sockets, are on a side port of their own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict

import msgspec
from aiohttp import web

from simulator import sockets
from simulator.accounts import Limits
from simulator.conversation import Conversations
from simulator.errors import NOT_FOUND
from simulator.filehost import FilesApi, Storage
from simulator.gizmos import Gizmos
from simulator.http import answer, refusing
from simulator.preflight import Doors
from simulator.script import parse_posted
from simulator.state import State

# Images and documents travel as files, so this is text only; the script decides what is too long.
_LARGEST_BODY = 64 * 1024 * 1024


@asynccontextmanager
async def serve(
    limits: Limits | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    side_port: int = 0,
    prefix: str = "",
) -> AsyncIterator[str]:
    """Run a simulator inside this process; yields its URL, `http://host:port`, without the prefix.

    Port 0 takes a free port. Leaving ends open conversations within a second.
    Raises OSError when the address cannot be had.
    """
    state = State(limits or Limits())
    async with AsyncExitStack() as stack:
        state.side_port = await _listen(stack, build_side(state), host, side_port)
        bound = await _listen(stack, build(state, prefix), host, port)
        yield f"http://[{host}]:{bound}" if ":" in host else f"http://{host}:{bound}"


async def _listen(stack: AsyncExitStack, app: web.Application, host: str, port: int) -> int:
    """Serve an application until the stack ends; returns the port."""
    runner = web.AppRunner(
        app,
        # A client that leaves must end its conversation even while nothing is being written.
        handler_cancellation=True,
        access_log=None,
        shutdown_timeout=0.1,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, host, port, backlog=1024).start()
    bound: int = runner.addresses[0][1]
    return bound


def build(state: State, prefix: str = "") -> web.Application:
    """The API, for the running loop. The prefix may come with or without slashes."""
    conversations = Conversations(state)
    files, gizmos, doors, control = FilesApi(state), Gizmos(state), Doors(state), _Control(state)
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
        ("POST", f"{base}/register-websocket", doors.register),
        ("POST", f"{root}/api/arkose/token", doors.arkose),
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
    """The hosts beside the API."""
    storage = Storage(state)
    app = web.Application()
    routes = [
        ("GET", sockets.PATH, state.hub.connect),
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
    """What tests and benchmarks use to steer the simulator and to see what it did."""

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
        self._state.counts.clear()
        self._state.scripts.clear()
        self._state.files.clear()
        self._state.gate.clear()
        return web.json_response({"success": True})
