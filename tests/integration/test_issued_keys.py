"""Requests with gateway keys, over HTTP: a real Redis, a scripted server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from msgspec.structs import replace

import settings
from app.http.connections import FEWEST
from app.throttle import TOO_MANY
from local.redis import EmbeddedRedis
from settings.credentials import Secret
from settings.redis_url import redis_url
from tests.support.line import LASTING
from tests.support.requests import CHAT
from tests.support.sanic_adapter import Client
from tests.support.scripted import ScriptedUpstream
from wire.about import About, encode_about
from wire.events import Complete, Event, Piece, Started
from wire.jobs import RelayedJob, lane_name
from wire.keyring import IssuedKey, Keyring
from wire.line import keys
from wire.line.offers import Offer
from wire.redis.client import Redis, connect
from wire.seal import Seal
from workers.served import ServedUpstream, Surveyed
from workers.upstream import Upstream
from workers.worker import Worker

MESSAGES = "/v1/messages"
BODY = {"model": "small", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}
SHARED = settings.Upstream(kind="openai", base_url="http://gpu", first_event_timeout=30.0)
SETTINGS = settings.Settings(
    queue=LASTING,
    stream=settings.Stream(grace=0.2, keepalive_interval=0.1),
    auth=settings.Auth(mode="keys"),
    others={"gpu": SHARED},
)
HELLO: list[Event] = [
    Started("m"),
    Piece(
        b'{"object":"chat.completion.chunk","choices":'
        b'[{"index":0,"delta":{"content":"hello"},"finish_reason":"stop"}]}'
    ),
    Complete(b""),
]


@pytest.fixture
def config() -> settings.Settings:
    """A gateway that takes only gateway keys, with one shared upstream."""
    return SETTINGS


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The front end asks for upstreams and keys again and again."""
    monkeypatch.setattr("app.upstreams.INTERVAL", 0.02)
    monkeypatch.setattr("app.key_lookup.FRESH", 0.0)
    monkeypatch.setattr("wire.upkeep.revocation.INTERVAL", 0.02)


@pytest.fixture
def keyring(redis: Redis, seal: Seal) -> Keyring:
    return Keyring(redis, seal)


@pytest.fixture
async def worker(
    redis: Redis,
    redis_server: EmbeddedRedis,
    seal: Seal,
    upstream: ScriptedUpstream,
    config: settings.Settings,
) -> AsyncIterator[Worker]:
    """A worker that serves two models, with one slot."""
    offer = Offer(
        upstream="gpu",
        max_concurrency=1,
        accounts={"gpu": 1},
        lanes=[lane_name("chat", name) for name in ("small", "large")],
        about=encode_about(About("openai", ["small", "large"])),
    )

    async def survey() -> Surveyed:
        return Surveyed(offer)

    scripted = cast(Upstream[RelayedJob], upstream)
    served = ServedUpstream("gpu", SHARED, RelayedJob, scripted, survey)
    client = connect(redis_url(redis_server.url))
    worker = Worker("relaying", client, seal, [served], config)
    upstream.script = (HELLO,)
    main = asyncio.create_task(worker.main())
    yield worker
    worker.drain()
    await main
    await client.aclose()


class Bot:
    """A client with a key of its own."""

    def __init__(self, client: Client, key: str, record: IssuedKey) -> None:
        self.id = record.id
        self._client = client
        self._headers = {"authorization": f"Bearer {key}", "x-keepalive": "off"}

    async def get(self, path: str) -> Any:
        return await self._client.get(path, headers=self._headers)

    async def waiting(self, number: int) -> None:
        """Return when as many jobs wait."""
        async with asyncio.timeout(30):
            while (
                f'gateway_waiting{{lane="chat"}} {number}.0'
                not in (await self._client.get("/metrics")).text
            ):
                await asyncio.sleep(0.01)

    async def stream(self, path: str, begun: asyncio.Event, **fields: object) -> str:
        """Return the text of a stream; `begun` is set when the first part of it has arrived."""
        text = ""
        async with self._client.session.stream(
            "POST",
            self._client.make_url(path),
            json=BODY | fields | {"stream": True},
            headers=self._headers | {"x-keepalive": "comment"},
        ) as response:
            assert response.status_code == 200
            async for part in response.aiter_text():
                text += part
                begun.set()
        return text

    async def ask(
        self, path: str = CHAT, headers: Mapping[str, str] | None = None, **fields: object
    ) -> Any:
        headers = self._headers | dict(headers or {})
        return await self._client.post(path, json=BODY | fields, headers=headers)


async def bot(keyring: Keyring, client: Client, **fields: object) -> Bot:
    """A bot whose front end knows the upstream."""
    made = Bot(client, *await keyring.new("bot", fields))
    async with asyncio.timeout(30):
        while (await made.get("/v1/models")).json()["data"] == []:
            await asyncio.sleep(0.05)
    return made


async def test_only_gateway_keys_are_answered(client: Client, keyring: Keyring) -> None:
    mine = await bot(keyring, client)
    assert (await mine.ask()).json()["choices"][0]["message"]["content"] == "hello"
    for headers in ({}, {"authorization": "Bearer sk-1"}, {"x-api-key": "gw-made-up"}):
        for path, code in ((CHAT, "invalid_api_key"), (MESSAGES, None)):
            refused = await client.post(path, json=BODY, headers=headers)
            assert refused.status_code == 401
            assert refused.json()["error"].get("code") == code
        assert (await client.get("/v1/models", headers=headers)).status_code == 401
        assert (await client.get("/v1/queue/some", headers=headers)).status_code == 401


async def test_a_key_is_for_its_models_alone(
    client: Client, keyring: Keyring, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    both, small = await bot(keyring, client), await bot(keyring, client, models=["small", "none"])
    listed = [
        [model["id"] for model in (await each.get("/v1/models")).json()["data"]]
        for each in (both, small)
    ]
    assert listed == [["small", "large"], ["small"]]
    assert (await both.get("/v1/models/large")).status_code == 200
    assert (await small.ask()).status_code == 200
    for refused in (
        await small.get("/v1/models/large"),
        await small.ask(model="large"),
        await small.ask(model="none"),
    ):
        assert refused.status_code == 404
        assert refused.json()["error"]["code"] == "model_not_found"
    anthropic = await small.ask(MESSAGES, model="large")
    assert anthropic.json()["error"]["type"] == "not_found_error"
    logged = [vars(record) for record in caplog.records if record.name == "app.http.access_log"]
    [*_, last] = [line for line in logged if line["event"] == "request_failed"]
    named = {"key": small.id, "key_name": "bot", "model": "large", "ending": "refused"}
    assert named.items() <= last.items()
    [served] = [line for line in logged if line.get("job") and line["key"] == small.id]
    assert (served["model"], served["lane"]) == ("small", "chat:small")


async def test_what_goes_upstream_is_bounded_by_the_key(
    client: Client, keyring: Keyring, upstream: ScriptedUpstream
) -> None:
    calm = await bot(keyring, client, priority="flex")
    assert (await calm.ask(service_tier="priority")).status_code == 200
    assert (await calm.ask(service_tier="flex")).status_code == 200
    jobs = [cast(RelayedJob, job) for job in upstream.asked]
    assert [job.tier for job in jobs] == ["flex", ""]
    assert [job.key for job in jobs] == [calm.id, calm.id]


async def test_a_job_has_the_weight_of_its_key(
    client: Client, keyring: Keyring, redis: Redis
) -> None:
    heavy = await bot(keyring, client, weight=2.5)
    job = (await heavy.ask()).headers["x-queue-id"]
    assert await redis.hget(f"gateway:job:{job}", "weight") == b"2.5"  # type: ignore[misc]  # redis-py: sync or async


async def test_an_expired_key_is_refused(client: Client, keyring: Keyring) -> None:
    old = await bot(keyring, client)
    await keyring.set(old.id, {"expires": 1})
    refused = await old.ask()
    assert refused.status_code == 401
    assert "expired" in refused.json()["error"]["message"]


async def test_jobs_of_one_key_are_hidden_from_others(client: Client, keyring: Keyring) -> None:
    mine, other = await bot(keyring, client), await bot(keyring, client)
    job = (await mine.ask()).headers["x-queue-id"]
    assert (await mine.get(f"/v1/queue/{job}")).json()["state"] == "done"
    assert (await other.get(f"/v1/queue/{job}")).status_code == 404


async def test_a_front_end_without_any_key_says_so(client: Client, keyring: Keyring) -> None:
    async def reasons() -> list[str]:
        answer = await client.get("/readyz")
        assert answer.status_code == 200
        return [reason for reason in answer.json()["reasons"] if "gateway key" in reason]

    assert len(await reasons()) == 1
    await keyring.new("bot", {})
    assert await reasons() == []


@pytest.mark.parametrize(
    "config",
    [
        replace(
            SETTINGS,
            auth=settings.Auth(mode="both"),
            upstream=settings.Upstream(base_url="http://pandora"),
        )
    ],
)
async def test_a_key_is_shown_no_models_of_an_upstream_that_takes_tokens(
    client: Client, keyring: Keyring
) -> None:
    mine = await bot(keyring, client)
    async with asyncio.timeout(30):
        while len((await mine.get("/v1/models")).json()["data"]) != 2:
            await asyncio.sleep(0.01)
    assert (await mine.get("/v1/models/gpt-4")).status_code == 404
    refused = await mine.ask(model="gpt-4")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    others = (await client.get("/v1/models")).json()["data"]
    assert "gpt-4" in [model["id"] for model in others]


@pytest.mark.parametrize("config", [replace(SETTINGS, auth=settings.Auth(mode="both"))])
async def test_with_both_other_keys_are_answered_too(client: Client, keyring: Keyring) -> None:
    await bot(keyring, client)
    for headers in ({}, {"authorization": "Bearer sk-1"}):
        assert (await client.post(CHAT, json=BODY, headers=headers)).status_code == 200
    made_up = await client.post(CHAT, json=BODY, headers={"authorization": "Bearer gw-1"})
    assert made_up.status_code == 401


REFUSALS = [
    (CHAT, "invalid_request_error", "invalid_api_key"),
    ("/v1/responses", "invalid_request_error", "invalid_api_key"),
    (MESSAGES, "authentication_error", None),
]


async def test_the_waiting_requests_of_a_revoked_key_end_with_401_in_every_dialect(
    client: Client, keyring: Keyring, upstream: ScriptedUpstream, redis: Redis
) -> None:
    other, gone = await bot(keyring, client), await bot(keyring, client)
    done = asyncio.Event()
    upstream.script = (HELLO[:1], done, HELLO[1:])
    running = asyncio.create_task(other.ask())
    while not upstream.active:
        await asyncio.sleep(0.01)
    begun = [asyncio.Event() for _ in REFUSALS]
    wholes = [asyncio.create_task(gone.ask(path, input="hi")) for path, *_ in REFUSALS]
    streams = [
        asyncio.create_task(gone.stream(path, event, input="hi"))
        for (path, *_), event in zip(REFUSALS, begun, strict=True)
    ]
    for event in begun:
        await event.wait()
    await gone.waiting(2 * len(REFUSALS))
    await keyring.revoke(gone.id)
    for (_, kind, code), whole in zip(REFUSALS, await asyncio.gather(*wholes), strict=True):
        assert whole.status_code == 401
        assert whole.json()["error"]["type"] == kind
        assert whole.json()["error"].get("code") == code
    for text in await asyncio.gather(*streams):
        assert "This API key has been revoked." in text
        assert "[DONE]" not in text
    assert (await gone.ask()).status_code == 401
    done.set()
    assert (await running).status_code == 200
    async with asyncio.timeout(30):
        while await redis.exists(keys.revoked):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("config", "ends"),
    [
        (SETTINGS, False),
        (replace(SETTINGS, auth=settings.Auth(mode="keys", on_revoke="end")), True),
    ],
    ids=["finish", "end"],
)
async def test_a_running_answer_of_a_revoked_key_finishes_or_ends(
    client: Client, keyring: Keyring, upstream: ScriptedUpstream, redis: Redis, ends: bool
) -> None:
    gone = await bot(keyring, client)
    done = asyncio.Event()
    upstream.script = (HELLO[:1], done, HELLO[1:])
    running = asyncio.create_task(gone.ask())
    while not upstream.active:
        await asyncio.sleep(0.01)
    await keyring.revoke(gone.id)
    assert (await gone.ask()).status_code == 401
    if ends:
        answer = await running
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
    else:
        assert await redis.smembers(keys.revoked) == {gone.id.encode()}  # type: ignore[misc]  # redis-py: sync or async
    done.set()
    answer = await running
    assert answer.status_code == (401 if ends else 200)
    async with asyncio.timeout(30):
        while await redis.exists(keys.revoked):
            await asyncio.sleep(0.01)


GUARDED = settings.Upstream(kind="openai", base_url="http://gpu", credential=Secret("ours"))


@pytest.mark.parametrize(
    "config",
    [
        SETTINGS,
        # A request without a key could send its body first, next to Pandora-Next.
        settings.Settings(
            queue=LASTING,
            auth=settings.Auth(mode="both"),
            upstream=settings.Upstream(base_url="http://pandora"),
            others={"gpu": GUARDED},
        ),
    ],
    ids=["keys", "both"],
)
@pytest.mark.parametrize("path", [CHAT, MESSAGES, "/v1/embeddings"])
@pytest.mark.parametrize("header", ["", "authorization: Bearer gw-made-up", "x-api-key: gw-1"])
async def test_a_key_is_refused_before_any_of_the_body_is_read(
    front: Client, path: str, header: str
) -> None:
    where = urlsplit(front.make_url(path))
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    head = [f"POST {path} HTTP/1.1", "host: gateway", "content-length: 1000000", header]
    writer.write("".join(f"{line}\r\n" for line in head if line).encode() + b"\r\n")
    async with asyncio.timeout(30):
        answer = await reader.readline()
    assert answer.split()[1] == b"401"
    writer.close()


async def test_a_key_at_its_limit_of_requests_is_told_so_in_both_dialects(
    client: Client, keyring: Keyring
) -> None:
    mine = await bot(keyring, client, requests_per_minute=2)
    first = await mine.ask()
    assert first.status_code == 200
    names = [f"x-ratelimit-{what}-requests" for what in ("limit", "remaining", "reset")]
    assert [first.headers[name] for name in names] == ["2", "1", "1m0s"]
    second = await mine.ask(MESSAGES, stream=True)
    assert second.headers["anthropic-ratelimit-requests-remaining"] == "0"
    refused = await mine.ask()
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    anthropic = await mine.ask(MESSAGES)
    assert anthropic.status_code == 429
    assert anthropic.json()["error"]["type"] == "rate_limit_error"
    assert anthropic.headers["anthropic-ratelimit-requests-limit"] == "2"
    await keyring.set(mine.id, {"requests_per_minute": 0})
    async with asyncio.timeout(30):
        while (await mine.ask()).status_code == 429:
            await asyncio.sleep(0.05)


async def test_a_request_that_attaches_to_an_earlier_one_is_not_refused(
    client: Client, keyring: Keyring
) -> None:
    mine = await bot(keyring, client, requests_per_minute=1)
    named = {"idempotency-key": "mine"}
    first = await mine.ask(headers=named)
    async with asyncio.timeout(30):
        while (await mine.ask()).status_code != 429:  # also before its body is read
            await asyncio.sleep(0.05)
    again = await mine.ask(headers=named)
    assert again.status_code == 200
    assert again.headers["x-queue-id"] == first.headers["x-queue-id"]
    assert (await mine.ask(headers={"idempotency-key": "another"})).status_code == 429


async def test_a_key_at_its_limit_is_refused_before_its_body_is_read(
    client: Client, keyring: Keyring, redis: Redis
) -> None:
    key, record = await keyring.new("bot", {"budget_unit": "requests", "budget_day": 1})
    mine = Bot(client, key, record)
    today = keys.spent(record.id, f"{datetime.now(UTC):%Y-%m-%d}")
    await redis.hset(today, "requests", "1")  # type: ignore[misc]  # redis-py: sync or async
    where = urlsplit(client.make_url("/"))
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n"
    writer.write(f"{head}Content-Length: 1000000\r\n\r\n".encode())
    async with asyncio.timeout(30):
        status = await reader.readline()
        answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert b" 429 " in status
    assert b"x-should-retry: false" in answer
    assert (await mine.ask()).json()["error"]["code"] == "insufficient_quota"


async def test_wrong_keys_of_one_address_end_in_429_and_right_ones_still_pass(
    client: Client, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.throttle.STEP", 0.0)  # no delays
    mine = await bot(keyring, client)
    before = round(TOO_MANY)
    wrong = {"authorization": "Bearer gw-wrong"}
    answers = [(await client.get("/v1/models", headers=wrong)).status_code for _ in range(before)]
    assert set(answers) == {401}
    async with asyncio.timeout(60):  # each second forgives one
        while (refused := await client.post(CHAT, json=BODY)).status_code == 401:
            pass
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert int(refused.headers["retry-after"]) >= 1
    assert (await mine.ask()).status_code == 200
    async with asyncio.timeout(30):
        while (text := (await client.get("/metrics")).text) and not re.search(
            r"gateway_wrong_keys_total [7-9]\d", text
        ):
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    "config", [replace(SETTINGS, server=settings.Server(max_connections=FEWEST))]
)
async def test_refusals_that_wait_keep_no_new_connection_out(
    client: Client, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"FREE": 0.0, "STEP": 100.0, "LONGEST": 100.0}.items():
        monkeypatch.setattr(f"app.throttle.{name}", value)
    mine = await bot(keyring, client)
    where = urlsplit(client.make_url("/"))
    async with asyncio.timeout(30), contextlib.AsyncExitStack() as stack:
        for _ in range(2 * FEWEST):
            _, writer = await asyncio.open_connection(where.hostname, where.port)
            stack.push_async_callback(writer.wait_closed)
            stack.callback(writer.close)
            writer.write(b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = await client.get("/healthz", headers={"connection": "close"})
            assert answer.status_code == 200
        assert (await mine.ask()).status_code == 200
