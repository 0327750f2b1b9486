"""The routes of operators, and all that answers them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import get_args

from app.admin.access import Access
from app.admin.acting import AccountAction, ActApi
from app.admin.actions import Actions
from app.admin.api import ReadApi
from app.admin.login import Login
from app.admin.page.acts import Acts
from app.admin.page.pages import Pages, Surroundings
from app.admin.page.routes import page_routes
from app.admin.page.views import Views
from app.admin.sessions import Sessions
from app.admin.sources import Sources
from app.admin.streams import Streams
from app.refusals import Handler, Refusals
from app.server import AdminRoutes, Route
from app.tally import Tally
from app.throttle import Throttle
from settings import Settings
from wire.keyring import Keyring
from wire.line.audit import Audit
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
    sources = Sources(redis, line, keyring)
    reads = ReadApi(access, sources, streams)
    actions = Actions(line, keyring, Audit(redis), seal)
    acts = ActApi(config.server, access, actions, sources)
    login = Login(config, sessions, access, refusals, Throttle())
    around = Surroundings(path, sessions)
    pages = Pages(around, access, Views(sources), streams)
    asking = Acts(config, around, access, actions, keyring, sources.forget)
    of = refusals.of
    routes = [
        *_routes(_READ, f"{path}/api", _reads(reads), of),
        *_routes(("GET",), f"{path}/api", {"events": reads.events}, of),
        *_routes(("POST",), f"{path}/api", _acts(acts), of),
        *_routes(("POST",), path, {"login": login.sign_in, "logout": login.sign_out}, of),
        *page_routes(around, pages, asking, refusals),
    ]
    return AdminRoutes(tuple(routes), path, streams.close)


def _reads(api: ReadApi) -> dict[str, Handler]:
    return {
        "board": api.board,
        "jobs": api.jobs,
        "jobs/<id>": api.story,
        "endings": api.endings,
        "history": api.history,
        "processes": api.processes,
        "keys": api.keys,
        "audit": api.audit,
    }


def _acts(api: ActApi) -> dict[str, Handler]:
    handlers: dict[str, Handler] = {
        "intake/pause": api.pause,
        "intake/resume": api.resume,
        "jobs/<id>/cancel": api.cancel,
        "workers/<id>/drain": api.drain,
        "keys": api.issue_key,
        "keys/<id>": api.change_key,
        "keys/<id>/revoke": api.revoke_key,
    }
    for action in get_args(AccountAction):
        handlers[f"accounts/<account>/{action}"] = api.account(action)
        handlers[f"accounts/<upstream>/<account>/{action}"] = api.account(action)
    return handlers


def _routes(
    methods: tuple[str, ...],
    folder: str,
    handlers: Mapping[str, Handler],
    of: Callable[[Handler], Handler],
) -> Iterator[Route]:
    """Yield a route for each path in a folder. Those that change something read a body."""
    for path, handler in handlers.items():
        name = re.sub(r"\W+", "_", f"admin {methods[0]} {path}").strip("_").lower()
        changes = methods == ("POST",)
        yield Route(name, methods, f"{folder}/{path}", of(handler), is_feature=changes)
