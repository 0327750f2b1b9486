"""Order of jobs: keys by weight, users of a key alike, tiers among them, and the lanes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

import settings
from app.scheduling import BANDS, SHARES
from benchmarks.line import WholeLine
from tests.support.line import LASTING, QUICK, claim, enqueue, finish, has_worker, ids, new
from tests.support.requests import BODY, CHAT
from tests.support.sanic_adapter import Client
from tests.support.scripted import HELLO, ScriptedUpstream
from wire.jobs import Sort, fingerprint
from wire.line.admission import Accepted
from wire.line.claims import Claim
from wire.redis.client import Redis
from wire.seal import Seal

IMAGES = "/v1/images/generations"


async def line(redis: Redis, seal: Seal, slots: int = 1, **more: Any) -> WholeLine:
    config = replace(QUICK, max_wait=36_000.0, **more)
    queue = WholeLine(redis, seal, config, settings.Upstream(max_concurrency=slots))
    await queue.presences.show_front_end("front")
    await has_worker(redis, seal, settings.Upstream(max_concurrency=slots))
    return queue


async def order(queue: WholeLine, count: int) -> list[str]:
    """The next jobs, one after the other, each of which holds its slot for a second of the time of
    Redis. Slot time is what is shared; the duration of these calls on a busy machine does not
    matter here."""
    ids = []
    for _ in range(count):
        (claimed,) = await claim(queue, want=1)
        ids.append(claimed.id)
        seconds, micros = await queue.redis.time()
        begun = seconds * 1000 + micros // 1000 - 1000
        await queue.redis.hset(f"gateway:job:{claimed.id}", "claimed", str(begun))  # type: ignore[misc]  # redis-py: sync or async
        await finish(queue, claimed)
    return ids


async def test_keys_get_slots_by_their_weights(redis: Redis, seal: Seal) -> None:
    queue = await line(redis, seal)
    for n in range(40):
        await enqueue(queue, f"heavy-{n}", "heavy", weight=3.0)
        await enqueue(queue, f"light-{n}", "light")
    served = Counter(id.partition("-")[0] for id in await order(queue, 40))
    assert 27 <= served["heavy"] <= 33


async def test_users_of_a_key_divide_the_share_of_the_key(redis: Redis, seal: Seal) -> None:
    queue = await line(redis, seal)
    for n in range(30):
        await enqueue(queue, f"bot/busy-{n}", "bot", user="busy")
    for n in range(10):
        await enqueue(queue, f"bot/calm-{n}", "bot", user="calm")
        await enqueue(queue, f"other/one-{n}", "other")
    served = await order(queue, 20)
    keys = Counter(id.partition("/")[0] for id in served)
    assert abs(keys["bot"] - keys["other"]) <= 2, "as much as one key, however many its users"
    users = Counter(id.partition("-")[0] for id in served if id.startswith("bot"))
    assert abs(users["bot/busy"] - users["bot/calm"]) <= 2, "though one came with 30 first"


async def test_a_service_tier_gets_a_larger_or_smaller_share(redis: Redis, seal: Seal) -> None:
    queue = await line(redis, seal)
    for n in range(40):
        for tier, share in SHARES.items():
            await enqueue(queue, f"{tier}-{n}", user=tier, tier=share)
    served = Counter(id.partition("-")[0] for id in await order(queue, 42))
    assert served["priority"] > 2.5 * served["default"]
    assert served["default"] > 2.5 * served["flex"]
    assert served["flex"] >= 1, "a part, not nothing"


async def test_with_strict_priority_the_first_band_is_served_before_all_others(
    redis: Redis, seal: Seal
) -> None:
    """The key's virtual clock ran off with the first band, so that later ones were mixed."""
    queue = await line(redis, seal)

    async def come(tier: Any, numbers: range) -> None:
        for n in numbers:
            more: Any = {"tier": SHARES[tier], "band": BANDS[tier], "user": f"one {tier}"}
            await enqueue(queue, f"{tier}-{n}", **more)

    await come("flex", range(3))
    await come("default", range(3))
    (seated,) = await claim(queue, want=1)
    await come("priority", range(8))
    await finish(queue, seated)
    assert await order(queue, 4) == [f"priority-{n}" for n in range(4)]
    await come("priority", range(8, 12))
    assert await order(queue, 8) == [f"priority-{n}" for n in range(4, 12)]
    rest = [id.partition("-")[0] for id in await order(queue, 4)]
    assert rest == sorted(rest), "default before flex"


async def lanes(queue: WholeLine, count: int, each: int) -> dict[Sort, list[Claim]]:
    """Enqueue jobs of either lane, each of its own account; return the claimed ones."""
    kinds: list[Sort] = ["images", "chat"]
    for lane in kinds[: 1 if each == 0 else 2]:
        for n in range(count):
            job = new(f"{lane}-{n}", f"{lane}-{n}", lane=lane)
            assert isinstance(await queue.enqueue(job, b"body"), Accepted)
    claims = await claim(queue, want=10)
    return {lane: [c for c in claims if c.lane == lane] for lane in kinds}


async def test_each_lane_has_its_reserve_and_borrows_unused_slots(redis: Redis, seal: Seal) -> None:
    queue = await line(redis, seal, slots=4, chat_slots=3, images_slots=1)
    held = await lanes(queue, 6, 0)
    assert len(held["images"]) == 4, "all of them, as nobody else wants any"
    for n in range(6):
        await enqueue(queue, f"chat-{n}", f"chat-{n}")
    for image in held["images"][:3]:
        await finish(queue, image)
    assert [c.lane for c in await claim(queue)] == ["chat"] * 3, "reserved slots are given first"


# With real workers


@pytest.fixture
def config() -> settings.Settings:
    return settings.Settings(
        queue=replace(LASTING, chat_slots=3, images_slots=1, weights={fingerprint("rich"): 4.0}),
        upstream=settings.Upstream(max_concurrency=4),
        stream=settings.Stream(grace=0.2),
    )


class Ordered(ScriptedUpstream):
    """Records the answered bearers, in order."""

    async def answer(self, job: Any) -> AsyncIterator[Any]:  # type: ignore[override]  # a generator
        slow = 60.0 if "draw" in job.messages[-1].text else 0.05
        self.script = (HELLO[:1], slow, HELLO[1:])
        async for events in super().answer(job):
            yield events


@pytest.fixture
def upstream() -> ScriptedUpstream:
    return Ordered()


async def test_slow_images_do_not_shut_out_chat(client: Client, upstream: ScriptedUpstream) -> None:
    drawing = [
        asyncio.create_task(
            client.post(
                IMAGES,
                json={"prompt": "draw", "model": "gpt-4-s"},
                headers={"authorization": f"Bearer painter-{n}"},
            )
        )
        for n in range(8)
    ]
    while upstream.active < 4:
        await asyncio.sleep(0.01)
    assert upstream.peak == 4, "images use all slots while nobody else wants them"
    for task in drawing[1:]:
        task.cancel()
    chats = [
        client.post(CHAT, json=BODY, headers={"authorization": f"Bearer writer-{n}"})
        for n in range(12)
    ]
    assert {answer.status_code for answer in await asyncio.gather(*chats)} == {200}
    assert not drawing[0].done()
    drawing[0].cancel()


async def test_a_keys_images_that_wait_for_their_lane_do_not_hold_up_its_chats(
    redis: Redis, seal: Seal
) -> None:
    queue = await line(redis, seal)
    for id in ("image-0", "image-1"):
        await enqueue(queue, id, own_slots=3, lane="images")
    await enqueue(queue, "chat", own_slots=3)
    assert await redis.zrange(queue.queue_key("images"), 0, -1) == [b"image-0"]
    assert await redis.zrange(queue.queue_key("chat"), 0, -1) == [b"chat"]


async def test_the_forecast_of_a_chat_includes_an_image_of_its_key_ahead_of_it(
    redis: Redis, seal: Seal
) -> None:
    queue = await line(redis, seal)
    await enqueue(queue, "image", lane="images")
    told = [(await enqueue(queue, "chat-0")).wait]
    assert ids(await claim(queue)) == ["image"]
    told.append((await enqueue(queue, "chat-1")).wait)
    assert all(wait >= 45 for wait in told), "what an image is thought to take"


async def test_weights_users_and_tiers_of_requests_reach_the_line(
    client: Client, upstream: ScriptedUpstream, redis: Redis
) -> None:
    upstream.script = (HELLO,)
    asked: list[dict[str, Any]] = [
        {"user": "u"},
        {"user": "v"},
        {"user": "u", "service_tier": "priority"},
        {"user": "u", "service_tier": "flex"},
        {"user": "u", "service_tier": "auto"},
    ]
    for more in asked:
        headers = {"authorization": "Bearer rich"}
        response = await client.post(CHAT, json={**BODY, **more}, headers=headers)
        assert response.status_code == 200
    records = [await redis.hgetall(key) for key in await redis.keys("gateway:job:*")]  # type: ignore[misc]  # redis-py: sync or async
    assert {float(r[b"weight"]) for r in records} == {4.0}
    assert Counter(float(r[b"tier"]) for r in records) == {1.0: 3, 4.0: 1, 0.25: 1}
    assert len({r[b"user"] for r in records}) == 4, "a user, as one tier has it, is a flow"
