"""Jobs that run: what the line hands to a worker, and what it says of them later."""

from __future__ import annotations

from typing import Literal

import msgspec

from wire.jobs import Family, Lane

Verdict = Literal[
    "lost",  # it is not this worker's any more: somebody else ends it
    "cancel",  # nobody wants it: end it
]
"""Why a worker has to let go of a job that it holds."""


PutBack = Literal[
    "back",  # it waits again
    "not_ours",  # this attempt does not run any more, or has begun: nothing was changed
    "cancelled",  # meanwhile: it has to be ended instead, so that its readers hear of it
    "spent",  # it has been retried often enough, or its time is up: it has to be ended instead
]
"""What came of putting back a job into the line."""


class Claim(msgspec.Struct, frozen=True):
    """A job that this worker may run now. `fronts` are the front ends that wait for its events."""

    lane: Lane
    id: str
    attempt: int
    account: str
    family: Family
    fronts: list[str]
    body: bytes


class Lapsed(msgspec.Struct, frozen=True):
    """A job whose worker is gone and which somebody has to end."""

    id: str
    attempt: int
    fronts: list[str]
    cancelled: bool
