"""Calls that are spread over turns of the event loop."""

from __future__ import annotations

import asyncio
from functools import partial

from app.http.pacing import Pacer


async def test_calls_are_made_in_order_and_only_some_of_them_in_one_turn() -> None:
    pacer, made = Pacer(2), list[str]()
    for name in "abcde":
        pacer.add(partial(made.append, name))
    assert made == []
    seen = []
    for _ in range(3):
        await asyncio.sleep(0)
        seen.append("".join(made))
    assert seen == ["ab", "abcd", "abcde"]


async def test_a_call_may_add_another_one() -> None:
    pacer, made = Pacer(10), list[str]()

    def first() -> None:
        made.append("first")
        pacer.add(partial(made.append, "second"))

    pacer.add(first)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert made == ["first", "second"]
    pacer.add(partial(made.append, "third"))
    await asyncio.sleep(0)
    assert made[2:] == ["third"]
