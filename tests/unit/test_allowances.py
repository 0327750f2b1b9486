"""The check of a gateway key's limits before its request is read."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.allowances import Allowances
from app.auth import Caller
from app.idempotency import key_name
from app.openai.errors import RateLimited
from app.tally import Tally
from wire.keyring import IssuedKey
from wire.line.admission import Refused
from wire.line.front_end import FrontEndLine
from wire.seal import Seal

ID = "0123456789abcdef"


class Line:
    """A line that would refuse the next job; counts the calls."""

    def __init__(self, retry_after: float = 30.0) -> None:
        self.refused: Refused | None = Refused("rate_limited", retry_after)
        self.asked = 0
        self.named: set[str] = set()

    async def refusal(self, id: str) -> Refused | None:
        assert id == ID
        self.asked += 1
        return self.refused

    async def is_named(self, name: str) -> bool:
        return name in self.named


async def check(allowances: Allowances, idempotency: str = "", **fields: int) -> RateLimited | None:
    """The refusal of a request, if it is refused."""
    record = IssuedKey(id=ID, sha256=ID * 4, name="a", created=0).changed(fields)
    headers = {"idempotency-key": idempotency} if idempotency else {}
    request: Any = SimpleNamespace(headers=headers)
    try:
        await allowances.check(request, Caller("gw a", "", record), "chat")
    except RateLimited as refused:
        return refused
    return None


def allowances(line: Line) -> Allowances:
    async def add(_: object) -> None:
        raise AssertionError

    return Allowances(cast(FrontEndLine, line), Seal(b"a secret of tests"), Tally(add, 3600.0))


async def test_a_flood_of_one_key_asks_redis_once() -> None:
    line = Line()
    checked = allowances(line)
    many = [check(checked, requests_per_minute=1) for _ in range(1000)]
    refused = [each for each in await asyncio.gather(*many) if each]
    assert len(refused) == 1000
    assert refused[-1].retry_after == pytest.approx(30, abs=10)
    assert line.asked == 1


async def test_keys_without_such_limits_are_not_looked_up() -> None:
    line = Line()
    assert await check(allowances(line), max_running=1) is None
    assert line.asked == 0


async def test_a_refusal_is_not_repeated_once_its_time_is_over() -> None:
    line = Line(retry_after=0.0)
    checked = allowances(line)
    assert await check(checked, requests_per_minute=1)
    line.refused = None
    assert await check(checked, requests_per_minute=1) is None


async def test_a_request_that_reads_an_earlier_answer_is_let_in() -> None:
    line = Line()
    checked = allowances(line)
    assert await check(checked, "mine", budget_day=1)
    line.named.add(key_name(Seal(b"a secret of tests"), "gw a", "mine"))
    assert await check(checked, "mine", budget_day=1) is None
