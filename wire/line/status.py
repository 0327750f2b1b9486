"""Status of a waiting, running or recently finished job."""

from __future__ import annotations

from typing import Literal

import msgspec

FinalState = Literal["done", "failed", "cancelled"]
State = Literal["waiting", "running"] | FinalState


class JobStatus(msgspec.Struct, frozen=True):
    """State of a job and the front ends of its readers.

    `position` counts from 1, and `wait` is the expected remaining wait in seconds; both are None
    unless the job is waiting.
    """

    id: str
    state: State
    position: int | None
    wait: float | None
    front_ends: list[str]
