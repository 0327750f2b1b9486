"""What the line is told of a new job, and what it answers."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from wire.jobs import Family, Lane


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """What the line has to know of a job. Accounts, users and idempotency keys are HMACs.

    `front_end` is the one that enqueues it. `cap` is how many conversations the account may hold at
    once, `weight` its key's part of the slots, `tier` the job's part among its key's users,
    `band` what goes before any tag of theirs. `bytes` is what it keeps in memory. `max_wait` is the
    caller's own limit, in seconds. `idem` is the idempotency key that it came with, `digest` of
    what request; `resumes`: its client has had part of the answer, so another job is of no use to
    it. `accepted`: it has been let in before, and vanished with a Redis that was restarted.
    """

    id: str
    account: str
    front_end: str
    lane: Lane = "chat"
    family: Family = "gpt_4_s"
    cap: int = 1
    user: str = ""
    weight: float = 1.0
    tier: float = 1.0
    band: float = 0.0
    bytes: int = 0
    max_wait: float = math.inf
    idem: str | None = None
    digest: str = ""
    resumes: bool = False
    accepted: bool = False


class Accepted(msgspec.Struct, frozen=True):
    """The job waits, or may run at once: its place counted from 1, and its wait in seconds."""

    place: int
    wait: float


class Attached(msgspec.Struct, frozen=True):
    """The job with this id, accepted earlier under the same idempotency key, is read instead."""

    id: str


RefusalReason = Literal[
    "queue_full",  # as many wait as may
    "key_full",  # as many of this key wait as may
    "too_many_bytes",  # what waits keeps as much memory as it may
    "wait_too_long",  # longer than the gateway, or the caller, wants anybody to wait
    "model_capped",  # the upstream allows this account no more of this family of models for now
    "no_worker",  # nobody is there to run it
    "circuit_open",  # the upstream fails for everyone
]


class Refused(msgspec.Struct, frozen=True):
    """The job was not let in; `retry_after` (seconds) is when to come back."""

    reason: RefusalReason
    retry_after: float


class Clash(msgspec.Struct, frozen=True):
    """The idempotency key belongs to another request, or leads to no answer that can be read."""

    why: Literal["mismatch", "lost"]


Admission = Accepted | Attached | Refused | Clash
