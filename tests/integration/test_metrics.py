"""Counting in a real Redis, the snapshot of a real line, and `GET /metrics` over both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

import settings
from app.http.framework import ApiErrors
from app.http.unserved import Served
from app.metrics import MetricsExporter
from benchmarks.line import WholeLine
from settings.credentials import Secret
from settings.redis_url import redis_url
from tests.support.line import claim, enqueue, present
from tests.support.sanic_adapter import SanicClient, new_app, started
from wire.key_figures import KeyReadings
from wire.line import keys, metrics
from wire.line.metrics import HISTOGRAMS
from wire.line.scripts import modules
from wire.line.scripts.linking import link
from wire.line.snapshot import Snapshot, SortSnapshot
from wire.line.upkeep import PAUSED
from wire.redis.client import Redis, connect
from wire.seal import Seal

TOKEN = "a-token-of-the-operator"

Get = Callable[..., Awaitable[httpx.Response]]


async def run(redis: Redis, script: str, *args: str | int | float) -> bytes:
    linked = link(f"-- needs: metrics, vocabulary\n{script}", modules("0123abcd"))
    result: bytes = await redis.register_script(linked)(args=args)
    return result


# Counting


async def test_the_scripts_have_the_declared_bounds(redis: Redis) -> None:
    bounds = json.loads(await run(redis, "return cjson.encode(vocabulary.bounds)"))
    assert bounds == {histogram.name: list(histogram.bounds) for histogram in HISTOGRAMS}


async def test_counts_add_up_over_any_number_of_callers(redis: Redis) -> None:
    script = """
        local queue = ARGV[1]
        metrics.count('gateway_endings_total', {reason = 'done', lane = 'chat'})
        metrics.count('gateway_endings_total', {lane = 'chat', reason = 'cancelled'}, 2)
    """
    await asyncio.gather(*(run(redis, script, "arq:queue:chat:0123abcd") for _ in range(20)))
    endings = (await metrics.read(redis)).counters["gateway_endings_total"]
    assert endings["chat", "done"] == 20
    assert endings["chat", "cancelled"] == 40
    assert sum(endings.values()) == 60


async def test_observations_fall_into_their_buckets_bounds_included(redis: Redis) -> None:
    script = "metrics.observe('gateway_wait_seconds', {lane = 'chat'}, tonumber(ARGV[1]))"
    for seconds in (0, 0.1, 0.101, 5, 599.5, 601, -3):
        await run(redis, script, seconds)
    waits = (await metrics.read(redis)).histograms["gateway_wait_seconds"]["chat",]
    #                        0.1  0.5  1  2  5  10  20  30  60  120  300  600  more
    assert waits.buckets == [3, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 1]
    assert waits.sum == pytest.approx(1205.701)


async def test_an_estimate_is_judged_in_seconds_and_if_the_wait_was_long_as_a_part_of_it(
    redis: Redis,
) -> None:
    script = "metrics.observe_forecast({lane = 'chat'}, tonumber(ARGV[1]), tonumber(ARGV[2]))"
    await run(redis, script, 30, 20)
    await run(redis, script, 3, 0)
    found = (await metrics.read(redis)).histograms
    assert found["gateway_eta_error_seconds"]["chat",].sum == 13
    assert found["gateway_eta_error_ratio"]["chat",].sum == 0.5
    assert sum(found["gateway_eta_error_ratio"]["chat",].buckets) == 1


@pytest.mark.parametrize("word", ["Bearer eyJhbGci.x", 'a"} 1\nb{c="', "UPPER", "", "a-b"])
async def test_only_plain_words_become_label_values(redis: Redis, word: str) -> None:
    await run(
        redis, "metrics.count('gateway_endings_total', {lane = 'chat', reason = ARGV[1]})", word
    )
    assert await redis.hgetall(keys.metrics) == {  # type: ignore[misc]  # redis-py: sync or async
        b'gateway_endings_total{lane="chat",reason="other"}': b"1"
    }


async def test_a_metric_that_cannot_be_counted_does_not_fail_its_script(redis: Redis) -> None:
    await redis.set(keys.metrics, b"not a hash")
    script = "metrics.count('gateway_jobs_total', {lane = 'chat'}) return 'went on'"
    assert await run(redis, script) == b"went on"


# The snapshot


async def test_the_snapshot_counts_jobs_leases_workers_and_accounts(
    redis: Redis, queue: WholeLine, seal: Seal
) -> None:
    def expected(chat: SortSnapshot, resting: int = 0) -> Snapshot:
        sorts = {"chat": chat, "images": SortSnapshot(), "embeddings": SortSnapshot()}
        accounts = {"resting": resting, "parked": 0, "limited": 0}
        return Snapshot(sorts, accounts, 2, served=1, slots=100, paused=dict.fromkeys(PAUSED, 0))

    await present(queue)
    assert await queue.snapshot() == expected(SortSnapshot())
    for n in range(4):
        await enqueue(queue, f"job-{n}", f"account-{n % 3}")
    claims = await claim(queue, want=2)
    assert await queue.snapshot() == expected(SortSnapshot(2, 2, 2))
    await queue.cool_down(claims[0], 30, 60)
    assert await queue.snapshot() == expected(SortSnapshot(3, 1, 1), resting=1)
    assert await queue.finish(claims[1].id, claims[1].attempt, "done", b"entry", {})
    assert await queue.snapshot() == expected(SortSnapshot(3, 0, 0), resting=1)


# Over HTTP


@asynccontextmanager
async def served(handler: MetricsExporter, sanic_client: SanicClient) -> AsyncIterator[Get]:
    app = new_app()
    app.error_handler = ApiErrors(Served("/v1", []))
    app.add_route(handler, "/metrics", methods=["GET"], name="metrics")
    async with started(app):
        client = await sanic_client(app, timeout=20)

        async def get(**headers: str) -> httpx.Response:
            return await client.get("/metrics", headers=headers)

        yield get


def exporter(
    queue: WholeLine, redis: Redis, seal: Seal, config: settings.Settings | None = None
) -> MetricsExporter:
    read_keys = KeyReadings(redis, seal, queue).read
    return MetricsExporter(queue, redis, read_keys, config or settings.Settings())


async def test_the_exposition_format_follows_the_accept_header(
    redis: Redis, queue: WholeLine, seal: Seal, sanic_client: SanicClient
) -> None:
    async with served(exporter(queue, redis, seal), sanic_client) as get:
        plain, odd = await get(), await get(accept="text/plain;version=x.y;escaping=z")
        opened = await get(accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert plain.status_code == odd.status_code == opened.status_code == 200
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert odd.headers["content-type"] == plain.headers["content-type"]
    assert opened.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert opened.text.endswith("# EOF\n")
    assert "gateway_redis_up 1.0" in plain.text.splitlines()


async def test_while_redis_is_unreachable_metrics_say_so_and_show_no_old_values(
    redis: Redis, queue: WholeLine, seal: Seal, sanic_client: SanicClient
) -> None:
    nowhere = connect(redis_url("redis://127.0.0.1:1/0"))
    async with served(exporter(queue, nowhere, seal), sanic_client) as get:
        answer = await get()
    await nowhere.aclose()
    assert answer.status_code == 200
    shown = [line for line in answer.text.splitlines() if not line.startswith("#")]
    assert shown == [
        "gateway_redis_up 0.0",
        "gateway_slots 4.0",
        "gateway_max_wait_seconds 300.0",
    ]


async def test_a_redis_that_does_not_answer_delays_metrics_by_at_most_the_timeout(
    redis: Redis,
    queue: WholeLine,
    seal: Seal,
    sanic_client: SanicClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.metrics.PATIENCE", 0.2)

    async def never() -> Snapshot:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(queue, "snapshot", never)
    async with served(exporter(queue, redis, seal), sanic_client) as get:
        async with asyncio.timeout(30):
            answer = await get()
    assert answer.status_code == 200
    assert "gateway_redis_up 0.0" in answer.text.splitlines()
    assert "gateway_jobs_total" not in answer.text


async def test_with_a_metrics_token_only_its_bearer_may_read(
    redis: Redis, queue: WholeLine, seal: Seal, sanic_client: SanicClient
) -> None:
    config = settings.Settings(metrics=settings.Metrics(token=Secret(TOKEN)))
    async with served(exporter(queue, redis, seal, config), sanic_client) as get:
        assert (await get()).status_code == 401
        assert (await get(authorization="Bearer another")).status_code == 401
        assert (await get(authorization=f"Basic {TOKEN}")).status_code == 401
        answer = await get(authorization=f"Bearer {TOKEN}")
    assert answer.status_code == 200
    assert TOKEN not in answer.text
