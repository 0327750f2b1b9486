"""The front end over HTTP, with a real Redis, a real worker and a scripted upstream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import httpx
import msgspec
import pytest
from arq.connections import ArqRedis

import settings
from app.line import Line
from app.server import Server
from deploy.redis import EmbeddedRedis
from tests.integration.conftest import QUICK
from tests.integration.sanic_adapter import new_app, started
from tests.integration.scripted import HELLO, ScriptedUpstream
from wire.events import Citation, Delta, Done, Event, Failed, File, Image, Started
from wire.redis import connect
from wire.seal import Seal
from workers.upstream import UpstreamBusy, UpstreamError
from workers.worker import Worker

CHAT = "/v1/chat/completions"
BODY = {"model": "gpt-4-s", "messages": [{"role": "user", "content": "hi"}]}
BEARER = {"authorization": "Bearer abc"}


class Client(Protocol):
    """The part of pytest-sanic's client that is used here."""

    session: httpx.AsyncClient

    def make_url(self, uri: str) -> str: ...
    async def get(self, uri: str, **more: Any) -> httpx.Response: ...
    async def post(self, uri: str, **more: Any) -> httpx.Response: ...


SanicClient = Callable[..., Awaitable[Client]]


@pytest.fixture
def config() -> settings.Settings:
    return settings.Settings(
        queue=QUICK,
        stream=settings.Stream(grace=0.2, keepalive_interval=0.1),
        upstream=settings.Upstream(first_event_timeout=1.0, idle_timeout=0.5, max_duration=2.0),
    )


@pytest.fixture
def upstream() -> ScriptedUpstream:
    return ScriptedUpstream()


@pytest.fixture
async def worker(
    redis: ArqRedis,
    redis_server: EmbeddedRedis,
    seal: Seal,
    upstream: ScriptedUpstream,
    config: settings.Settings,
) -> AsyncIterator[Worker]:
    """A worker in the test's own loop."""
    client = connect(redis_server.url)
    worker = Worker("tested", client, seal, upstream, config)
    main = asyncio.create_task(worker.main())
    yield worker
    worker.drain()
    await main
    await client.aclose()


@pytest.fixture
async def front(
    redis: ArqRedis,
    redis_server: EmbeddedRedis,
    seal: Seal,
    config: settings.Settings,
    sanic_client: SanicClient,
) -> AsyncIterator[Client]:
    """A front end without a worker."""
    client = connect(redis_server.url)
    app = new_app()
    Server(config, Line(client, seal, config)).attach(app)
    async with started(app):
        yield await sanic_client(app, timeout=20)
    await client.aclose()


@pytest.fixture
def client(front: Client, worker: Worker) -> Client:
    """A client of a whole gateway."""
    return front


def messages(response: httpx.Response) -> list[Any]:
    """The SSE messages of a streamed answer, `[DONE]` as None."""
    found = [m.removeprefix("data: ") for m in response.text.split("\n\n") if m[:5] == "data:"]
    return [None if m == "[DONE]" else json.loads(m) for m in found]


async def test_streamed_and_whole_answers_have_the_same_text_and_end(
    client: Client, upstream: ScriptedUpstream
) -> None:
    upstream.script = ([Started("m"), Delta("a"), Delta("b")], [], [Delta("c")], [Done("length")])
    whole = (await client.post(CHAT, json=BODY, headers=BEARER)).json()
    streamed = messages(await client.post(CHAT, json={**BODY, "stream": True}, headers=BEARER))
    assert whole["choices"][0]["message"]["content"] == "abc"
    deltas = [chunk["choices"][0]["delta"].get("content", "") for chunk in streamed[:-1]]
    assert "".join(deltas) == "abc"
    assert whole["choices"][0]["finish_reason"] == "length"
    assert streamed[-2]["choices"][0]["finish_reason"] == "length"
    assert streamed[-1] is None
    assert whole["system_fingerprint"] == streamed[0]["system_fingerprint"]


TOOLS: list[Event] = [
    Started("m"),
    Delta("print(1)", "code"),
    Delta("1", "output"),
    Image("dalle", "https://files.example/a"),
    Delta("See"),
    Citation("6", "https://ex.org"),
    File("https://files.example/b"),
    Done("stop"),
]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            settings.Settings(queue=QUICK),
            "\n```\nprint(1)\n```\n`Result:` \n```\n1\n```\n\n![image](https://files.example/a)\n"
            "[下载链接](https://files.example/a)\nSee[[6](https://ex.org)](https://files.example/b)",
        ),
        (
            settings.Settings(queue=QUICK, bot=settings.Bot(enabled=True)),
            "See(https://files.example/b)",
        ),
    ],
    ids=["bot mode off", "bot mode on"],
)
async def test_what_tools_do_is_shown_as_the_settings_say(
    client: Client, upstream: ScriptedUpstream, expected: str
) -> None:
    upstream.script = (*[[event] for event in TOOLS],)
    whole = (await client.post(CHAT, json=BODY, headers=BEARER)).json()
    streamed = messages(await client.post(CHAT, json={**BODY, "stream": True}, headers=BEARER))
    deltas = [chunk["choices"][0]["delta"].get("content", "") for chunk in streamed[:-1]]
    assert whole["choices"][0]["message"]["content"] == expected
    assert "".join(deltas) == expected


@pytest.mark.parametrize(
    "config",
    [
        settings.Settings(
            queue=QUICK,
            bot=settings.Bot(enabled=True),
            stream=settings.Stream(grace=0.2, keepalive_interval=0.1),
        )
    ],
)
async def test_a_client_that_is_not_shown_the_code_still_gets_a_sign_of_life_now_and_then(
    client: Client, upstream: ScriptedUpstream
) -> None:
    code: list[list[Event] | float] = [[Delta("x", "code")], 0.02]
    upstream.script = ([Started("m")], *(code * 20), [Delta("a"), Done("stop")])
    response = await client.post(CHAT, json={**BODY, "stream": True}, headers=BEARER)
    assert 1 <= response.text.count(": working\n\n") <= 10
    assert "x" not in "".join(
        chunk["choices"][0]["delta"].get("content", "") for chunk in messages(response)[:-1]
    )


async def test_the_upstream_gets_the_bearer_and_the_messages_as_they_were_sent(
    client: Client, upstream: ScriptedUpstream
) -> None:
    said = [
        {"role": "developer", "content": "rules"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "tool", "content": "result", "tool_call_id": "x"},
        {"role": "user", "content": ""},
    ]
    await client.post(CHAT, json={**BODY, "messages": said}, headers=BEARER)
    (job,) = upstream.asked
    assert job.bearer == "abc"
    assert [(m.role, m.text) for m in job.messages] == [
        ("system", "rules"),
        ("user", "a\nb"),
        ("user", "result"),
        ("user", ""),
    ]


async def test_a_failure_keeps_its_status_until_the_stream_has_begun(
    client: Client, upstream: ScriptedUpstream
) -> None:
    upstream.script = (UpstreamError(Failed("rate_limited", "slow down", retry_after=7.2)),)
    for stream in (False, True):
        response = await client.post(CHAT, json={**BODY, "stream": stream}, headers=BEARER)
        assert response.status_code == 429
        assert response.headers["retry-after"] == "7"
        assert response.json()["error"]["message"] == "slow down"


async def test_a_failure_after_the_grace_is_an_error_in_the_stream(
    client: Client, upstream: ScriptedUpstream
) -> None:
    upstream.script = (0.5, UpstreamError(Failed("forbidden", "no")))
    response = await client.post(CHAT, json={**BODY, "stream": True}, headers=BEARER)
    assert response.status_code == 200
    assert [m["error"]["message"] for m in messages(response)] == ["no"]


async def test_an_answer_that_breaks_off_is_an_error_and_never_done(
    client: Client, upstream: ScriptedUpstream
) -> None:
    upstream.script = ([Started("m"), Delta("half")], UpstreamError(Failed("upstream_error", "x")))
    streamed = messages(await client.post(CHAT, json={**BODY, "stream": True}, headers=BEARER))
    assert "error" in streamed[-1]
    assert streamed[-2]["choices"][0]["delta"]["content"] == "half"
    whole = await client.post(CHAT, json=BODY, headers=BEARER)
    assert whole.status_code == 502


@pytest.mark.parametrize(
    "script",
    [
        (5.0,),  # does not begin
        ([Started("m"), Delta("a")], 5.0),  # falls silent
        ([Started("m"), Delta("a")], *([0.3, []] * 10)),  # goes on too long
    ],
)
async def test_every_wait_for_the_upstream_has_a_deadline(
    client: Client, upstream: ScriptedUpstream, script: Any
) -> None:
    upstream.script = script
    response = await client.post(CHAT, json=BODY, headers=BEARER)
    assert response.status_code == 504
    assert response.json()["error"]["code"] == "upstream_timeout"
    assert upstream.active == 0


async def test_a_bug_in_an_upstream_is_a_500_and_the_worker_goes_on(
    client: Client, upstream: ScriptedUpstream
) -> None:
    upstream.script = (KeyError("secret text"),)
    response = await client.post(CHAT, json=BODY, headers=BEARER)
    assert response.status_code == 500
    assert "secret" not in response.text
    upstream.script = (HELLO,)
    assert (await client.post(CHAT, json=BODY, headers=BEARER)).status_code == 200


async def test_a_busy_account_waits_without_its_client_noticing(
    client: Client, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.worker.SHORTEST_REST", 0.3)
    upstream.script = (UpstreamBusy(),)
    asking = asyncio.create_task(client.post(CHAT, json=BODY, headers=BEARER))
    while not upstream.asked:
        await asyncio.sleep(0.01)
    upstream.script = (HELLO,)
    assert (await asking).status_code == 200
    assert len(upstream.asked) == 2


async def test_one_account_is_asked_one_thing_at_a_time_and_a_pool_three(
    client: Client, upstream: ScriptedUpstream
) -> None:
    upstream.script = (0.1, HELLO)
    for bearer, peak in (("one", 1), ("pk-pool", 3)):
        upstream.peak = 0
        headers = {"authorization": f"Bearer {bearer}"}
        asked = (client.post(CHAT, json=BODY, headers=headers) for _ in range(6))
        assert {r.status_code for r in await asyncio.gather(*asked)} == {200}
        assert upstream.peak == peak


@pytest.mark.parametrize(
    ("kind", "first"),
    [("comment", ": queued position=1"), ("empty_delta", 'data: {"id"'), ("off", 'data: {"id"')],
)
async def test_keep_alives_are_what_the_settings_say(
    front: Client, config: settings.Settings, kind: str, first: str, redis: ArqRedis
) -> None:
    msgspec.structs.force_setattr(config.stream, "keepalive", kind)
    async with front.session.stream(
        "POST",
        front.make_url(CHAT),
        json={**BODY, "stream": True},
        headers=BEARER,
    ) as response:
        assert response.status_code == 200
        lines = response.aiter_lines()
        if kind == "off":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await anext(lines)
            return
        seen = [line async for line in _first(lines, 6) if line]
    assert seen[0].startswith(first)
    if kind == "empty_delta":
        assert json.loads(seen[0][6:])["choices"][0]["delta"]["role"] == "assistant"
        assert json.loads(seen[1][6:])["choices"][0]["delta"] == {"content": ""}


async def _first(lines: AsyncIterator[str], count: int) -> AsyncIterator[str]:
    async for line in lines:
        yield line
        count -= 1
        if not count:
            return


async def test_waiting_ends_at_its_deadline(front: Client, config: settings.Settings) -> None:
    msgspec.structs.force_setattr(config.queue, "max_wait", 0.3)
    response = await front.post(CHAT, json=BODY, headers=BEARER)
    assert response.status_code == 504
    assert response.json()["error"]["code"] == "waited_too_long"
    stream = await front.post(CHAT, json={**BODY, "stream": True}, headers=BEARER)
    assert stream.status_code == 200
    assert messages(stream)[-1]["error"]["code"] == "waited_too_long"


async def test_readiness_tells_what_is_missing(
    front: Client, redis: ArqRedis, redis_server: EmbeddedRedis, config: settings.Settings
) -> None:
    response = await front.get("/readyz")
    assert response.status_code == 503
    assert response.json()["reasons"] == ["no worker is alive"]
    stranger = connect(redis_server.url)
    worker = Worker("stranger", stranger, Seal(b"another secret"), ScriptedUpstream(), config)
    main = asyncio.create_task(worker.main())
    try:
        async with asyncio.timeout(5):
            while not any("GATEWAY_SECRET" in r for r in response.json()["reasons"]):
                await asyncio.sleep(0.05)
                response = await front.get("/readyz")
        assert response.status_code == 503, "it takes none of our jobs"
    finally:
        worker.drain()
        await main
        await stranger.aclose()
    assert (await front.get("/healthz")).status_code == 200


async def test_nothing_is_in_the_clear_in_redis(
    client: Client, redis: ArqRedis, upstream: ScriptedUpstream
) -> None:
    upstream.script = ([Started("m"), Delta("the secret answer")], 0.8, [Done("stop")])
    messages = [{"role": "user", "content": "the secret prompt"}]
    headers = {"authorization": "Bearer the-secret-bearer"}
    monitor = redis.monitor()
    seen: list[str] = []

    async def watch() -> None:
        async with monitor:
            async for command in monitor.listen():
                seen.append(str(command))

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0.1)
    await client.post(CHAT, json={**BODY, "messages": messages}, headers=headers)
    stored = [await redis.dump(key) for key in await redis.keys("*")]
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    everything = "".join(seen) + str(stored) + str(await redis.keys("*"))
    assert len(seen) > 10
    assert "xadd" in everything.lower()
    assert "secret" not in everything
