"""Reactions of the line to an upstream that refuses or fails, and their effect on clients."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

import settings
from benchmarks.line import WholeLine
from local.redis import EmbeddedRedis
from settings.redis_url import redis_url
from tests.support.line import LASTING, QUICK, claim, enqueue, field, finish, has_worker, new, now
from tests.support.requests import BODY, CHAT, messages, said
from tests.support.sanic_adapter import Client
from tests.support.scripted import HELLO, Judged, ScriptedUpstream
from wire.events import Delta, Failed, Started
from wire.jobs import ChatJob
from wire.line.admission import Accepted, Refused
from wire.line.claims import Claim
from wire.redis.client import Redis, connect
from wire.seal import Seal
from workers.opening import serve_pandora
from workers.served import RESTS
from workers.upstream import UpstreamError
from workers.worker import Worker

DOWN = UpstreamError(Failed("upstream_down", "nobody there", "upstream_unreachable"), passing=True)
CAPPED = UpstreamError(Failed("rate_limited", "used up", "model_cap_exceeded"), capped_for=3.0)
UNAUTHORIZED = UpstreamError(Failed("unauthorized", "gone", "account_deactivated"))


CONFIG = settings.Settings(
    queue=replace(LASTING, max_wait=60.0),
    upstream=settings.Upstream(retries=2, circuit_failures=3, max_concurrency=8),
    stream=settings.Stream(grace=0.2),
)


@pytest.fixture
def upstream() -> Judged:
    return Judged()


@pytest.fixture
def config() -> settings.Settings:
    return CONFIG


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.settlement.RETRY_PAUSE", 0.05)
    monkeypatch.setitem(RESTS, "pandora", (0.3, 60.0))


@pytest.fixture
async def start_worker(
    redis_server: EmbeddedRedis, seal: Seal, upstream: Judged, config: settings.Settings
) -> AsyncIterator[Callable[[], None]]:
    """Function that starts a worker."""
    redis = connect(redis_url(redis_server.url))
    worker = Worker("late", redis, seal, [serve_pandora("main", config, upstream)], config)
    begun: list[asyncio.Task[None]] = []
    yield lambda: begun.append(asyncio.create_task(worker.main()))
    worker.drain()
    await asyncio.gather(*begun)
    await redis.aclose()


async def ask(client: Client, bearer: str = "one", **more: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {bearer}"}
    return await client.post(CHAT, json={**BODY, **more}, headers=headers)


# Conversations that an account may hold


async def test_a_busy_pool_is_halved_then_cools_down_and_grows_again(
    queue: WholeLine, redis: Redis
) -> None:
    await fill_pool(queue, 11)
    held = await claim(queue)
    assert len(held) == 3
    assert await queue.cool_down(held[2], 30, 60) == "requeued"
    assert await claim(queue) == [], "it holds two, and may hold one"
    for one in held[:2]:
        await finish(queue, one)
    (alone,) = await claim(queue)
    assert alone.id == held[2].id, "back in its old place"
    assert await field(redis, "gateway:account:pool", "rest") is None
    sizes = []
    running = [alone]
    while running:
        sizes.append(len(running))
        for one in running:
            await queue.begin(one, b"entry", {})
        for one in running:
            await finish(queue, one)
        running = await claim(queue)
    assert sizes == [1, 2, 3, 3]
    assert await redis.smembers("gateway:limited") == set()  # type: ignore[misc]  # redis-py: sync or async


async def fill_pool(queue: WholeLine, count: int) -> None:
    for n in range(count):
        await enqueue(queue, f"job-{n}", "pool", own_slots=3)


async def test_a_busy_account_with_one_conversation_cools_down(
    queue: WholeLine, redis: Redis
) -> None:
    await fill_pool(queue, 2)
    (first,) = await claim(queue, want=1)
    assert await queue.cool_down(first, 30, 60) == "requeued"
    assert await claim(queue) == []
    assert float(await field(redis, "gateway:account:pool", "learned") or 0) == 1.5
    assert await redis.zscore("gateway:later", "account pool") is not None


async def test_jobs_of_a_used_up_family_wait_while_all_others_are_served(
    client: Client, upstream: Judged, redis: Redis
) -> None:
    def judge(job: ChatJob) -> Any:
        return HELLO if upstream.asked else CAPPED

    upstream.judge = judge
    begun = await now(redis)
    parked = asyncio.create_task(ask(client))
    while not (later := await redis.zrange("gateway:later", 0, -1, withscores=True)):
        await asyncio.sleep(0.01)
    ((family, until),) = later
    assert until >= begun + 3000
    await redis.zadd("gateway:later", {family: until + 40_000})
    behind = asyncio.create_task(ask(client))
    assert (await ask(client, model="gpt-3.5-turbo")).status_code == 200
    assert (await ask(client, "another")).status_code == 200
    assert not parked.done()
    await redis.zadd("gateway:later", {family: 1})
    assert [(await task).status_code for task in (parked, behind)] == [200, 200]


async def test_a_job_whose_deadline_is_before_the_family_is_available_fails_at_once(
    redis: Redis, front: Client, upstream: Judged, start_worker: Callable[[], None]
) -> None:
    upstream.first(1, CAPPED)
    tasks = []
    for n in range(2):
        tasks.append(asyncio.create_task(ask(front)))
        while await redis.zcard("gateway:waiting:chat") <= n:
            await asyncio.sleep(0.01)
        if n == 0:
            (id,) = await redis.zrange("gateway:waiting:chat", 0, -1)
            seconds, _ = await redis.time()
            await redis.hset(f"gateway:job:{id.decode()}", "deadline", (seconds + 1) * 1000)  # type: ignore[misc]  # redis-py: sync or async
    start_worker()
    told, waited = await asyncio.gather(*tasks)
    assert (told.status_code, told.json()["error"]["code"]) == (429, "model_cap_exceeded")
    assert waited.status_code == 200
    assert len(upstream.asked) == 2


def patient(config: settings.Settings, on_model_cap: Any) -> settings.Settings:
    return replace(config, queue=replace(config.queue, on_model_cap=on_model_cap))


@pytest.mark.parametrize(
    ("config", "seconds"),
    [(patient(CONFIG, "refuse"), 20), (patient(CONFIG, "wait"), 9000)],
    ids=["not at all", "longer than anybody may wait"],
)
async def test_waiting_jobs_fail_too_if_the_used_up_family_is_not_waited_for(
    redis: Redis, front: Client, upstream: Judged, seconds: int, start_worker: Callable[[], None]
) -> None:
    used_up = Failed("rate_limited", "used up", "model_cap_exceeded", retry_after=seconds)
    capped = UpstreamError(used_up, capped_for=seconds)
    upstream.judge = lambda job: capped if job.bearer == "one" else HELLO
    begun = asyncio.Event()

    async def stream() -> httpx.Response:
        headers = {"authorization": "Bearer one"}
        body = {**BODY, "stream": True}
        url = front.make_url(CHAT)
        async with front.session.stream("POST", url, json=body, headers=headers) as response:
            begun.set()
            await response.aread()
            return response

    waiting = [asyncio.create_task(one) for one in (ask(front), ask(front), stream())]
    while await redis.zcard("gateway:waiting:chat") < 3:
        await asyncio.sleep(0.01)
    await begun.wait()  # its status is sent, so its failure has to be a message
    start_worker()
    answers = await asyncio.gather(*waiting)
    for answer in answers[:2]:
        assert answer.status_code == 429
        assert answer.json()["error"]["code"] == "model_cap_exceeded"
        assert answer.headers["retry-after"] == str(seconds)
        assert ("x-should-retry" in answer.headers) == (seconds > 60)
    *keepalives, failure = messages(answers[2])
    assert failure["error"]["code"] == "model_cap_exceeded"
    assert said(keepalives) == ""
    assert len(upstream.asked) == 1, "the other jobs were not sent upstream"
    late = await ask(front)
    assert (late.status_code, late.json()["error"]["code"]) == (429, "model_cap_exceeded")
    assert seconds - 15 < int(late.headers["retry-after"]) <= seconds
    assert (await ask(front, "another")).status_code == 200


async def test_a_deactivated_account_fails_all_its_waiting_jobs_at_once(
    redis: Redis, front: Client, upstream: Judged, start_worker: Callable[[], None]
) -> None:
    upstream.judge = lambda job: UNAUTHORIZED if job.bearer == "one" else HELLO
    models = ["gpt-4-s", "gpt-3.5-turbo", "gpt-4-mobile", "gpt-4-s"]
    waiting = [asyncio.create_task(ask(front, model=model)) for model in models]
    other = asyncio.create_task(ask(front, "another"))
    while await redis.zcard("gateway:waiting:chat") < 5:
        await asyncio.sleep(0.01)
    start_worker()
    for answer in await asyncio.gather(*waiting):
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "account_deactivated")
    assert len(upstream.asked) <= 2, "one for each of the two accounts"
    assert (await other).status_code == 200
    assert int(await redis.get("gateway:bytes")) == 0


# Retries


async def test_a_job_that_fails_before_its_first_event_is_retried(
    client: Client, upstream: Judged
) -> None:
    upstream.first(2, DOWN)
    answer = await ask(client)
    assert answer.status_code == 200
    assert len(upstream.asked) == 3
    assert len({job.id for job in upstream.asked}) == 1


async def test_a_job_is_not_retried_more_often_than_configured(
    client: Client, upstream: Judged, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    upstream.first(3, DOWN)
    answer = await ask(client)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_unreachable")
    assert len(upstream.asked) == 3
    # Both logs name the job, so that the id a client reports is found in the log of its worker.
    name, job = answer.headers["x-request-id"], upstream.asked[0].id
    fields = {"request": name, "job": job, "status": 502, "code": "upstream_unreachable"}
    logged = [vars(record) for record in caplog.records]
    failed = [record for record in logged if record.get("event") == "request_failed"]
    assert any(fields.items() <= record.items() for record in failed)
    fields = {"event": "job_failed", "job": job, "reason": "upstream_unreachable"}
    assert any(fields.items() <= record.items() for record in logged)


async def test_a_job_is_never_retried_after_its_first_event(
    client: Client, upstream: ScriptedUpstream
) -> None:
    said = [Started("m"), Delta("half")]
    calls = 0

    async def breaking(job: ChatJob) -> AsyncIterator[Any]:
        nonlocal calls
        calls += 1
        yield said
        raise DOWN

    upstream.answer = breaking  # type: ignore[method-assign,assignment]  # in its place
    assert (await ask(client)).status_code == 502
    streamed = messages(await ask(client, stream=True))
    assert "error" in streamed[-1]
    assert calls == 2


async def test_a_failure_caused_by_the_request_is_not_retried(
    client: Client, upstream: Judged
) -> None:
    upstream.judge = lambda job: UpstreamError(Failed("forbidden", "no"))
    assert (await ask(client)).status_code == 403
    assert len(upstream.asked) == 1


# The circuit breaker


async def open_circuit(queue: WholeLine, failures: int = 3) -> None:
    for n in range(failures):
        await enqueue(queue, f"fails-{n}", f"fails-{n}")
        (claimed,) = await claim(queue)
        await queue.finish(
            claimed.id, claimed.attempt, "failed", b"entry", {}, upstream_failed=True
        )


async def breaking_line(redis: Redis, seal: Seal) -> WholeLine:
    upstream = settings.Upstream(circuit_failures=3, max_concurrency=10)
    queue = WholeLine(redis, seal, QUICK, upstream)
    await queue.presences.show_front_end("front")
    await has_worker(redis, seal, upstream)
    return queue


async def half_open(redis: Redis) -> None:
    """Let the time pass for which the circuit is open."""
    until = float(await field(redis, "gateway:breaker:main", "until") or 0)
    await redis.hset("gateway:breaker:main", "until", str(until - 3_600_000))  # type: ignore[misc]  # redis-py: sync or async


async def refusal(queue: WholeLine, id: str) -> Refused:
    admission = await queue.enqueue(new(id, id), b"body")
    assert isinstance(admission, Refused), admission
    assert admission.reason == "circuit_open"
    return admission


async def test_consecutive_failures_open_the_circuit_and_one_answer_closes_it(
    redis: Redis, seal: Seal
) -> None:
    queue = await breaking_line(redis, seal)
    await open_circuit(queue, 2)
    await enqueue(queue, "waits", "waits")
    await open_circuit_with(queue, "third")
    assert 4 < (await refusal(queue, "early")).retry_after <= 5
    assert await claim(queue) == [], "what waits is left alone too"
    await half_open(redis)
    (probe,) = await claim(queue)
    await refusal(queue, "second")
    assert await claim(queue) == [], "one at a time"
    await queue.begin(probe, b"entry", {})
    for n in range(3):
        assert isinstance(await queue.enqueue(new(f"after-{n}", f"a{n}"), b"body"), Accepted)
    assert len(await claim(queue)) == 3


async def open_circuit_with(queue: WholeLine, id: str) -> None:
    claimed: list[Claim] = []
    await enqueue(queue, id, id)
    claimed = await claim(queue)
    waits = [one for one in claimed if one.id != id]
    (failing,) = [one for one in claimed if one.id == id]
    for one in waits:
        await queue.requeue(one)
    await queue.finish(failing.id, failing.attempt, "failed", b"entry", {}, upstream_failed=True)


async def test_a_failed_probe_opens_the_circuit_for_twice_as_long(redis: Redis, seal: Seal) -> None:
    queue = await breaking_line(redis, seal)
    await open_circuit(queue)
    await half_open(redis)
    await enqueue(queue, "probe", "probe")
    (probe,) = await claim(queue)
    await queue.finish("probe", probe.attempt, "failed", b"entry", {}, upstream_failed=True)
    assert 9 < (await refusal(queue, "early")).retry_after <= 10


async def test_a_job_that_is_retried_counts_once_for_the_circuit(redis: Redis, seal: Seal) -> None:
    queue = await breaking_line(redis, seal)
    await enqueue(queue, "job")
    for _ in range(5):
        claimed: list[Claim] = []
        while not claimed:
            claimed = await claim(queue)
        assert await queue.retry(claimed[0], 0.01, 0.01, 100) == "requeued"
    assert isinstance(await queue.enqueue(new("other", "other"), b"body"), Accepted)


@pytest.mark.parametrize("how", ["rest", "park", "unauthorized", "bad_file"])
async def test_a_probe_refused_for_its_account_closes_the_circuit(
    redis: Redis, seal: Seal, how: str
) -> None:
    """The account of the probe was busy: the probe was requeued, and while it waited no other job
    was claimed."""
    queue = await breaking_line(redis, seal)
    await open_circuit(queue)
    await half_open(redis)
    await enqueue(queue, "probe", "probe")
    (probe,) = await claim(queue)
    match how:
        case "rest":
            await queue.cool_down(probe, 60, 60)
        case "park":
            await queue.park(probe, 3600)
        case _:
            await queue.finish("probe", probe.attempt, "failed", b"entry", {}, reason=how)
    for n in range(2):
        assert isinstance(await queue.enqueue(new(f"after-{n}", f"a{n}"), b"body"), Accepted)
    assert len(await claim(queue)) == 2


async def test_a_job_that_cannot_be_claimed_does_not_keep_the_circuit_open(
    redis: Redis, seal: Seal
) -> None:
    """A job whose account was used up for hours waited, and so no other job could be the probe."""
    queue = await breaking_line(redis, seal)
    await enqueue(queue, "parked", "parked")
    (parked,) = await claim(queue)
    await queue.park(parked, 3600)
    await open_circuit(queue)
    await half_open(redis)
    await enqueue(queue, "probe", "probe")
    assert [c.id for c in await claim(queue)] == ["probe"]


@pytest.mark.parametrize(
    "config", [replace(CONFIG, upstream=replace(CONFIG.upstream, retries=0))], ids=["no retries"]
)
async def test_while_the_circuit_is_open_requests_are_refused_without_asking_the_upstream(
    client: Client, upstream: Judged
) -> None:
    upstream.judge = lambda job: DOWN
    for n in range(3):
        assert (await ask(client, f"bot-{n}")).status_code == 502
    asked = len(upstream.asked)
    refused = await ask(client, "another")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "upstream_unavailable")
    assert 1 <= int(refused.headers["retry-after"]) <= 5
    assert len(upstream.asked) == asked
