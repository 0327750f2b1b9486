"""Requests with gateway keys on the operator's accounts, over HTTP: a real Redis and worker."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import settings
from local.redis import EmbeddedRedis
from settings.redis_url import redis_url
from tests.support.line import LASTING
from tests.support.requests import BODY, CHAT, messages
from tests.support.sanic_adapter import Client
from tests.support.scripted import HELLO, Judged, ScriptedUpstream
from wire.events import Delta, Done, Event, Failed, Started
from wire.jobs import ChatJob, fingerprint
from wire.keyring import Keyring
from wire.redis.client import Redis, connect
from wire.seal import Seal
from workers.accounts import open_pool
from workers.opening import serve_pandora
from workers.upstream import UpstreamBusy, UpstreamError
from workers.worker import Worker

IMAGES = "/v1/images/generations"
TOKENS = [f"pool-token-{name}" for name in "abc"]
REFUSED = UpstreamError(Failed("unauthorized", f"no: {TOKENS[0]}", "token_expired"))
GONE = UpstreamError(Failed("unauthorized", "gone", "account_deactivated"))
LIMITED = UpstreamError(Failed("rate_limited", "slowly", retry_after=3000.0))


def used_up(seconds: float) -> UpstreamError:
    failed = Failed("rate_limited", "used up", "model_cap_exceeded", retry_after=seconds)
    return UpstreamError(failed, capped_for=seconds)


@pytest.fixture
def accounts(tmp_path: Path) -> Path:
    """The file of the accounts: a, b and c."""
    file = tmp_path / "accounts"
    write(file, *TOKENS)
    return file


def write(file: Path, *tokens: str) -> None:
    file.write_text("\n".join(f"{token} {token[-1]}" for token in tokens))
    changed = file.stat().st_mtime_ns + 1_000_000
    os.utime(file, ns=(changed, changed))


@pytest.fixture
def on_model_cap() -> str:
    return "wait"


@pytest.fixture
def config(accounts: Path, on_model_cap: Any) -> settings.Settings:
    return settings.Settings(
        queue=replace(LASTING, max_wait=60.0, on_model_cap=on_model_cap),
        upstream=settings.Upstream(accounts_file=str(accounts), max_concurrency=8),
        stream=settings.Stream(grace=0.2),
        auth=settings.Auth(mode="both"),
    )


@pytest.fixture
def upstream() -> Judged:
    return Judged()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.upstreams.INTERVAL", 0.02)


@pytest.fixture
async def worker(
    redis_server: EmbeddedRedis, seal: Seal, upstream: Judged, config: settings.Settings
) -> AsyncIterator[Worker]:
    redis = connect(redis_url(redis_server.url))
    pool = open_pool("main", config.upstream, seal)
    served = serve_pandora("main", config, upstream, pool)
    worker = Worker("pooled", redis, seal, [served], config)
    main = asyncio.create_task(worker.main())
    yield worker
    worker.drain()
    await main
    await redis.aclose()


@pytest.fixture
async def key(client: Client, redis: Redis, seal: Seal) -> str:
    """A gateway key, once the worker has described its accounts."""
    while not await redis.exists("gateway:accounts:main"):
        await asyncio.sleep(0.01)
    return (await Keyring(redis, seal).new("bot", {}))[0]


async def ask(client: Client, key: str, path: str = CHAT, **more: Any) -> Any:
    headers = {"authorization": f"Bearer {key}"}
    return await client.post(path, json={**BODY, **more}, headers=headers)


async def aside(redis: Redis) -> set[str]:
    """The accounts that are set aside."""
    found = await redis.zrange("gateway:later", 0, -1)
    return {entry.decode().partition("/")[2] for entry in found if entry.startswith(b"account ")}


async def reasons(client: Client) -> list[str]:
    body: dict[str, list[str]] = (await client.get("/readyz")).json()
    return [reason for reason in body["reasons"] if "accounts" in reason]


async def test_gateway_keys_run_on_the_operators_accounts_and_others_on_their_own(
    client: Client, key: str, upstream: Judged, redis: Redis
) -> None:
    for path in (CHAT, IMAGES):
        await ask(client, key, path, prompt="draw")
    assert (await ask(client, "own-token")).status_code == 200
    shared, images, own = upstream.asked
    assert shared.bearer in TOKENS
    assert images.bearer in TOKENS
    assert own.bearer == "own-token"
    assert [job.key for job in upstream.asked] == [
        fingerprint(key),
        fingerprint(key),
        fingerprint("own-token"),
    ]
    kept = [await redis.dump(name) or b"" for name in await redis.keys("*")]
    assert not any(token.encode() in value for value in kept for token in TOKENS)


async def test_a_gateway_key_bounds_its_models_and_has_settings_of_bot_of_its_own(
    client: Client, key: str, upstream: Judged, redis: Redis, seal: Seal
) -> None:
    answer = [Started("m"), Delta("hi"), Delta("1+1", "code"), Done("stop")]
    upstream.judge = lambda job: answer
    fields = {"models": ["gpt-4"], "bot": {"enabled": True}}
    bot, _ = await Keyring(redis, seal).new("bot", fields)
    said = [
        (await ask(client, each, model="gpt-4")).json()["choices"][0]["message"]["content"]
        for each in (key, bot)
    ]
    assert "1+1" in said[0]
    assert said[1] == "hi"
    refused = [
        await ask(client, bot),
        await ask(client, bot, "/v1/messages", max_tokens=5),
        await ask(client, bot, "/v1/messages/count_tokens"),
        await ask(client, bot, IMAGES, prompt="draw", model="gpt-4-s"),
    ]
    assert [answer.status_code for answer in refused] == [404] * 4
    headers = {"authorization": f"Bearer {bot}"}
    listed = await client.get("/v1/models", headers=headers)
    assert [model["id"] for model in listed.json()["data"]] == ["gpt-4"]
    # Without a name, images are drawn by a model that the key may use by one of its names.
    drawn = await client.post(IMAGES, json={"prompt": "draw"}, headers=headers)
    assert drawn.json()["error"]["code"] == "image_generate_fail"


async def test_refused_accounts_are_set_aside_and_the_job_runs_on_another(
    client: Client, key: str, upstream: Judged, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    refusals = {TOKENS[0]: REFUSED, TOKENS[1]: GONE}
    upstream.judge = lambda job: refusals.get(job.bearer, HELLO)
    answers = await asyncio.gather(*(ask(client, key) for _ in range(6)))
    assert {answer.status_code for answer in answers} == {200}
    tried = [job.bearer for job in upstream.asked]
    assert tried.count(TOKENS[0]) <= 1, "its other jobs did not ask again"
    assert tried.count(TOKENS[1]) <= 1
    assert await aside(redis) == {token[-1] for token in tried if token != TOKENS[2]}
    while len(shown := await reasons(client)) < 1:
        await asyncio.sleep(0.01)
    assert not any(token in text for token in TOKENS for text in [caplog.text, *shown])


async def test_without_an_account_jobs_wait_until_a_better_token_is_in_the_file(
    client: Client, key: str, upstream: Judged, accounts: Path, redis: Redis
) -> None:
    upstream.judge = lambda job: HELLO if job.bearer == "better-b" else REFUSED
    waiting = asyncio.create_task(ask(client, key))
    while len(await aside(redis)) < 3:
        await asyncio.sleep(0.01)
    refused = await ask(client, key)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_account")
    assert 50 <= int(refused.headers["retry-after"]) <= 60
    assert (await ask(client, "better-b")).status_code == 200, "its own account"
    left = "0 of 3 accounts of upstream main are left: a: token refused, again in "
    while not any(reason.startswith(left) for reason in await reasons(client)):
        await asyncio.sleep(0.01)
    metrics = (await client.get("/metrics")).text
    assert 'gateway_accounts{state="aside",upstream="main"} 3.0' in metrics
    write(accounts, TOKENS[0], "better-b")
    assert (await waiting).status_code == 200
    assert await aside(redis) >= {"a"}
    assert (await ask(client, key)).status_code == 200


async def test_a_busy_or_limited_account_cools_down_and_the_job_runs_on_another(
    client: Client, key: str, upstream: Judged, redis: Redis
) -> None:
    troubles = {TOKENS[0]: UpstreamBusy(), TOKENS[1]: LIMITED}
    upstream.judge = lambda job: troubles.get(job.bearer, HELLO)
    for _ in range(3):
        assert (await ask(client, key)).status_code == 200
    while await asyncio.gather(*(ask(client, key) for _ in range(3))):
        if await aside(redis) == {"a", "b"}:
            break
    metrics = (await client.get("/metrics")).text
    assert 'gateway_accounts{state="resting",upstream="main"} 2.0' in metrics
    assert await reasons(client) == []


@pytest.mark.parametrize("on_model_cap", ["refuse"])
async def test_waiting_jobs_end_with_the_upstreams_error_when_all_accounts_are_used_up(
    client: Client, key: str, upstream: Judged
) -> None:
    upstream.judge = lambda job: HELLO if job.family == "gpt_3_5" else used_up(9000)
    images = [ask(client, key, IMAGES, prompt="draw") for _ in range(3)]
    answers = await asyncio.gather(*images, *(ask(client, key) for _ in range(5)))
    found = {(answer.status_code, answer.json()["error"]["code"]) for answer in answers}
    assert found == {(429, "model_cap_exceeded")}
    assert {job.bearer for job in upstream.asked} == set(TOKENS)
    assert len(upstream.asked) == 3
    assert (await ask(client, key, model="gpt-3.5-turbo")).status_code == 200
    late = await ask(client, key)
    assert (late.status_code, late.json()["error"]["code"]) == (429, "model_cap_exceeded")
    assert 8900 < int(late.headers["retry-after"]) <= 9000


async def test_a_used_up_model_is_waited_for_if_the_operator_wants_that(
    client: Client, key: str, upstream: Judged, redis: Redis
) -> None:
    upstream.judge = lambda job: HELLO if len(upstream.asked) > 3 else used_up(100)
    waiting = asyncio.create_task(ask(client, key))
    while await redis.zcard("gateway:later") < 3:
        await asyncio.sleep(0.01)
    assert not waiting.done()
    for entry in await redis.zrange("gateway:later", 0, -1):
        await redis.zadd("gateway:later", {entry: 1})
    assert (await waiting).status_code == 200


async def test_a_refusal_in_the_middle_of_an_answer_is_no_refusal_of_the_client(
    client: Client, key: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaking(job: ChatJob) -> AsyncIterator[Sequence[Event]]:
        yield [Started("m"), Delta("half")]
        raise UpstreamError(Failed("unauthorized", f"no: {job.bearer}", "token_expired"))

    monkeypatch.setattr(upstream, "answer", breaking)
    answer = await ask(client, key)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_refused_us")
    *_, last = messages(await ask(client, key, stream=True))
    assert last["error"]["code"] == "upstream_refused_us"
    own = await ask(client, "own-token")
    assert own.status_code == 401


async def test_an_error_that_quotes_a_token_is_not_shown(
    client: Client, key: str, upstream: Judged
) -> None:
    refuse: Callable[[ChatJob], UpstreamError] = lambda job: UpstreamError(  # noqa: E731
        Failed("forbidden", f"what is {job.bearer}?", "odd")
    )
    upstream.judge = refuse
    answer = await ask(client, key)
    assert answer.status_code == 403
    assert "pool-token" not in answer.text
