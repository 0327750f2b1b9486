"""Figures of keys: which have their own, and what they count."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.line import WholeLine
from tests.support.line import ENTRY, FRAMES, claim, enqueue
from wire.key_figures import KeyFigures, KeyReadings
from wire.keyring import Keyring, identity
from wire.line import keys
from wire.line.usage import Tokens
from wire.redis.client import Redis
from wire.seal import Seal


@pytest.fixture
def readings(redis: Redis, queue: WholeLine, seal: Seal) -> KeyReadings:
    return KeyReadings(redis, seal, queue)


async def test_each_key_has_its_requests_tokens_and_jobs_and_all_others_share_theirs(
    redis: Redis, queue: WholeLine, seal: Seal, readings: KeyReadings
) -> None:
    _, bot = await Keyring(redis, seal).new("my bot", {})
    of_bot: dict[str, Any] = {"book": bot.id, "key": seal.name("account", identity(bot.id))}
    await enqueue(queue, "a", **of_bot)
    [job] = await claim(queue)
    await queue.finish(job.id, job.attempt, "done", ENTRY, FRAMES, tokens=Tokens(70, 20))
    await enqueue(queue, "b", **of_bot)
    await enqueue(queue, "c", **of_bot)
    for n in range(3):
        await enqueue(queue, f"p-{n}", f"key-{n}")
    assert len(await claim(queue, want=2)) == 2
    found = {each.name: each for each in await readings.read(await queue.snapshot())}
    assert found.keys() == {"my bot", "passthrough"}
    assert found["my bot"] == KeyFigures(
        id=bot.id,
        name="my bot",
        requests=3,
        input_tokens=70,
        output_tokens=20,
        waiting=found["my bot"].waiting,
        running=found["my bot"].running,
    )
    assert found["passthrough"].requests == 3
    sums = [(each.waiting, each.running) for each in found.values()]
    assert tuple(map(sum, zip(*sums, strict=True))) == (3, 2)
    assert found["my bot"].waiting + found["my bot"].running == 2


async def test_the_101st_key_is_counted_with_the_others_until_another_is_revoked(
    redis: Redis, queue: WholeLine, seal: Seal, readings: KeyReadings
) -> None:
    books = [f"{n:016x}" for n in range(102)]
    names = [seal.name("account", identity(book)) for book in books]
    for book, name in zip(books, names, strict=True):
        await enqueue(queue, f"of-{book}", name, book=book)
    first, last = books[0], books[-1]
    await enqueue(queue, "of-first", names[0], book=first)
    await enqueue(queue, "passed", "passed", book="passthrough")
    found = {each.id: each for each in await readings.read(await queue.snapshot())}
    assert len(found) == 102
    assert (found[first].requests, found["other"].requests) == (2, 2)
    assert found["passthrough"].requests == 1
    assert found["other"].waiting == 2 + 1, "of the passed one, too"
    await Keyring(redis, seal).forget_revoked(first)
    await enqueue(queue, "newer", names[-1], book=last)
    found = {each.id: each for each in await readings.read(await queue.snapshot())}
    assert first not in found
    assert found[last].requests == 1
    assert found["other"].requests == 2


async def test_tokens_of_a_revoked_key_that_is_forgotten_are_not_counted_as_a_new_one(
    redis: Redis, queue: WholeLine, seal: Seal, readings: KeyReadings
) -> None:
    await enqueue(queue, "job", book="0123456789abcdef")
    [job] = await claim(queue)
    await Keyring(redis, seal).forget_revoked("0123456789abcdef")
    assert await queue.finish(job.id, job.attempt, "done", ENTRY, FRAMES, tokens=Tokens(1, 1))
    assert not await redis.hexists(keys.counted, "0123456789abcdef input")  # type: ignore[misc]  # redis-py: sync or async
    assert await readings.read(await queue.snapshot()) == []
