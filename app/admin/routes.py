"""The routes of operators, and all that answers them."""

from __future__ import annotations

from app.admin.access import Access
from app.admin.api import ReadApi
from app.admin.boards import Boards
from app.admin.ledger import Ledgers
from app.admin.login import Login
from app.admin.sessions import Sessions
from app.admin.streams import Streams
from app.refusals import Handler, Refusals
from app.server import AdminRoutes, Route
from app.tally import Tally
from app.throttle import Throttle
from settings import Settings
from wire.keyring import Keyring
from wire.line.operator import OperatorLine
from wire.redis.client import Redis
from wire.seal import Seal

_READ = ("GET", "HEAD")


def admin_routes(
    config: Settings,
    seal: Seal,
    redis: Redis,
    line: OperatorLine,
    keyring: Keyring,
    tally: Tally,
) -> AdminRoutes:
    """Make the routes of operators; none if the settings have neither a password nor a token."""
    path = f"{config.server.api_prefix}/admin"
    if not config.admin.is_on:
        return AdminRoutes((), "")
    sessions = Sessions(config.admin, seal)
    access = Access(config, sessions)
    refusals = Refusals(config.server, Throttle(), tally)
    streams = Streams()
    api = ReadApi(access, line, Boards(line, keyring), Ledgers(redis, keyring), streams)
    login = Login(config, sessions, access, refusals, Throttle())
    of = refusals.of
    reads: dict[str, Handler] = {
        "board": api.board,
        "jobs": api.jobs,
        "jobs/<id>": api.story,
        "endings": api.endings,
        "keys": api.keys,
    }
    routes = [
        *(
            Route(f"admin_{part.replace('/<id>', '_show')}", _READ, f"{path}/api/{part}", of(read))
            for part, read in reads.items()
        ),
        Route("admin_events", ("GET",), f"{path}/api/events", of(api.events)),
        Route("admin_sign_in", ("POST",), f"{path}/login", of(login.sign_in), is_feature=True),
        Route("admin_sign_out", ("POST",), f"{path}/logout", of(login.sign_out), is_feature=True),
    ]
    return AdminRoutes(tuple(routes), path, streams.close)
