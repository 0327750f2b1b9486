"""One request that is relayed to a shared upstream, in any of its dialects (`app/relayed/`)."""

from __future__ import annotations

from functools import partial

import msgspec
from sanic import Request

from app.auth import Caller
from app.delivery import PreparedRequest, Rendering, rendering_options
from app.files.attachments import Attachments, Resources
from app.http.access_log import entry_of
from app.http.body import ReceivedBody
from app.idempotency import read_idempotency
from app.job_ids import accepted_at, new_job_id
from app.line import seal_relayed
from app.openai.errors import BadRequest
from app.relayed.form import Head
from app.relayed.forms import FORMS
from app.relayed.rendering import RelayedRendering
from app.relayed.requests import ID_PREFIXES, RelayedRequest
from app.scheduling import Scheduling, bounded_tier, read_scheduling
from app.upstreams import SharedLane
from settings import Settings
from store.blobs import LARGE
from wire import VERSION
from wire.jobs import ApiPath, RelayedJob
from wire.seal import Seal

_COUNTS = "`n`, `n_cmpl`, `best_of` and the number of prompts"


class Asked(msgspec.Struct):
    """A request that a shared upstream can answer."""

    path: ApiPath
    caller: Caller
    lane: SharedLane
    call: RelayedRequest
    body: ReceivedBody


class RelayedForm(msgspec.Struct, frozen=True):
    """Form of the answer that a request asks for. `model` is the client's name for it."""

    path: ApiPath
    model: str
    stream: bool
    include_usage: bool


class Relay:
    """Makes jobs of requests that are relayed."""

    def __init__(self, config: Settings, seal: Seal, attachments: Attachments) -> None:
        self._config = config
        self._seal = seal
        self._attachments = attachments

    async def prepare(
        self, request: Request, asked: Asked, resources: Resources
    ) -> PreparedRequest:
        """Prepare a request for the line.

        Raises:
            ApiError: it is invalid, or too large for now.
        """
        call, path = asked.call, asked.path
        if call.slots > asked.lane.most:
            raise BadRequest(_too_many(asked.lane), param="n")
        body = asked.body.take()
        idempotency = await read_idempotency(request.headers, request.path, body, self._seal)
        scheduling = read_scheduling(
            request, asked.caller, call.user_name, call.service_tier, idempotency
        )
        is_long = len(body) > LARGE
        job = RelayedJob(
            version=VERSION,
            id=new_job_id(ID_PREFIXES[path]),
            path=path,
            model=call.model,
            key=asked.caller.fingerprint,
            body=b"" if is_long else bytes(body),
            offloaded=await self._attachments.offload(body, 0, resources) if is_long else None,
            choices=call.choices,
            tier=bounded_tier(call.service_tier, scheduling),
            trace=entry_of(request).span.traceparent,
        )
        form = RelayedForm(path, call.model, call.is_streamed, call.include_usage)
        sealed = seal_relayed(self._seal, job, asked.caller, asked.lane.name, call.slots)
        render = partial(self._rendering, request, form, scheduling)
        return PreparedRequest(sealed, scheduling, form.stream, render)

    def _rendering(
        self, request: Request, asked: RelayedForm, scheduling: Scheduling, id: str
    ) -> Rendering:
        form = FORMS[asked.path](Head(id, accepted_at(id), asked.model))
        options = rendering_options(request, scheduling, id, self._config.stream)
        options = msgspec.structs.replace(options, include_usage=asked.include_usage)
        return RelayedRendering(form, options, None if asked.stream else form.fold())


def _too_many(lane: SharedLane) -> str:
    if lane.most == 1:
        return f"{_COUNTS} must be 1: each more takes another slot."
    why = ": the server has no more slots" if lane.slots < lane.max_n else ""
    return f"{_COUNTS} must make at most {lane.most} choices{why}."
