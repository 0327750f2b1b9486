"""Events that front ends count themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from redis.exceptions import ConnectionError

from app.tally import Tally
from wire.line.metrics import Sample


async def test_what_redis_could_not_take_is_added_later_and_the_rest_at_the_end() -> None:
    added: Counter[Sample] = Counter()
    fails = True

    async def add(counts: Mapping[Sample, int]) -> None:
        if fails:
            raise ConnectionError
        added.update(counts)

    tally = Tally(add, 3600.0)
    tally.count("refusals", lane="chat", reason="rate_limited")
    async with tally.running():
        pass
    assert not added
    tally.count("refusals", reason="rate_limited", lane="chat")
    fails = False
    async with tally.running():
        tally.count("wrong_keys")
    assert added == {
        Sample("refusals", (("lane", "chat"), ("reason", "rate_limited"))): 2,
        Sample("wrong_keys", ()): 1,
    }
    added.clear()
    async with tally.running():
        pass
    assert not added
