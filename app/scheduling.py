"""Scheduling parameters of a request: user, service tier, maximum wait, idempotency."""

from __future__ import annotations

import math
from typing import Literal

import msgspec
from msgspec.structs import replace
from sanic import Request

from app.auth import Caller
from app.idempotency import Idempotency
from app.openai.errors import BadRequest

Tier = Literal["flex", "default", "priority"]

SHARES: dict[Tier, float] = {"flex": 0.25, "default": 1.0, "priority": 4.0}
"""Factor of a job's share among the jobs of its own key, by its tier; see `wire/line/scripts`."""

BANDS: dict[Tier, float] = {"flex": 2e12, "default": 1e12, "priority": 0.0}
"""With `queue.strict_priority`: far beyond any tag, so that a higher tier is always first."""


class Scheduling(msgspec.Struct, frozen=True):
    """Scheduling parameters of a request.

    `user` is the client's own name for its user; `max_wait` is in seconds.
    """

    user: str = ""
    tier: Tier = "default"
    max_wait: float = math.inf
    idempotency: Idempotency | None = None

    def turn(self, number: int) -> Scheduling:
        """The parameters of one of several turns that a request takes, counted from 0."""
        if self.idempotency is None:
            return self
        return replace(self, idempotency=self.idempotency.turn(number))


def read_scheduling(
    request: Request,
    caller: Caller,
    user: str | int | None,
    service_tier: str | None,
    idempotency: Idempotency | None,
) -> Scheduling:
    """Read the parameters from a request's headers and its body's `user` and `service_tier`.

    The gateway key of its caller bounds the tier and the maximum wait.

    Raises:
        BadRequest: `X-Max-Wait` is not a number of seconds.
    """
    tier = service_tier if service_tier in SHARES else "default"
    max_wait = _max_wait(request.headers.get("x-max-wait"))
    if issued := caller.issued:
        tier = min(tier, issued.priority, key=list(SHARES).index)
        max_wait = max_wait if issued.max_wait is None else min(max_wait, issued.max_wait)
    return Scheduling("" if user is None else str(user), tier, max_wait, idempotency)


def bounded_tier(asked: str | None, scheduling: Scheduling) -> str:
    """Return the `service_tier` that goes upstream in place of the one that a client asked for, ""
    if it may have that."""
    return scheduling.tier if asked in SHARES and asked != scheduling.tier else ""


def _max_wait(header: str | None) -> float:
    if header is None:
        return math.inf
    try:
        seconds = float(header)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < math.inf:
        message = "`X-Max-Wait` must be a number of seconds, 0 or greater."
        raise BadRequest(message, param="X-Max-Wait")
    return seconds
