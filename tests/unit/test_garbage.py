"""Garbage collection of a process that keeps many objects for long."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from runtime.garbage import collect_rarely


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Restore the collector of the process that runs the tests."""
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def test_objects_that_are_kept_cause_no_full_collection_and_young_cycles_are_still_freed() -> None:
    collected = [0, 0, 0]

    def count(phase: str, info: dict[str, int]) -> None:
        if phase == "stop":
            collected[info["generation"]] += info["collected"] + 1

    collect_rarely()
    gc.callbacks.append(count)
    try:
        kept: list[list[object]] = [[] for _ in range(300_000)]
        for _ in range(1000):
            cycle: list[object] = []
            cycle.append(cycle)
    finally:
        gc.callbacks.remove(count)
    assert len(kept) == 300_000
    assert collected[2] == 0
    assert collected[0] > 1000 - 700
