"""`python -m app`: front ends, until SIGTERM, after which open answers may finish.

This process listens, and starts `server.processes` front ends (`app/front_end.py`), which serve.
SIGHUP replaces them: new ones start, from the code and the settings of that time, and once they are
ready, the former ones finish their answers and exit.

With the name of a command it does something else; each explains itself with `--help`: `status` and
`top` show the state of the gateway, `chat` asks a question, `keys` issues and revokes gateway keys,
and `usage` prints what keys have used.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from importlib import import_module

import settings
from app.http.sockets import address, listen, listen_for_operators, passed_by_systemd
from app.supervision import supervision
from app.supervisor import Supervisor
from runtime import logs
from runtime.command_line import parse_no_arguments
from runtime.permissions import restrict_new_files
from settings.environment import log_misspelt
from settings.loader import load

logger = logging.getLogger("app")

COMMANDS = ("chat", "keys", "status", "top", "usage")
"""Modules of `app/commands`. The parent of front ends, which lives long, needs none of them."""


def main() -> None:
    """Read the settings and serve, or carry out a command."""
    if sys.argv[1:] and sys.argv[1] in COMMANDS:
        import_module(f"app.commands.{sys.argv[1]}").main(sys.argv[2:])
        return
    parse_no_arguments("app", __doc__)
    try:
        config = load()
        restrict_new_files()
        logs.configure(config.log, config.directory)
        passed = passed_by_systemd(os.environ)
        listener = passed or listen(config.server)
        admin = listen_for_operators(config)
    except settings.SettingsError as error:
        sys.exit(str(error))
    log_misspelt(os.environ)
    servers = {"address": address(listener), "redis": config.redis.role_url}
    if admin is not None:
        servers["admin"] = address(admin)
    logger.info("listening", extra={"event": "listening", **servers})
    listeners = [listener] if admin is None else [listener, admin]
    supervisor = Supervisor(listeners, supervision(config), is_ours=passed is None)
    sys.exit(asyncio.run(supervisor.run()))


if __name__ == "__main__":
    main()
