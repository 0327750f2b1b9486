"""Refusals of callers that keep coming: they are answered late.

A refused request holds nothing but its connection by then, so to let its client wait costs less
than its next request. The number of those that wait is bounded.
"""

from __future__ import annotations

from asyncio import sleep
from collections.abc import Callable, Coroutine
from random import uniform
from typing import Any

from sanic import HTTPResponse, Request

import settings
from app.http.access_log import entry_of
from app.http.address import client_address
from app.http.connection import GatewayHttp
from app.openai.errors import ApiError, Late, TooManyWrongKeys
from app.tally import Tally
from app.throttle import Throttle

WAITING = 1000
"""Refused requests that wait at the same time. Further ones are answered at once."""

SPREAD = 0.5, 1.0
"""Range of the part of a delay that a client really waits: else those who came together would come
together again, and all others would have to wait for them."""

Handler = Callable[..., Coroutine[Any, Any, HTTPResponse | None]]


class Refusals:
    """Delays the refusals of one front end, by key or by address, and counts them."""

    def __init__(self, server: settings.Server, throttle: Throttle, tally: Tally) -> None:
        self._server = server
        self._throttle = throttle
        self._tally = tally
        self._waiting = 0

    def of(self, handler: Handler) -> Handler:
        """Wrap a handler, so that its refusals are delayed. It must hold nothing by then."""

        async def handle(request: Request, **named: object) -> HTTPResponse | None:
            try:
                return await handler(request, **named)
            except ApiError as failure:
                refusal = self._counted(request, failure)
                refusal.__traceback__ = None  # its frames hold the request's body
            try:
                await self._delay(request, refusal)
                raise refusal
            finally:
                del refusal  # it refers to this frame: a cycle would hold both for long

        return handle

    def _counted(self, request: Request, failure: ApiError) -> ApiError:
        """Count a wrong key; return the failure that its client gets."""
        if failure.late != "address":
            return failure
        self._tally.count("gateway_wrong_keys_total")
        excess = self._throttle.excess(self._name(request, failure))
        if not excess:
            return failure
        refusal = TooManyWrongKeys()
        refusal.retry_after = excess
        return refusal

    async def _delay(self, request: Request, failure: ApiError) -> None:
        if not failure.late:
            return
        seconds = self._throttle.refuse(self._name(request, failure))
        waited = await self.wait(request, seconds, failure.late)
        if failure.retry_after is not None:
            failure.retry_after = max(0.0, failure.retry_after - waited)

    async def wait(self, request: Request, seconds: float, late: Late = "address") -> float:
        """Let a client wait for its refusal; return the seconds that it has waited.

        Its handler must hold nothing by then.
        """
        if not seconds or self._waiting >= WAITING:
            return 0.0
        seconds *= uniform(*SPREAD)  # noqa: S311 - not a secret
        self._tally.count("gateway_late_refusals_total", by=late)
        if isinstance(request.stream, GatewayHttp):
            request.stream.protocol.waits()  # a new connection may take its place
        self._waiting += 1
        try:
            await sleep(seconds)
        finally:
            self._waiting -= 1
        return seconds

    def _name(self, request: Request, failure: ApiError) -> str:
        if failure.late == "key":
            return f"key {entry_of(request).key}"
        return f"address {client_address(request, self._server)}"
