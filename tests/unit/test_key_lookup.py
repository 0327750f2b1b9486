"""Records of gateway keys in a front end: how old they get, and how much Redis is asked."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ConnectionError

from app import readings
from app.key_lookup import FRESH, KeyLookup
from app.openai.errors import LineUnavailable
from wire.jobs import fingerprint
from wire.keyring import IssuedKey

KEY = "gw-example"
RECORD = IssuedKey(
    id=fingerprint(KEY),
    sha256="ff92c15fc8b530dbc48aaba076230462162f5ac82671c637b950f1a8c74b2344",
    name="bot",
    created=1,
)


class Keyring:
    """Records by their ids. Counts how often it is asked; fails while `is_unreachable`."""

    def __init__(self, *records: IssuedKey) -> None:
        self.records = {record.id: record for record in records}
        self.asked = 0
        self.is_unreachable = False
        self.answers = asyncio.Event()
        self.answers.set()

    async def get(self, id: str) -> IssuedKey | None:
        self.asked += 1
        await self.answers.wait()
        if self.is_unreachable:
            raise ConnectionError
        return self.records.get(id)


async def test_requests_that_come_together_share_one_reading() -> None:
    keyring = Keyring(RECORD)
    lookup = KeyLookup(keyring.get)
    keyring.answers.clear()
    asked = [asyncio.ensure_future(lookup.find(KEY)) for _ in range(1000)]
    await asyncio.sleep(0)
    asked[0].cancel()
    keyring.answers.set()
    assert await asyncio.gather(*asked[1:]) == [RECORD] * 999
    assert keyring.asked == 1


async def test_a_record_is_read_again_after_half_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    keyring = Keyring(RECORD)
    lookup = KeyLookup(keyring.get)
    times = iter([0.0, FRESH - 0.01, FRESH, FRESH + 0.1])
    monkeypatch.setattr(readings, "_now", lambda: next(times))
    await lookup.find(KEY)
    keyring.records.clear()
    assert await lookup.find(KEY) == RECORD
    assert await lookup.find(KEY) is None
    assert await lookup.find(KEY) is None  # it is remembered, too, that there is none
    assert keyring.asked == 2


async def test_a_key_with_the_id_of_another_one_is_not_found() -> None:
    keyring = Keyring(RECORD.changed({"sha256": RECORD.id + "0" * 48}))
    assert await KeyLookup(keyring.get).find(KEY) is None


async def test_an_unreachable_redis_is_never_an_open_door(monkeypatch: pytest.MonkeyPatch) -> None:
    keyring = Keyring(RECORD)
    keyring.is_unreachable = True
    lookup = KeyLookup(keyring.get)
    with pytest.raises(LineUnavailable):
        await lookup.find(KEY)
    monkeypatch.setattr(readings, "PATIENCE", 0.01)
    keyring.answers.clear()
    with pytest.raises(LineUnavailable):
        await lookup.find("gw-other")


async def test_made_up_keys_take_a_bounded_amount_of_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readings, "MOST", 3)
    keyring = Keyring(RECORD)
    lookup = KeyLookup(keyring.get)
    for number in range(10):
        await lookup.find(KEY)
        assert await lookup.find(f"gw-{number}") is None
    assert len(lookup._readings._readings) == 3
    assert keyring.asked == 11  # the key that is in use stays
