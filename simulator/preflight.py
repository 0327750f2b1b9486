"""Endpoints that are used before a conversation: Arkose tokens and socket registration."""

from __future__ import annotations

from uuid import uuid4

from aiohttp import web

from simulator.errors import RefusedError, detail, invalid, web_page
from simulator.handlers import bearer_of, side_host
from simulator.state import State


class Preflight:
    """Handlers of both."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def arkose(self, request: web.Request) -> web.Response:
        """Give a token for the form `type=gpt-4`."""
        form = await request.post()
        if form.get("type") != "gpt-4":
            raise RefusedError(invalid(["type"], "the type must be gpt-4"))
        match self._state.scripts.standing(None).token:
            case "html":
                raise RefusedError(web_page(200))
            case "500":
                raise RefusedError(detail(500, "No token is available."))
            case "empty":
                return web.json_response({"token": ""})
            case None:
                pass
        token = f"{uuid4().hex}|r=us-east-1|meta=3|pk=simulator"
        self._state.arkose.add(token)
        self._state.counts.arkose += 1
        return web.json_response({"token": token})

    async def register(self, request: web.Request) -> web.Response:
        """Give an address for the account's socket."""
        bearer = bearer_of(request)
        fault = self._state.scripts.standing(bearer).register
        if fault == "html":
            raise RefusedError(web_page(200))
        if fault == "404":
            raise RefusedError(detail(404, "Not Found"))
        self._state.counts.registered += 1
        host = side_host(request, self._state.side_port)
        address: dict[str, str | None] = {**self._state.hub.register(bearer, host)}
        if fault == "nowhere":
            address["wss_url"] = None
        return web.json_response(address)
