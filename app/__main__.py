"""`python -m app`: front ends, until SIGTERM, after which open answers may finish.

One in this process, or `server.processes` of them in processes of their own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from typing import Any

from sanic import Sanic

import settings
from app.front_end import build_server
from app.http.connection import GatewayProtocol, GatewayRequest
from app.http.processes import Processes, inherited, listen
from runtime import logs
from runtime.permissions import restrict_new_files
from settings.loader import load
from wire.line.scripts import WrongVersionError, upgrade
from wire.seal import Seal, load_secret

logger = logging.getLogger("app")


def main() -> None:
    """Read the settings and serve."""
    socket_of_parent = inherited(sys.argv[1:])
    try:
        config = load()
        restrict_new_files()
        logs.configure(config.log, config.directory)
        seal = Seal(load_secret(config.directory, os.environ))
        front_end = build_server(config, seal)
        asyncio.run(upgrade(config.redis.role_url, seal.fingerprint))
        listener = socket_of_parent or listen(config.server)
    except (settings.SettingsError, WrongVersionError) as error:
        sys.exit(str(error))
    server = config.server
    if socket_of_parent is None:
        logger.info(
            "listening",
            extra={
                "event": "listening",
                "host": server.host,
                "port": server.port,
                "redis": config.redis.role_url,
            },
        )
        if server.processes > 1:
            asyncio.run(Processes(listener, server.processes, server.drain_timeout).run())
            return
    app: Sanic[Any, Any] = Sanic("gateway", configure_logging=False, request_class=GatewayRequest)
    front_end.attach(app)
    if socket_of_parent is not None:
        # A signal to a whole group of processes reaches a child twice, directly and through its
        # parent. The second one must not cut its draining short.
        app.register_listener(_ignore_signals, "before_server_stop")
    app.run(sock=listener, protocol=GatewayProtocol, single_process=True, motd=False)
    if front_end.wrong_version:
        sys.exit(str(front_end.wrong_version))


async def _ignore_signals(_: Sanic[Any, Any]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


if __name__ == "__main__":
    main()
