"""The minimal gateway: it forwards the upstream's bytes without reading them.

`python -m benchmarks.passthrough UPSTREAM PORT`. Its cost is the least that a gateway in Python can
have, and so the measure for ours.
"""

from __future__ import annotations

import sys

import aiohttp
import uvloop
from aiohttp import web

from benchmarks.gateway import HOST

_FORWARDED = ("Authorization", "Content-Type", "Accept", "Accept-Encoding")


class Passthrough:
    """The server. Its loop and HTTP libraries are those of the gateway's worker."""

    def __init__(self, upstream: str, session: aiohttp.ClientSession) -> None:
        self._upstream = upstream
        self._session = session

    async def conversation(self, request: web.Request) -> web.StreamResponse:
        """Forward one conversation."""
        headers = {name: request.headers[name] for name in _FORWARDED if name in request.headers}
        async with self._session.post(
            f"{self._upstream}{request.path}", data=await request.read(), headers=headers
        ) as upstream:
            response = web.StreamResponse(
                status=upstream.status, headers={"Content-Type": upstream.headers["Content-Type"]}
            )
            await response.prepare(request)
            async for data in upstream.content.iter_any():
                await response.write(data)
            await response.write_eof()
            return response

    async def ready(self, _: web.Request) -> web.Response:
        """Answer 200."""
        return web.Response()


async def _app(upstream: str) -> web.Application:
    app = web.Application()
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    server = Passthrough(upstream, session)
    app.add_routes(
        [
            web.post("/{path:.+}", server.conversation),
            web.get("/ready", server.ready),
        ]
    )

    async def close(_: web.Application) -> None:
        await session.close()

    app.on_cleanup.append(close)
    return app


def main(upstream: str, port: int) -> None:
    """Serve until SIGTERM."""
    loop = uvloop.new_event_loop()
    web.run_app(_app(upstream), host=HOST, port=port, access_log=None, print=None, loop=loop)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
