"""Admission to the line, and the retry times of refused jobs."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

import settings
from benchmarks.line import WholeLine
from runtime.tasks import background
from tests.support.line import LASTING, QUICK, claim, finish, has_worker, new, present
from tests.support.requests import BODY, CHAT
from tests.support.sanic_adapter import Client
from tests.support.scripted import HELLO, ScriptedUpstream
from wire.line.admission import Accepted, Refused
from wire.line.claims import Claim
from wire.redis.client import Redis
from wire.seal import Seal


async def line(redis: Redis, seal: Seal, slots: int = 1, **more: Any) -> WholeLine:
    """A line with a worker that has the given number of slots, under other limits than usual."""
    queue = WholeLine(redis, seal, replace(QUICK, **more), settings.Upstream(max_concurrency=slots))
    await queue.presences.show_front_end("front")
    await has_worker(redis, seal, settings.Upstream(max_concurrency=slots))
    return queue


async def fill(queue: WholeLine, count: int, key: str = "heavy", **more: Any) -> list[Accepted]:
    """Enqueue jobs of a key whose account holds one conversation at once; all are accepted."""
    admitted = [await queue.enqueue(new(f"{key}-{n}", key, **more), b"body") for n in range(count)]
    assert all(isinstance(one, Accepted) for one in admitted), admitted
    return admitted  # type: ignore[return-value]  # as was just asserted


async def refused(queue: WholeLine, id: str, key: str, reason: str, **more: Any) -> float:
    """The retry time (seconds from now) of a job that is refused."""
    admission = await queue.enqueue(new(id, key, **more), b"body")
    assert isinstance(admission, Refused), admission
    assert admission.reason == reason
    return admission.retry_after


async def test_a_full_line_refuses_each_client_with_a_retry_time_of_its_own(
    redis: Redis, seal: Seal
) -> None:
    queue = await line(redis, seal, max_waiting=3, max_wait=3600.0)
    await fill(queue, 3)
    told = [await refused(queue, f"late-{n}", f"late-{n}", "queue_full") for n in range(8)]
    assert all(later > earlier for earlier, later in pairwise(told)), told
    assert len(set(told)) == len(told)


async def test_a_key_with_a_full_line_is_refused_while_other_keys_are_accepted(
    redis: Redis, seal: Seal
) -> None:
    queue = await line(redis, seal, slots=100, max_waiting_per_key=3, max_wait=3600.0)
    await fill(queue, 3)
    told = [await refused(queue, f"more-{n}", "heavy", "key_full") for n in range(3)]
    assert told == sorted(told)
    await fill(queue, 1, "light")


async def test_jobs_beyond_max_bytes_are_refused(redis: Redis, seal: Seal) -> None:
    queue = await line(redis, seal, max_bytes=1000)
    await fill(queue, 2, bytes=400)
    await refused(queue, "large", "other", "too_many_bytes", bytes=300)
    assert isinstance(await queue.enqueue(new("small", "other", bytes=200), b"body"), Accepted)
    await queue.cancel("heavy-0")
    assert isinstance(await queue.enqueue(new("large", "large", bytes=300), b"body"), Accepted)


async def test_a_job_whose_forecast_exceeds_its_maximum_wait_is_refused(
    redis: Redis, seal: Seal
) -> None:
    queue = await line(redis, seal, max_wait=40.0)
    await learn(redis, 15.0)
    waits = [admitted.wait for admitted in await fill(queue, 3)]
    assert waits == sorted(waits)
    await refused(queue, "heavy-3", "heavy", "wait_too_long")
    await refused(queue, "impatient", "light", "wait_too_long", max_wait=1.0)
    assert isinstance(await queue.enqueue(new("patient", "light"), b"body"), Accepted)


async def test_a_guessed_forecast_refuses_nobody(redis: Redis, seal: Seal) -> None:
    """A gateway that had just started assumed 15 s per answer, and refused jobs that it could have
    served in a second, also by a limit of the client's own."""
    queue = await line(redis, seal, max_wait=1.0)
    await fill(queue, 3)
    await fill(queue, 1, "impatient", max_wait=1.0)
    await learn(redis, 15.0)
    await refused(queue, "late", "other", "wait_too_long")
    await refused(queue, "later", "other", "wait_too_long", max_wait=1.0)


async def learn(redis: Redis, seconds: float) -> None:
    """Record typical durations of answers in the line."""
    took = round(seconds * 1000)
    known = {
        f"{kind} {field}": value
        for kind in ("chat", "chat gpt_4_s", "chat gpt_3_5")
        for field, value in {"n": 50, "mean": took, "square": took * took}.items()
    }
    await redis.hset("gateway:service", mapping=known)  # type: ignore[misc]  # redis-py: sync or async


async def test_the_record_of_a_refused_key_expires_soon(redis: Redis, seal: Seal) -> None:
    """Any bearer may ask: each made-up one took memory in Redis for a day."""
    queue = WholeLine(redis, seal, QUICK)  # without a worker
    for _ in range(2):
        assert isinstance(await queue.enqueue(new("job", "made-up"), b"body"), Refused)
    assert 0 < await redis.pttl("gateway:key:made-up") <= 60_000
    await has_worker(redis, seal)
    assert isinstance(await queue.enqueue(new("job", "made-up"), b"body"), Accepted)
    assert isinstance(await queue.enqueue(new("more", "made-up", max_wait=0), b"body"), Refused)
    assert await redis.pttl("gateway:key:made-up") > 60_000


async def test_a_maximum_wait_of_zero_means_a_slot_now_or_a_refusal(
    redis: Redis, seal: Seal
) -> None:
    # A heartbeat so long that no stall of this machine makes the line settle.
    queue = await line(redis, seal, slots=2, lease=60.0, heartbeat=20.0)
    await fill(queue, 1, max_wait=0.0)
    await claim(queue)
    await refused(queue, "second", "heavy", "wait_too_long", max_wait=0.0)
    await fill(queue, 1, "light", max_wait=0.0)
    await claim(queue)
    await refused(queue, "third", "other", "wait_too_long", max_wait=0.0)


async def test_a_job_with_a_free_seat_and_slot_is_accepted_although_the_line_is_full(
    redis: Redis, seal: Seal
) -> None:
    queue = await line(redis, seal, slots=4, max_waiting=3)
    await fill(queue, 1)
    await claim(queue)
    for n in range(3):
        assert isinstance(await queue.enqueue(new(f"waits-{n}", "heavy"), b"body"), Accepted)
    await refused(queue, "heavy-9", "heavy", "queue_full")
    await fill(queue, 1, "light")


async def test_a_client_that_retries_at_its_retry_time_is_accepted(
    redis: Redis, seal: Seal
) -> None:
    """However many other jobs without a retry time are enqueued in between."""
    queue = await line(redis, seal, max_waiting=2, max_wait=3600.0)
    clock = asyncio.get_running_loop().time

    handing_over = asyncio.Lock()  # no job finds the slot free while another waits for it

    async def work() -> None:
        """Serve jobs; each answer takes as long as the last, so that forecasts hold."""
        held: list[Claim] = []
        while True:
            async with handing_over:
                for one in held:
                    await finish(queue, one)
                await present(queue)
                held = await queue.claim("w", 1)
            for one in held:
                await queue.begin(one, b"entry", {})
                await asyncio.sleep(0.15)
            await asyncio.sleep(0.001)

    async with background(work()):
        for id in ("learned-from", "runs"):
            await fill(queue, 1, id)
            async with asyncio.timeout(30):
                while await redis.zcard(queue.queue_key("chat")):
                    await asyncio.sleep(0.005)
        await fill(queue, 2)
        obedient = [f"obeys-{n}" for n in range(4)]
        told = {id: clock() + await refused(queue, id, id, "queue_full") for id in obedient}
        pushing = 0
        for id in obedient:
            while clock() < told[id]:
                pushing += 1
                async with handing_over:
                    await queue.enqueue(new(f"pushes-{pushing}", f"pushes-{pushing}"), b"body")
                await asyncio.sleep(0.02)
            async with handing_over:
                admission = await queue.enqueue(new(f"{id}-again", id), b"body")
            assert isinstance(admission, Accepted), (id, admission)


async def test_without_a_worker_every_job_is_refused(redis: Redis, seal: Seal) -> None:
    queue = await line(redis, seal)
    await queue.presences.remove_worker("steady")
    assert await refused(queue, "job", "account", "no_worker") <= QUICK.lease


# Over HTTP

ONE_SLOT = settings.Settings(
    # A heartbeat so long that no stall of this machine makes the line settle.
    queue=replace(LASTING, heartbeat=10.0, max_waiting=2, max_waiting_per_key=2),
    upstream=settings.Upstream(max_concurrency=1),
    stream=settings.Stream(grace=0.2),
)


@pytest.fixture
def config() -> settings.Settings:
    return ONE_SLOT


def bearer(name: str, **more: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}", **more}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_full_line_is_a_429_with_a_retry_after(
    client: Client, upstream: ScriptedUpstream, redis: Redis, *, stream: bool
) -> None:
    all_told = asyncio.Event()
    upstream.script = (HELLO[:1], all_told, HELLO[1:])
    body = {**BODY, "stream": stream}
    asking = [asyncio.create_task(client.post(CHAT, json=BODY, headers=bearer("a")))]
    while not upstream.active:
        await asyncio.sleep(0.01)
    asking += [
        asyncio.create_task(client.post(CHAT, json=BODY, headers=bearer(f"b{n}"))) for n in (1, 2)
    ]
    while await redis.zcard("gateway:waiting:chat") < 2:
        await asyncio.sleep(0.01)
    told = [await client.post(CHAT, json=body, headers=bearer(f"c{n}")) for n in range(3)]
    for response in told:
        assert response.status_code == 429
        assert response.headers["content-type"] == "application/json"
        error = response.json()["error"]
        assert (error["code"], error["type"]) == ("queue_full", "rate_limit_error")
    moments = [int(response.headers["retry-after"]) for response in told]
    assert moments == sorted(moments)
    assert moments[0] >= 1
    all_told.set()
    assert {response.status_code for response in await asyncio.gather(*asking)} == {200}


async def test_a_wait_longer_than_x_max_wait_is_a_429(
    client: Client, upstream: ScriptedUpstream
) -> None:
    upstream.script = (HELLO[:1], 0.6, HELLO[1:])
    now = {"x-max-wait": "0"}
    assert (await client.post(CHAT, json=BODY, headers=bearer("a", **now))).status_code == 200
    told = asyncio.Event()
    upstream.script = (HELLO[:1], told, HELLO[1:])
    first = asyncio.create_task(client.post(CHAT, json=BODY, headers=bearer("a", **now)))
    while not upstream.active:
        await asyncio.sleep(0.01)
    refused = await client.post(CHAT, json=BODY, headers=bearer("b", **now))
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "wait_too_long")
    assert "retry-after" in refused.headers
    told.set()
    assert (await first).status_code == 200


@pytest.mark.parametrize("wrong", ["-1", "soon", "", "nan", "inf"])
async def test_an_invalid_x_max_wait_is_a_400(client: Client, wrong: str) -> None:
    response = await client.post(CHAT, json=BODY, headers=bearer("a", **{"x-max-wait": wrong}))
    assert (response.status_code, response.json()["error"]["param"]) == (400, "X-Max-Wait")


async def test_without_a_worker_a_request_is_a_503_at_once(
    front: Client, redis: Redis, seal: Seal
) -> None:
    await WholeLine(redis, seal, QUICK).presences.remove_worker("steady")
    response: httpx.Response = await front.post(CHAT, json=BODY, headers=bearer("a"))
    assert (response.status_code, response.json()["error"]["code"]) == (503, "no_worker")
    assert int(response.headers["retry-after"]) >= 1
