"""The way of a request: to a shared upstream that offers its model, or to Pandora-Next."""

from __future__ import annotations

from functools import partial
from typing import Protocol

from sanic import HTTPResponse, Request

from app.allowances import Allowances
from app.auth import Auth, Caller
from app.delivery import Delivery, PreparedRequest
from app.files.attachments import Attachments, Resources
from app.http.access_log import entry_of
from app.http.body import ReceivedBody, read_body
from app.relay import Asked, Relay
from app.relayed.requests import RelayedCount, decode_relayed, sort_of
from app.token_counts import count_relayed
from app.upstreams import SharedUpstreams
from runtime.large import work_on
from settings import Settings
from wire.jobs import ApiPath


class OwnHandler(Protocol):
    """Handler of requests for the upstream to which each client brings its own key."""

    async def prepare(
        self, request: Request, caller: Caller, received: ReceivedBody, resources: Resources
    ) -> PreparedRequest | HTTPResponse:
        """Prepare a request for the line, or answer it. Raises ApiError."""


class Router:
    """Decides which upstreams a request is for, and has it prepared for them."""

    def __init__(
        self,
        config: Settings,
        upstreams: SharedUpstreams,
        auth: Auth,
        allowances: Allowances,
        relay: Relay,
    ) -> None:
        self._config = config
        self._upstreams = upstreams
        self._auth = auth
        self._allowances = allowances
        self._relay = relay

    async def prepare(
        self, request: Request, path: ApiPath, own: OwnHandler | None, resources: Resources
    ) -> PreparedRequest | HTTPResponse:
        """Read a request and prepare it for the line. `own` takes what no shared upstream lists,
        and may answer it at once.

        Raises:
            ApiError: it is invalid, or there is no model for it.
        """
        caller = await self._auth.caller(request)
        await self._allowances.check(request, caller, sort_of(path))
        if own is None:
            self._auth.check_shared(caller)  # before it may send a large body
        body = await read_body(request, self._config.server, resources.reservation)
        asked = await self._asked(request, caller, path, own, body)
        if asked is not None:
            if isinstance(asked.call, RelayedCount):
                return await count_relayed(asked.call)
            return await self._relay.prepare(request, asked, resources)
        assert own is not None  # noqa: S101 - or it would have been asked of a shared upstream
        self._auth.check_own(caller)
        return await own.prepare(request, caller, body, resources)

    async def _asked(
        self,
        request: Request,
        caller: Caller,
        path: ApiPath,
        own: OwnHandler | None,
        body: ReceivedBody,
    ) -> Asked | None:
        """Return the request for a shared upstream; None if it is for `own`."""
        if not self._upstreams.are_configured:
            return None
        decode = partial(decode_relayed, path, body.content)
        call = await work_on(len(body.content), decode)
        entry_of(request).model = call.model
        sort = sort_of(path)
        lane = await self._upstreams.lane(sort, call.model)
        if lane is None:
            if own is not None:
                return None
            lane = await self._upstreams.lane_of_any(sort, call.model)
        self._auth.check_shared(caller)
        caller.check_model(call.model)
        return Asked(path, caller, lane, call, body)


class ModelRoute:
    """Handler of one path."""

    def __init__(
        self,
        path: ApiPath,
        own: OwnHandler | None,
        router: Router,
        delivery: Delivery,
        attachments: Attachments,
    ) -> None:
        self._path = path
        self._own = own
        self._router = router
        self._delivery = delivery
        self._attachments = attachments

    async def __call__(self, request: Request) -> HTTPResponse | None:
        """Answer one request.

        Raises:
            ApiError: the request failed before anything was sent.
        """
        async with self._attachments.resources() as resources:
            prepared = await self._router.prepare(request, self._path, self._own, resources)
            if isinstance(prepared, HTTPResponse):
                return prepared
            return await self._delivery.respond(request, prepared, resources)
