"""Calls that many requests make together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from app.batches import AT_ONCE, Batches


async def test_items_are_gathered_grouped_and_split_and_each_gets_its_own_result() -> None:
    calls: list[list[str]] = []

    async def double(items: Sequence[str]) -> Sequence[str]:
        calls.append(list(items))
        return [item * 2 for item in items]

    batches = Batches(double, 2, 0.0, lambda item: item[0])
    results = await asyncio.gather(*(batches.add(item) for item in ("b1", "a1", "b2", "a2", "c1")))
    assert results == ["b1b1", "a1a1", "b2b2", "a2a2", "c1c1"]
    assert calls == [["a1", "a2"], ["b1", "b2"], ["c1"]]


async def test_the_results_of_a_large_call_are_set_in_several_turns_of_the_loop() -> None:
    async def same(items: Sequence[int]) -> Sequence[int]:
        return items

    batches = Batches(same, 1000, 0.0, lambda _: "")
    results = [batches.add(number) for number in range(3 * AT_ONCE)]
    numbers = list[int]()
    while len(numbers) < 4 and not all(result.done() for result in results):
        await asyncio.sleep(0)
        done = sum(result.done() for result in results)
        if done not in (0, *numbers):
            numbers.append(done)
    assert numbers == [AT_ONCE, 2 * AT_ONCE, 3 * AT_ONCE]


async def test_a_failed_call_fails_its_own_items_and_no_others() -> None:
    async def call(items: Sequence[str]) -> Sequence[str]:
        if "bad" in items:
            raise ConnectionResetError
        return items

    batches = Batches(call, 1, 0.0, lambda item: item)
    cancelled = batches.add("aborted")
    cancelled.cancel()
    bad, good = batches.add("bad"), batches.add("good")
    assert await good == "good"
    with pytest.raises(ConnectionResetError):
        await bad
    assert await batches.add("later") == "later"


async def test_calls_that_are_not_made_in_time_are_cancelled() -> None:
    called = asyncio.Event()

    async def never(_: Sequence[str]) -> Sequence[str]:
        called.set()
        await asyncio.get_running_loop().create_future()
        return []

    batches = Batches(never, 1, 0.0, lambda item: item)
    results = [batches.add("in a call"), batches.add("gathered")]
    await called.wait()
    results.append(batches.add("added"))
    await batches.finish(0.0)
    assert all(result.cancelled() for result in results)
