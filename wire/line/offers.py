"""Descriptions of upstreams: workers write them at every heartbeat, for scripts and front ends.

All upstreams of a lane run its jobs on keys' own accounts, or all on accounts that keys share.
"""

from __future__ import annotations

import msgspec

from wire.jobs import Sort


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """Description of an upstream that a worker serves.

    `own_accounts`: each key is passed through, and has an account of its own there, whose slots its
    jobs name. Otherwise `accounts` are the slots of each account that all keys share.
    `max_concurrency` is the number of conversations in all, 0 if only the accounts limit it.
    `about` is for front ends. After `circuit_failures` failures in a row the circuit opens.
    """

    upstream: str
    own_accounts: bool
    max_concurrency: int
    accounts: dict[str, int]
    lanes: list[str]
    about: bytes
    circuit_failures: int = 5

    @property
    def sorts(self) -> list[str]:
        """The sort of each lane."""
        return [lane.partition(":")[0] for lane in self.lanes]

    def for_redis(self, reserves: dict[Sort, int]) -> bytes:
        """The description as the script reads it, with the slots reserved for each sort."""
        sorts = self.sorts
        return msgspec.msgpack.encode(
            {
                "own": self.own_accounts,
                "max_concurrency": self.max_concurrency,
                "failures": self.circuit_failures,
                "accounts": self.accounts,
                "lanes": self.lanes,
                "reserves": {sort: slots for sort, slots in reserves.items() if sort in sorts},
                "several": len(set(sorts)) < len(sorts),
            }
        )


class LiveUpstream(msgspec.Struct, frozen=True):
    """An upstream that a worker has described in the last ten minutes.

    `open_for` is the number of seconds until it is tried again, None if its circuit is closed.
    """

    name: str
    own_accounts: bool
    max_concurrency: int
    lanes: list[str]
    about: bytes
    open_for: float | None
