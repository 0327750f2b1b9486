"""Serving of an application inside a process."""

from __future__ import annotations

from contextlib import AsyncExitStack

from aiohttp import web


async def listen(stack: AsyncExitStack, app: web.Application, host: str, port: int) -> int:
    """Serve an application until the stack is closed, and return its port.

    Port 0 takes a free one. Raises OSError if it cannot listen at the address.
    """
    runner = web.AppRunner(
        app,
        # A disconnected client must end its conversation even while nothing is being written.
        handler_cancellation=True,
        access_log=None,
        shutdown_timeout=0.1,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, host, port, backlog=1024).start()
    bound: int = runner.addresses[0][1]
    return bound


def url_of(host: str, port: int) -> str:
    """Return the URL of a server that listens at an address."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
