"""Check of the limits of gateway keys before a request costs anything: its body is not read yet.

The limits are counted when a job is admitted (`wire/line/scripts/modules/allowance.lua`). Here only
requests are refused that would be refused there, as it was at most half a second ago.
"""

from __future__ import annotations

import asyncio

from msgspec.structs import replace
from sanic import HTTPResponse, Request

from app.auth import Caller, OfCaller
from app.idempotency import key_name
from app.openai.errors import LineUnavailable, refusal_error
from app.readings import Readings
from app.tally import Tally
from wire.jobs import Sort
from wire.line.admission import Refused
from wire.line.front_end import FrontEndLine
from wire.redis.outage import REDIS_ERRORS
from wire.seal import Seal

FRESH = 0.5
"""Seconds for which it is remembered that a key would be refused, or would not be."""


class Allowances:
    """Refusals of gateway keys as one front end knows them."""

    def __init__(self, line: FrontEndLine, seal: Seal, tally: Tally) -> None:
        self._is_named = line.is_named
        self._readings = Readings(line.refusal)
        self._seal = seal
        self._tally = tally

    async def check(self, request: Request, caller: Caller, sort: Sort) -> None:
        """Refuse a request if its key may have no job now.

        Raises:
            RateLimited, QuotaSpent, KeyRevoked: it may not.
            LineUnavailable: Redis is unreachable.
        """
        key = caller.issued
        if key is None or not (key.requests_per_minute or key.budget_day or key.budget_month):
            return
        refused = await self._refusal(key.id)
        if refused is None or await self._attaches(request, caller):
            return
        self._tally.count("gateway_refusals_total", lane=sort, reason=refused.reason)
        raise refusal_error(refused)

    def before(self, handler: OfCaller, sort: Sort) -> OfCaller:
        """Make a handler of requests that are checked first."""

        async def handle(request: Request, caller: Caller) -> HTTPResponse | None:
            await self.check(request, caller, sort)
            return await handler(request, caller)

        return handle

    async def _refusal(self, id: str) -> Refused | None:
        """Return the refusal of the next request, with the time that is left of it."""
        refused, read = await self._readings.get(id, FRESH)
        now = asyncio.get_running_loop().time()
        if refused and read + refused.retry_after <= now:  # it may be over
            refused, read = await self._readings.get(id, 0.0)
        if refused is None:
            return None
        return replace(refused, retry_after=max(0.0, read + refused.retry_after - now))

    async def _attaches(self, request: Request, caller: Caller) -> bool:
        """Return True if a request reads the answer of an earlier one, which is always allowed."""
        if not (key := request.headers.get("idempotency-key")):
            return False
        try:
            return await self._is_named(key_name(self._seal, caller.identity, key))
        except REDIS_ERRORS:
            raise LineUnavailable from None
