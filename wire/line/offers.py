"""Descriptions of upstreams: workers write them at every heartbeat, for scripts and front ends.

Jobs of a lane without a model run on their keys' own accounts, all others on accounts that keys
share. One upstream may offer lanes of both sorts.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from wire.jobs import Sort


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """Description of an upstream that a worker serves.

    `accounts` are the slots of each account that all keys share, and `tokens` the names of their
    tokens, if they have any: another name means another token. `max_concurrency` is the number of
    conversations in all, 0 if only the accounts limit it; it has to be set if keys have accounts of
    their own there. `about` is for front ends. After `circuit_failures` failures in a row the
    circuit opens.
    """

    upstream: str
    max_concurrency: int
    accounts: dict[str, int]
    lanes: list[str]
    about: bytes
    tokens: dict[str, str] = {}
    circuit_failures: int = 5

    def for_redis(self, reserves: dict[Sort, int]) -> bytes:
        """The description as the script reads it, with the slots reserved for each sort."""
        return msgspec.msgpack.encode(
            {
                "max_concurrency": self.max_concurrency,
                "failures": self.circuit_failures,
                "accounts": self.accounts,
                "tokens": self.tokens,
                "lanes": self.lanes,
                "reserves": reserves,
            }
        )


class Described(msgspec.Struct, frozen=True):
    """Part of a description that front ends need.

    The upstream may serve other lanes besides: jobs that came before it left them.
    """

    lanes: list[str]
    accounts: dict[str, int]


def read_description(described: bytes) -> Described:
    """Read a description, as `Offer.for_redis` encodes it."""
    return msgspec.msgpack.decode(described, type=Described)


AsideReason = Literal[
    "token_refused",  # the upstream refused its token
    "deactivated",  # the upstream has deactivated it
]
"""Reason for which an account is set aside."""


class Aside(msgspec.Struct, frozen=True):
    """An account that was set aside, and has given no answer since; it is tried again after some
    seconds, 0 if with the next job.
    """

    account: str
    reason: str
    seconds: float


class LiveUpstream(msgspec.Struct, frozen=True):
    """An upstream that a worker has described in the last ten minutes.

    `open_for` is the number of seconds until it is tried again, None if its circuit is closed.
    `accounts` are the slots of those that all keys share; `aside` are those of them that are set
    aside.
    """

    name: str
    max_concurrency: int
    lanes: list[str]
    accounts: dict[str, int]
    about: bytes
    open_for: float | None
    aside: list[Aside]
