"""Numbers of jobs, leases, accounts and workers at one time: the gauges of the whole gateway."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec


class SortSnapshot(msgspec.Struct, frozen=True):
    """The jobs of one sort by state, and its leases, including those that have just expired."""

    waiting: int = 0
    running: int = 0
    leases: int = 0


class Snapshot(msgspec.Struct, frozen=True):
    """The line at one time. `accounts` counts keys' own that cannot be used in full, by reason;
    `shared` all accounts that keys share, by upstream and state.

    `open_for` is the number of seconds until the upstream is tried again, None if its circuit is
    closed; `settling` the number of seconds until jobs are claimed again after a disturbance;
    `served` the number of upstreams that live workers have described, and `slots` the number of
    their slots; `paused` that of the pauses, by their kind.
    """

    sorts: dict[str, SortSnapshot]
    accounts: dict[str, int]
    workers: int
    open_for: float | None = None
    settling: float = 0.0
    served: int = 0
    shared: dict[str, dict[str, int]] = {}
    slots: int = 0
    paused: dict[str, int] = {}


TakeSnapshot = Callable[[], Awaitable[Snapshot]]
"""Take a snapshot of the whole gateway. Raises redis.RedisError if Redis is unreachable."""
