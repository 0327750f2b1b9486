"""`python -m app`: one front end, until SIGTERM (which lets the answers under way finish)."""

from __future__ import annotations

import logging
import os
import socket
import sys

from sanic import Sanic

import logs
import settings
from app.line import Line
from app.server import GatewayRequest, Server
from wire.redis import connect
from wire.seal import Seal, WeakSecretError, load_secret

logger = logging.getLogger("app")


def main() -> None:
    """Read the settings and serve."""
    try:
        config = settings.load()
        seal = Seal(load_secret(config.directory, os.environ))
        listening = listen(config.server)
    except (settings.SettingsError, WeakSecretError) as error:
        sys.exit(str(error))
    logs.configure(config.log.level)
    for name in settings.not_in_effect(config):
        logger.warning("setting %s is not in effect yet", name)
    app = Sanic("gateway", configure_logging=False, request_class=GatewayRequest)
    Server(config, Line(connect(config.redis.role_url), seal, config)).attach(app)
    logger.info("listening on %s port %d", config.server.host, config.server.port)
    app.run(sock=listening, single_process=True, motd=False)


def listen(server: settings.Server) -> socket.socket:
    """The socket that clients connect to.

    Raises:
        settings.SettingsError: nobody can listen there.
    """
    try:
        family, *_, address = socket.getaddrinfo(
            server.host, server.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address, family=family, backlog=1024)
    except OSError as error:
        raise settings.SettingsError(
            f"server.host and server.port: cannot listen on {server.host} port {server.port}: "
            f"{error.strerror}"
        ) from None


if __name__ == "__main__":
    main()
