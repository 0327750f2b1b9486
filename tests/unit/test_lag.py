"""The lag of the event loop, and the figures of this process."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from runtime.footprint import cpu_time, memory, open_files
from runtime.lag import KEPT, TICK, Lag


async def test_a_task_that_keeps_the_loop_busy_is_seen() -> None:
    lag = Lag()
    with lag.measured():
        await asyncio.sleep(0)
        time.sleep(5 * TICK)  # noqa: ASYNC251 - this is the stall
        async with asyncio.timeout(60):
            while not lag.largest:
                await asyncio.sleep(TICK)
    assert lag.largest >= 4 * TICK - 0.001


def test_the_largest_lag_is_kept_for_a_while_and_then_forgotten() -> None:
    lag = Lag()
    lag.note(1000.0, 0.4)
    lag.note(1001.0, 0.1)
    assert lag.largest == 0.4
    lag.note(1000.0 + KEPT, 0.2)
    assert lag.largest == 0.4
    lag.note(1000.0 + 2 * KEPT, 0.0)
    assert lag.largest == 0.2
    lag.note(1000.0 + 3 * KEPT, 0.0)
    assert lag.largest == 0.0


def test_the_system_counts_memory_open_files_and_cpu_time_of_this_process() -> None:
    before = open_files()
    ends = [os.pipe() for _ in range(50)]
    try:
        assert open_files() == before + 100
    finally:
        for end in ends:
            os.close(end[0])
            os.close(end[1])
    assert 5_000_000 < memory() < 5_000_000_000
    assert cpu_time() > 0


def test_without_a_size_of_the_folder_of_open_files_they_are_counted_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("runtime.footprint.os.stat", lambda _: os.stat_result([0] * 10))
    monkeypatch.setattr("runtime.footprint.os.listdir", lambda _: ["0", "1", "2"])
    assert open_files() == 3
