"""Status of a job, from its admission until some time after it finished."""

from __future__ import annotations

from typing import Literal

import msgspec

EndState = Literal["done", "failed", "cancelled"]
State = Literal["waiting", "running"] | EndState


class JobStatus(msgspec.Struct, frozen=True):
    """State of a job and the front ends of its readers.

    While it waits: its place, counted from 1, and its wait in seconds.
    """

    id: str
    state: State
    place: int
    wait: float
    front_ends: list[str]
