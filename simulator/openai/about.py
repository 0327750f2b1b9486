"""Answers to `GET`: models, health, and the number of slots in the words of each server."""

from __future__ import annotations

from aiohttp import web

from simulator.openai.errors import ERRORS, RefusedError, llama
from simulator.openai.likeness import Like
from simulator.openai.state import State

_TELLS: dict[str, Like] = {
    "/props": "llama",
    "/slots": "llama",
    "/metrics": "llama",
    "/server_info": "sglang",
    "/v1/model": "tabby",
}


class About:
    """The handlers."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def models(self, request: web.Request) -> web.StreamResponse:
        """List the models; each has its own name as an alias, like in llama.cpp."""
        self._check(request)
        data = [
            {
                "id": name,
                "aliases": [name],
                "object": "model",
                "created": 0,
                "owned_by": "simulator",
            }
            for name in self._state.config.models
        ]
        return web.json_response({"object": "list", "data": data})

    async def health(self, request: web.Request) -> web.StreamResponse:
        """Answer also without a key."""
        self._refuse({"loading"})
        return web.json_response({"status": "ok"})

    async def props(self, request: web.Request) -> web.StreamResponse:
        """Tell the number of slots as llama.cpp does."""
        self._check(request)
        model = self._state.config.models[0] if self._state.config.models else ""
        slots = self._state.config.slots
        return web.json_response({"total_slots": slots, "model_alias": model, "is_sleeping": False})

    async def slots(self, request: web.Request) -> web.StreamResponse:
        """Tell which slots are taken."""
        self._check(request)
        slots = self._state.slots
        listed = [{"id": n, "is_processing": n < slots.taken} for n in range(slots.total)]
        if request.query.get("fail_on_no_slot") and slots.taken == slots.total:
            raise RefusedError(ERRORS["no_slot"])
        return web.json_response(listed)

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """Tell how many requests run and wait, in the words of llama.cpp."""
        self._check(request)
        slots = self._state.slots
        values = {"requests_processing": slots.taken, "requests_deferred": slots.deferred}
        return web.Response(text="".join(f"llamacpp:{k} {v}\n" for k, v in values.items()))

    async def server_info(self, request: web.Request) -> web.StreamResponse:
        """Tell the number of slots as SGLang does."""
        self._check(request)
        return web.json_response({"max_running_requests": self._state.config.slots})

    async def model(self, request: web.Request) -> web.StreamResponse:
        """Tell the number of slots as TabbyAPI does."""
        self._check(request)
        config = self._state.config
        parameters = {"max_batch_size": config.slots, "max_seq_len": 8192}
        return web.json_response({"id": config.models[0], "parameters": parameters})

    def _check(self, request: web.Request) -> None:
        self._refuse({"loading", "unauthorized", "unauthorized_text", "forbidden"})
        authorize(self._state, request)
        self._state.counts.looked_up += 1
        if _TELLS.get(request.path, self._state.config.like) != self._state.config.like:
            raise RefusedError(NOT_FOUND)

    def _refuse(self, errors: set[str]) -> None:
        """Refuse if the posted script has one of these errors."""
        posted = self._state.scripts.posted
        if posted is not None and posted.error in errors and posted.fault is None:
            raise RefusedError(ERRORS[posted.error])


NOT_FOUND = llama(404, "File Not Found", "not_found_error")


def authorize(state: State, request: web.Request) -> None:
    """Raise RefusedError (401) unless the request has the key, as a bearer or `X-Api-Key`."""
    key = state.config.api_key
    bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if key and request.headers.get("X-Api-Key", bearer) != key:
        state.counts.refused += 1
        raise RefusedError(ERRORS["unauthorized"])
