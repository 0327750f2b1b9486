"""Admission of a new job to the line: its description, and the decision."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from wire.line.usage import PASSTHROUGH


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """Description of a new job. Keys, users and idempotency keys are HMACs.

    `front_end` is the one that enqueues it. `own_slots` is the number of conversations that the
    key's own account may hold at once; 0 if the job runs on an account of the upstream instead.
    `key_slots` is the number of jobs that the key may have at once, 0 for no limit. `family` is the
    kind of model that the key's own account may use up; other jobs have that of their lane. `slots`
    is the number of slots that it takes, if its account has as many. `weight` is the key's part of
    the slots, `tier` the job's part among its key's users, `band` an offset that goes before all
    their tags. `bytes` is the memory that it takes. `max_wait` is the client's own limit, in
    seconds. `idem` is its idempotency key and `digest` identifies the request under that key.
    `resumes`: its client has received part of the answer, so another job would be useless to it.
    `accepted`: it was admitted before, and lost by Redis. `issued` is the id of the issued key
    whose record has the limits of the job, also its `weight` and `key_slots`; "" for other keys.

    Its usage is counted under `book`, the fingerprint of a key of this gateway or else
    "passthrough", and under `model`, the name that the client used, and kept for `usage_days`. It
    costs `units` of the upstream.
    """

    id: str
    key: str
    front_end: str
    lane: str = "chat"
    family: str = "gpt_4_s"
    own_slots: int = 1
    key_slots: int = 0
    slots: int = 1
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
    book: str = PASSTHROUGH
    model: str = ""
    units: float = 0.0
    usage_days: int = 92
    issued: str = ""


class Allowance(msgspec.Struct, frozen=True):
    """Requests that an issued key may make in any minute, and those of them that are left.

    `reset` is the number of seconds until all of them are free again.
    """

    limit: int
    remaining: int
    reset: float


class Accepted(msgspec.Struct, frozen=True):
    """The job waits, or may run at once: its place, counted from 1, and its wait in seconds.

    `arrived` is the time of its admission by Redis' clock, as Unix time; 0 if it is not told.
    """

    place: int
    wait: float
    allowance: Allowance | None = None
    arrived: float = 0.0


class Attached(msgspec.Struct, frozen=True):
    """The request reads the job with this id, accepted earlier under the same idempotency key."""

    id: str


RefusalReason = Literal[
    "key_revoked",  # the gateway key is not, or no longer, valid
    "rate_limited",  # the gateway key has made its requests of this minute
    "budget_spent",  # the gateway key has used up its budget of the day or of the month
    "key_refused",  # the upstream refused this key less than a minute ago
    "queue_full",  # the maximum number of jobs is waiting
    "key_full",  # the maximum number of jobs of this key is waiting
    "too_many_bytes",  # unfinished jobs use the maximum of memory
    "wait_too_long",  # the forecast exceeds the gateway's limit, or the client's
    "model_capped",  # the account has used up this family of models for now
    "no_account",  # all accounts that could run it are set aside
    "no_worker",  # no worker is alive
    "circuit_open",  # the upstream fails for every account
    "paused",  # an operator has paused the intake, the key, or all that could run it
]


class Refused(msgspec.Struct, frozen=True):
    """The job was refused; the client may retry after `retry_after` seconds.

    `kept` is False if no place will be kept for it then: its own place in the virtual queue outside
    the line is further away than `queue.max_retry_after`.
    """

    reason: RefusalReason
    retry_after: float
    kept: bool = True
    allowance: Allowance | None = None


class Clash(msgspec.Struct, frozen=True):
    """The idempotency key belongs to another request, or to an answer that cannot be read again."""

    why: Literal["mismatch", "lost"]


Admission = Accepted | Attached | Refused | Clash
