"""The keyring in a real Redis."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from wire.jobs import fingerprint
from wire.keyring import PREFIX, IssuedKey, Keyring, NoSuchKeyError
from wire.line import keys
from wire.redis.client import Redis
from wire.seal import Seal


@pytest.fixture
def keyring(redis: Redis, seal: Seal) -> Keyring:
    return Keyring(redis, seal)


async def test_a_new_key_is_found_by_itself_and_nothing_else(keyring: Keyring) -> None:
    key, record = await keyring.new("bot", {"requests_per_minute": 60, "models": ["a", "b"]})
    assert key.startswith(PREFIX)
    assert len(key) == len(PREFIX) + 43  # 32 bytes
    assert record.id == fingerprint(key)
    assert record.requests_per_minute == 60
    assert await keyring.find(key) == await keyring.get(record.id) == record
    assert await keyring.find(key + "x") is None
    assert await keyring.find("gw-") is None


async def test_another_key_with_the_same_id_is_not_accepted(keyring: Keyring) -> None:
    key, record = await keyring.new("bot", {})
    await keyring.set(record.id, {"sha256": record.id + "0" * 48})
    assert await keyring.find(key) is None


async def test_the_key_itself_is_not_in_redis(keyring: Keyring, redis: Redis) -> None:
    key, record = await keyring.new("bot", {})
    assert key.encode() not in await redis.dump(keys.issued(record.id))
    assert key.removeprefix(PREFIX) not in str(await redis.get(keys.issued(record.id)))


async def test_keys_are_listed_with_the_oldest_first(keyring: Keyring) -> None:
    assert await keyring.list() == []
    records = [(await keyring.new(name, {"created": at}))[1] for name, at in (("b", 2), ("a", 1))]
    assert await keyring.list() == records[::-1]
    assert await keyring.count() == 2


async def test_a_record_that_cannot_be_read_is_left_out(keyring: Keyring, redis: Redis) -> None:
    key, record = await keyring.new("bot", {})
    await redis.set(keys.issued(record.id), b"{}")
    assert await keyring.list() == []
    assert await keyring.find(key) is None


async def test_changes_at_the_same_time_are_all_kept(keyring: Keyring) -> None:
    _, record = await keyring.new("bot", {})
    changes: list[dict[str, object]] = [
        {"weight": 2.0},
        {"max_running": 3},
        {"notes": "n"},
        {"max_wait": 0},
    ]
    await asyncio.gather(
        *(keyring.set(record.id, change) for change in changes), keyring.revoke(record.id)
    )
    changed = await keyring.get(record.id)
    assert changed is not None
    assert changed.revoked
    for change in changes:
        assert changed == changed.changed(change)


async def test_a_value_out_of_its_bounds_changes_nothing(keyring: Keyring) -> None:
    _, record = await keyring.new("bot", {})
    with pytest.raises(msgspec.ValidationError):
        await keyring.set(record.id, {"weight": -1})
    assert await keyring.get(record.id) == record


async def test_an_unknown_key_can_be_neither_changed_nor_revoked(keyring: Keyring) -> None:
    for call in (keyring.set("0" * 16, {}), keyring.revoke("0" * 16)):
        with pytest.raises(NoSuchKeyError):
            await call


async def test_a_key_is_revoked_once(keyring: Keyring) -> None:
    _, record = await keyring.new("bot", {"created": 1})
    first = await keyring.revoke(record.id)
    assert first.revoked
    assert await keyring.revoke(record.id) == first


async def test_an_import_adds_what_is_missing_and_revokes_but_changes_nothing_else(
    keyring: Keyring, redis: Redis
) -> None:
    key, kept = await keyring.new("kept", {"weight": 2.0})
    _, lost = await keyring.new("lost", {})
    _, revoked = await keyring.new("revoked", {})
    backup: list[IssuedKey] = await keyring.list()
    await redis.flushdb()
    assert await keyring.import_(backup) == 3
    assert await keyring.import_(backup) == 0
    assert await keyring.list() == backup
    assert await keyring.find(key) == kept

    await keyring.set(kept.id, {"weight": 5.0})
    await keyring.revoke(lost.id)
    assert await keyring.import_([*backup, revoked.changed({"revoked": 7})]) == 0
    assert (await keyring.get(kept.id)) == kept.changed({"weight": 5.0})
    still = await keyring.get(lost.id)
    assert still is not None
    assert still.revoked
    assert await keyring.get(revoked.id) == revoked.changed({"revoked": 7})
