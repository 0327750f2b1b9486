"""Records of running jobs: claims, verdicts on them, and results of requeueing."""

from __future__ import annotations

from typing import Literal

import msgspec

Cancellation = Literal[
    "cancel",  # no reader is left
    "revoked",  # its key was revoked
    "operator",  # an operator cancelled it
]
"""Reason for which a running job was cancelled: its worker has to stop and finish it."""

Verdict = Literal[Cancellation, "lost"]
"""Reason for which a worker has to stop a job that it holds. `lost`: the lease is not this worker's
any more, and another process finishes the job."""


Requeued = Literal[
    "requeued",  # it waits again
    "not_current",  # this attempt is not running any more, or has begun: nothing was changed
    "cancelled",  # it was cancelled meanwhile: it must be finished instead, for its readers
    "revoked",  # its key was revoked meanwhile, and running jobs have to end
    "operator",  # an operator cancelled it meanwhile
    "exhausted",  # no retries are left, or its deadline passed: it must be finished instead
]
"""Result of requeueing a job."""


class Claim(msgspec.Struct, frozen=True):
    """A job that this worker may run now, on this account of this upstream.

    `front_ends` are those that receive its events.
    """

    upstream: str
    account: str
    lane: str
    id: str
    attempt: int
    key: str
    family: str
    front_ends: list[str]
    body: bytes

    @property
    def on_own_account(self) -> bool:
        """True if the account is the key's own, so that no other can take its jobs."""
        return self.account == self.key


class StalledJob(msgspec.Struct, frozen=True):
    """A job whose lease expired after it had begun or was cancelled: it must be finished."""

    id: str
    attempt: int
    front_ends: list[str]
    cancelled: Cancellation | None = None
