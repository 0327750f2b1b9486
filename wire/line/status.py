"""Where a job is, from its admission to a while after its ending."""

from __future__ import annotations

from typing import Literal

import msgspec

EndState = Literal["done", "failed", "cancelled"]
State = Literal["waiting", "running"] | EndState


class Whereabouts(msgspec.Struct, frozen=True):
    """Where a job is, and who reads it. While it waits: its place from 1, its wait in seconds."""

    id: str
    state: State
    place: int
    wait: float
    fronts: list[str]
