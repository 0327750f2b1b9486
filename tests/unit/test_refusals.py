"""Refusals that are answered late."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

import settings
from app import refusals
from app.openai.errors import ApiError, LineFull, RateLimited, TooManyWrongKeys, Unauthorized
from app.refusals import Refusals
from app.tally import Tally
from app.throttle import TOO_MANY, Throttle


class Door:
    """A handler that refuses every request, and what is counted of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.delays: list[float] = []
        self.opens = asyncio.Event()
        self.opens.set()
        self.counted: Counter[str] = Counter()
        tally = Tally(self._never, 3600.0)
        monkeypatch.setattr(tally, "count", lambda name, **_: self.counted.update([name]))
        monkeypatch.setattr(refusals, "sleep", self._sleep)
        monkeypatch.setattr(refusals, "uniform", lambda _, most: most)
        self._refusals = Refusals(settings.Server(), Throttle(lambda: 0.0), tally)

    async def _never(self, _: object) -> None:
        raise AssertionError

    async def _sleep(self, seconds: float) -> None:
        self.delays.append(seconds)
        await self.opens.wait()

    async def refuse(self, failure: ApiError, key: str = "a", peer: str = "9.9.9.9") -> ApiError:
        request: Any = SimpleNamespace(
            headers={"authorization": f"Bearer {key}"},
            conn_info=SimpleNamespace(client_ip=peer),
            ctx=SimpleNamespace(),
            stream=None,
        )

        async def handler(_: object) -> None:
            raise failure

        with pytest.raises(ApiError) as refused:
            await self._refusals.of(handler)(request)
        return refused.value


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    return Door(monkeypatch)


async def test_a_key_that_keeps_coming_is_answered_later_and_later(door: Door) -> None:
    for _ in range(30):
        assert isinstance(await door.refuse(RateLimited()), RateLimited)
    assert len(door.delays) == 20
    assert door.delays == sorted(door.delays)
    assert door.counted == {"gateway_late_refusals_total": 20}
    await door.refuse(RateLimited(), "another")
    assert len(door.delays) == 20


async def test_a_late_answer_names_the_time_that_is_left(door: Door) -> None:
    refused: ApiError = RateLimited()
    for _ in range(1000):
        refused = RateLimited()
        refused.retry_after = 30.0
        await door.refuse(refused)
    assert refused.retry_after == 30.0 - door.delays[-1]


async def test_a_full_line_is_nobodys_fault(door: Door) -> None:
    for _ in range(1000):
        await door.refuse(LineFull())
    assert door.delays == []


async def test_wrong_keys_of_one_address_are_slowed_down_and_then_not_named(door: Door) -> None:
    answers = [await door.refuse(Unauthorized(), f"key-{n}") for n in range(round(TOO_MANY) + 20)]
    assert {type(each) for each in answers[: round(TOO_MANY)]} == {Unauthorized}
    last = answers[-1]
    assert isinstance(last, TooManyWrongKeys)
    assert last.retry_after
    assert door.counted["gateway_wrong_keys_total"] == len(answers)
    assert isinstance(await door.refuse(Unauthorized(), peer="8.8.8.8"), Unauthorized)


async def test_only_so_many_refusals_wait(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "WAITING", 3)
    for _ in range(20):
        await door.refuse(RateLimited())
    door.opens.clear()
    waiting = [asyncio.ensure_future(door.refuse(RateLimited())) for _ in range(3)]
    await asyncio.sleep(0)
    assert isinstance(await door.refuse(RateLimited()), RateLimited)
    assert not any(each.done() for each in waiting)
    waiting[0].cancel()
    door.opens.set()
    await asyncio.gather(*waiting[1:])
    before = len(door.delays)
    await door.refuse(RateLimited())
    assert len(door.delays) == before + 1
