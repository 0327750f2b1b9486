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

    def for_redis(self, reserves: dict[Sort, int]) -> bytes:
        """The description as the script reads it, with the slots reserved for each sort."""
        return msgspec.msgpack.encode(
            {
                "own": self.own_accounts,
                "max_concurrency": self.max_concurrency,
                "failures": self.circuit_failures,
                "accounts": self.accounts,
                "lanes": self.lanes,
                "reserves": reserves,
            }
        )


class _Described(msgspec.Struct, frozen=True):
    lanes: list[str]


def lanes_of(described: bytes) -> list[str]:
    """Return the lanes of a description, as `Offer.for_redis` encodes it.

    The upstream may serve others besides: jobs that came before it left them.
    """
    return sorted(msgspec.msgpack.decode(described, type=_Described).lanes)


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
