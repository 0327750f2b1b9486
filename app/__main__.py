"""`python -m app`: one front end, until SIGTERM (which lets the answers under way finish)."""

from __future__ import annotations

import logging
import os
import sys

from sanic import Sanic

import logs
import settings
from app.line import Line
from app.server import Server
from wire.redis import connect
from wire.seal import Seal, load_secret

logger = logging.getLogger("app")


def main() -> None:
    """Read the settings and serve."""
    try:
        config = settings.load()
    except settings.SettingsError as error:
        sys.exit(str(error))
    logs.configure(config.log.level)
    for name in settings.not_in_effect(config):
        logger.warning("setting %s is not in effect yet", name)
    seal = Seal(load_secret(config.directory, os.environ))
    app = Sanic("gateway", configure_logging=False)
    Server(config, Line(connect(config.redis.role_url), seal, config)).attach(app)
    app.run(config.server.host, config.server.port, single_process=True, motd=False)


if __name__ == "__main__":
    main()
