"""`python -m app`: front ends, until SIGTERM (which lets the answers under way finish).

One in this process, or `server.processes` of them in processes of their own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from typing import Any

from sanic import Sanic

import settings
from app.http.processes import Processes, inherited, listen
from app.line import Line
from app.metrics import Metrics
from app.server import GatewayRequest, Server
from runtime import logs
from settings.loader import load
from store.blobs import Blobs, open_blobs
from store.media import Media, MediaError, open_media
from wire.line.scripts import Scripts
from wire.line.upkeep import UpkeepLine
from wire.redis.client import connect
from wire.seal import Seal, WeakSecretError, load_secret

logger = logging.getLogger("app")


def main() -> None:
    """Read the settings and serve."""
    given = inherited(sys.argv[1:])
    try:
        config = load()
        logs.configure(config.log, config.directory)
        seal = Seal(load_secret(config.directory, os.environ))
        media = open_media(config.media, config.directory)
        blobs = open_blobs(config, seal)
        listening = given or listen(config.server)
    except (settings.SettingsError, WeakSecretError, MediaError) as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(
            f"the secret in {error.filename} cannot be read or made: {error.strerror};"
            " name another file in GATEWAY_SECRET_FILE, or give the secret as GATEWAY_SECRET"
        )
    if given is not None:
        serve(config, seal, media, blobs, given, of_many=True)
        return
    server = config.server
    redis = config.redis.role_url
    logger.info("listening on %s port %d, Redis is %s", server.host, server.port, redis)
    if server.processes == 1:
        serve(config, seal, media, blobs, listening)
    else:
        asyncio.run(Processes(listening, server.processes, server.drain_timeout).run())


def serve(
    config: settings.Settings,
    seal: Seal,
    media: Media,
    blobs: Blobs,
    listening: socket.socket,
    *,
    of_many: bool = False,
) -> None:
    """Run one front end in this process."""
    app = Sanic("gateway", configure_logging=False, request_class=GatewayRequest)
    redis = connect(config.redis.role_url)
    upkeep = UpkeepLine(Scripts(redis, seal.fingerprint), config.queue, config.upstream)
    metrics = Metrics(redis, upkeep.snapshot, config)
    Server(config, Line(redis, seal, config), media, blobs, metrics).attach(app)
    if of_many:
        # Whoever signals a whole group of processes signals a child twice, directly and by way of
        # its parent. The second one shall not cut its draining short.
        app.register_listener(_ignore_signals, "before_server_stop")
    app.run(sock=listening, single_process=True, motd=False)


async def _ignore_signals(_: Sanic[Any, Any]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


if __name__ == "__main__":
    main()
