"""How many jobs, leases, accounts and workers there are at one moment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec


class LaneCensus(msgspec.Struct, frozen=True):
    """One lane's jobs by their state, and the leases, also those that ended a moment ago."""

    waiting: int = 0
    running: int = 0
    leases: int = 0


class Census(msgspec.Struct, frozen=True):
    """The line at one moment. `accounts` counts those that may not be used, by the reason.

    `open_for` is how many more seconds the upstream is left alone, None if its circuit is closed.
    """

    lanes: dict[str, LaneCensus]
    accounts: dict[str, int]
    workers: int
    open_for: float | None = None


TakeCensus = Callable[[], Awaitable[Census]]
"""Takes a census of the whole gateway. Raises redis.RedisError while Redis is away."""
