"""Requests that are relayed to a shared upstream, over HTTP: a real Redis, a scripted server."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import httpx
import pytest
from msgspec.structs import replace

import settings
from local.redis import EmbeddedRedis
from settings.redis_url import redis_url
from store.blobs import LARGE, Blobs
from tests.support.line import LASTING
from tests.support.requests import CHAT, messages, said
from tests.support.sanic_adapter import Client
from tests.support.scripted import ScriptedUpstream
from wire.about import About, Trouble, encode_about
from wire.events import Complete, Event, Failed, Piece, Started
from wire.jobs import RelayedJob, Sort, fingerprint, lane_name, lane_of_any
from wire.line.offers import Offer
from wire.line.usage import read_usage, total
from wire.redis.client import Redis, connect
from wire.seal import Seal
from workers.served import ServedUpstream, Surveyed
from workers.upstream import Upstream, UpstreamBusy, UpstreamError
from workers.worker import Worker

RESPONSES, COMPLETIONS, EMBEDDINGS = "/v1/responses", "/v1/completions", "/v1/embeddings"
MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
MODEL = "qwen3:8b"
BODY = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "tools": [{"any": 1}]}
BEARER = {"authorization": "Bearer abc", "x-keepalive": "off"}
SHARED = settings.Upstream(kind="openai", base_url="http://gpu", first_event_timeout=30.0)
SETTINGS = settings.Settings(
    queue=LASTING,
    stream=settings.Stream(grace=0.2, keepalive_interval=0.1),
    others={"gpu": SHARED},
)


def chunk(text: str = "", **more: Any) -> Piece:
    """A chunk as it crosses Redis."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None, **more}
    body = {"object": "chat.completion.chunk", "choices": [choice]}
    return Piece(json.dumps(body, separators=(",", ":")).encode())


USAGE = b'{"object":"chat.completion.chunk","choices":[],"usage":{"total_tokens":3}}'
HELLO: list[Event] = [
    Started("m"),
    chunk("hel"),
    chunk("lo", finish_reason="stop"),
    Complete(USAGE),
]


@pytest.fixture
def config() -> settings.Settings:
    """A gateway with one shared upstream, and no other."""
    return SETTINGS


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The front end asks for upstreams again and again."""
    monkeypatch.setattr("app.upstreams.INTERVAL", 0.02)


@pytest.fixture
def about() -> About:
    """The description of the upstream."""
    return About("openai", [MODEL], max_n=3)


@pytest.fixture
async def worker(
    redis: Redis,
    redis_server: EmbeddedRedis,
    seal: Seal,
    upstream: ScriptedUpstream,
    config: settings.Settings,
    blobs: Blobs,
    about: About,
) -> AsyncIterator[Worker]:
    """A worker that serves the upstream, which has two slots."""
    sorts: tuple[Sort, ...] = ("chat", "embeddings")
    lanes = [lane_name(sort, name) for sort in sorts for name in about.models]
    if about.any_model:
        lanes += map(lane_of_any, sorts)
    offer = Offer(
        upstream="gpu",
        max_concurrency=2,
        accounts={"gpu": 2},
        lanes=lanes,
        about=encode_about(about),
    )

    async def survey() -> Surveyed:
        return Surveyed(offer)

    scripted = cast(Upstream[RelayedJob], upstream)
    served = ServedUpstream("gpu", SHARED, RelayedJob, scripted, survey)
    client = connect(redis_url(redis_server.url))
    worker = Worker("relaying", client, seal, [served], config, blobs)
    upstream.script = (HELLO,)
    main = asyncio.create_task(worker.main())
    yield worker
    worker.drain()
    await main
    await client.aclose()


@pytest.fixture
async def client(front: Client, worker: Worker) -> Client:
    """A client of a gateway whose front end knows the upstream."""
    async with asyncio.timeout(30):
        while (await front.get("/v1/models", headers=BEARER)).json().get("data") == []:
            await asyncio.sleep(0.05)
    return front


def events(response: httpx.Response) -> list[tuple[str, Any]]:
    """The named events of a stream."""
    found = []
    for message in response.text.split("\n\n"):
        name, _, data = message.partition("\ndata: ")
        if data:
            found.append((name.removeprefix("event: "), json.loads(data)))
    return found


async def test_a_chat_is_relayed_as_it_was_written(
    client: Client, upstream: ScriptedUpstream
) -> None:
    sent = json.dumps(BODY | {"stream": True, "grammar": "x"}).encode()
    response = await client.post(CHAT, content=sent, headers=BEARER)
    *chunks, done = messages(response)
    assert done is None
    assert said(chunks) == "hello"
    assert {one["id"] for one in chunks} == {response.headers["x-queue-id"]}
    assert {one["model"] for one in chunks} == {MODEL}
    (job,) = cast(Sequence[RelayedJob], upstream.asked)
    assert (job.body, job.path, job.model) == (sent, "chat/completions", MODEL)


async def test_only_a_client_that_asked_gets_the_usage(client: Client) -> None:
    asked = BODY | {"stream": True, "stream_options": {"include_usage": True}}
    *_, usage, done = messages(await client.post(CHAT, json=asked, headers=BEARER))
    assert (usage["usage"], done) == ({"total_tokens": 3}, None)
    chunks = messages(await client.post(CHAT, json=BODY | {"stream": True}, headers=BEARER))
    assert not any("usage" in one for one in chunks if one)


async def test_a_whole_answer_is_folded(client: Client) -> None:
    body = (await client.post(CHAT, json=BODY, headers=BEARER)).json()
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "hello"}
    assert body["usage"] == {"total_tokens": 3}


async def test_a_body_that_is_not_streamed_arrives_as_it_is(
    client: Client, upstream: ScriptedUpstream
) -> None:
    upstream.script = ([Started("m"), Piece(b'{"any": [1]}'), Complete()],)
    asked = BODY | {"input": ["a"], "stream": True}
    response = await client.post(EMBEDDINGS, json=asked, headers=BEARER)
    assert response.content == b'{"any": [1]}'


async def test_an_answer_that_uses_up_its_account_holds_the_next_job_back(
    client: Client, upstream: ScriptedUpstream, redis: Redis
) -> None:
    upstream.script = ([*HELLO[:-1], Complete(pause=300.0)],)
    assert (await client.post(CHAT, json=BODY, headers=BEARER)).status_code == 200
    resting = [each for each in await redis.zrange("gateway:later", 0, -1) if b"account" in each]
    assert len(resting) == 1


async def test_tokens_are_counted_without_a_slot_of_the_upstream(
    client: Client, upstream: ScriptedUpstream
) -> None:
    response = await client.post(COUNT, json=BODY, headers=KEY)
    assert response.status_code == 200
    assert 5 < response.json()["input_tokens"] < 30
    assert upstream.asked == []
    unknown = await client.post(COUNT, json=BODY | {"model": "gone"}, headers=KEY)
    assert (unknown.status_code, unknown.json()["type"]) == (404, "error")


CREATED = b'{"type":"response.created","response":{"id":"resp_theirs"}}'
FINAL = b'{"type":"response.completed","response":{"id":"resp_theirs","output":[]}}'
RESPONSE: list[Event] = [
    Started("m"),
    Piece(CREATED, "response.created"),
    Piece(FINAL, "response.completed"),
    Complete(),
]
KEY = {"x-api-key": "k", "x-keepalive": "off"}
MESSAGE: list[Event] = [
    Started("m"),
    Piece(b'{"type":"message_start","message":{"id":"msg_1","content":[]}}', "message_start"),
    Piece(b'{"type":"message_stop"}', "message_stop"),
    Complete(),
]


async def test_responses_and_messages_are_relayed_with_their_names(
    client: Client, upstream: ScriptedUpstream
) -> None:
    upstream.script = (RESPONSE,)
    asked = {"model": MODEL, "input": "hi", "stream": True}
    streamed = events(await client.post(RESPONSES, json=asked, headers=BEARER))
    assert streamed == [
        ("response.created", json.loads(CREATED)),
        ("response.completed", json.loads(FINAL)),
    ]
    whole = await client.post(RESPONSES, json=asked | {"stream": False}, headers=BEARER)
    assert whole.json() == {"id": "resp_theirs", "output": []}
    upstream.script = (MESSAGE,)
    response = await client.post(MESSAGES, json=BODY | {"stream": True}, headers=KEY)
    assert [name for name, _ in events(response)] == ["message_start", "message_stop"]
    whole = await client.post(MESSAGES, json=BODY, headers=KEY)
    assert whole.json() == {"id": "msg_1", "content": []}


@pytest.mark.parametrize(
    ("path", "shown"),
    [(CHAT, '"queue":{'), (RESPONSES, ": queued position"), (MESSAGES, "event: ping")],
)
async def test_a_waiting_client_gets_keep_alives_of_its_dialect(
    client: Client, upstream: ScriptedUpstream, path: str, shown: str
) -> None:
    held = asyncio.Event()
    upstream.script = (held, RESPONSE if path == RESPONSES else HELLO)
    running = [asyncio.create_task(client.post(CHAT, json=BODY, headers=BEARER)) for _ in "12"]
    while upstream.active < 2:
        await asyncio.sleep(0.01)
    seen = ""
    asked = BODY | {"input": "hi", "stream": True}
    url = client.make_url(path)
    waiting = {"authorization": "Bearer abc"}
    async with client.session.stream("POST", url, json=asked, headers=waiting) as response:
        assert response.headers["x-queue-position"] == "1"
        async for text in response.aiter_text():
            seen += text
            if shown in seen:
                held.set()
    assert shown in seen
    assert [answer.status_code for answer in await asyncio.gather(*running)] == [200, 200]


REFUSED = Failed("bad_request", "No.", "odd", status=422, kind="odd_error", param="tools")


async def test_the_servers_own_refusal_arrives_as_it_is(
    client: Client, upstream: ScriptedUpstream
) -> None:
    upstream.script = (UpstreamError(REFUSED),)
    response = await client.post(CHAT, json=BODY | {"stream": True}, headers=BEARER)
    error = {"message": "No.", "type": "odd_error", "param": "tools", "code": "odd"}
    assert (response.status_code, response.json()) == (422, {"error": error})
    response = await client.post(MESSAGES, json=BODY, headers=BEARER)
    error = {"type": "odd_error", "message": "No."}
    assert (response.status_code, response.json()) == (422, {"type": "error", "error": error})


async def test_an_answer_that_breaks_off_ends_with_an_error(
    client: Client, upstream: ScriptedUpstream
) -> None:
    broken = UpstreamError(Failed("upstream_error", "Broke.", "broken"))
    upstream.script = ([Started("m"), chunk("a")], broken)
    *_, last = messages(await client.post(CHAT, json=BODY | {"stream": True}, headers=BEARER))
    assert last["error"]["code"] == "broken"
    response = await client.post(CHAT, json=BODY, headers=BEARER)
    assert (response.status_code, response.json()["error"]["message"]) == (502, "Broke.")


async def test_a_retry_under_an_idempotency_key_resumes(
    client: Client, upstream: ScriptedUpstream
) -> None:
    named = BEARER | {"idempotency-key": "mine"}
    streamed = BODY | {"stream": True}
    first = await client.post(CHAT, json=streamed, headers=named)
    whole = first.text.replace("data: [DONE]", "").strip().split("\n\n")
    last = whole[0].rpartition("id: ")[2]
    again = await client.post(CHAT, json=streamed, headers=named | {"last-event-id": last})
    assert again.text.startswith(whole[1])
    assert said(messages(again)[:-1]) == "lo"
    assert len(upstream.asked) == 1


async def test_a_client_that_leaves_frees_the_slot(
    client: Client, upstream: ScriptedUpstream
) -> None:
    upstream.script = (asyncio.Event(),)
    with pytest.raises(httpx.ReadTimeout):
        await client.post(CHAT, json=BODY, headers=BEARER, timeout=0.5)
    async with asyncio.timeout(30):
        while upstream.active:
            await asyncio.sleep(0.01)


async def test_a_large_body_goes_through_the_store(
    client: Client, upstream: ScriptedUpstream
) -> None:
    sent = json.dumps(BODY | {"long": "x" * 2 * LARGE}).encode()
    assert (await client.post(CHAT, content=sent, headers=BEARER)).status_code == 200
    (job,) = cast(Sequence[RelayedJob], upstream.asked)
    assert job.body == sent


@pytest.mark.parametrize(
    ("path", "more", "status", "named"),
    [
        (CHAT, {"model": "gone"}, 404, "model"),
        (CHAT, {"n": 3}, 400, "n"),
        (CHAT, {"n_cmpl": 3}, 400, "n"),
        (RESPONSES, {"n": 3}, 400, "n"),
        (COMPLETIONS, {"prompt": ["a", "b", "c"]}, 400, "n"),
        (RESPONSES, {"background": True}, 400, "background"),
    ],
)
async def test_what_cannot_be_relayed_is_refused(
    client: Client,
    upstream: ScriptedUpstream,
    path: str,
    more: dict[str, Any],
    status: int,
    named: str,
) -> None:
    response = await client.post(path, json=BODY | more, headers=BEARER)
    assert (response.status_code, response.json()["error"]["param"]) == (status, named)
    assert not upstream.asked


async def test_an_unknown_model_of_messages_is_an_error_of_that_dialect(client: Client) -> None:
    response = await client.post(MESSAGES, json=BODY | {"model": "gone"}, headers=BEARER)
    assert response.status_code == 404
    assert response.json()["error"]["type"] == "not_found_error"


@pytest.mark.parametrize("about", [About("openai", [], any_model=True)])
async def test_an_upstream_that_lists_no_model_takes_every_name(
    front: Client, worker: Worker, upstream: ScriptedUpstream
) -> None:
    async with asyncio.timeout(30):
        while (response := await front.post(CHAT, json=BODY, headers=BEARER)).status_code != 200:
            await asyncio.sleep(0.05)
    assert response.json()["choices"][0]["message"]["content"] == "hello"


async def test_models_are_those_that_upstreams_offer(client: Client) -> None:
    listed = (await client.get("/v1/models", headers=BEARER)).json()["data"]
    assert [(model["id"], model["owned_by"]) for model in listed] == [(MODEL, "gpu")]
    shown = await client.get(f"/v1/models/{MODEL}", headers=BEARER)
    assert shown.json()["id"] == MODEL
    assert (await client.get("/v1/models/gpt-4", headers=BEARER)).status_code == 404


@pytest.mark.parametrize(
    "config", [replace(SETTINGS, upstream=settings.Upstream(base_url="http://p"))]
)
async def test_next_to_pandora_each_model_has_its_own_upstream(
    front: Client, worker: Worker
) -> None:
    async with asyncio.timeout(30):
        while MODEL not in (await front.get("/v1/models", headers=BEARER)).text:
            await asyncio.sleep(0.05)
    listed = (await front.get("/v1/models", headers=BEARER)).json()["data"]
    assert [model["id"] for model in listed][:2] == [MODEL, "gpt-4-s"]
    answer = (await front.post(CHAT, json=BODY, headers=BEARER)).json()
    assert answer["choices"][0]["message"]["content"] == "hello"
    pandora = await front.post(CHAT, json=BODY | {"model": "gpt-4"}, headers=BEARER)
    assert "tools[0]" in pandora.json()["error"]["message"]  # read as Pandora's requests are


LISTED = settings.Auth(keys=(hashlib.sha256(b"abc").hexdigest(),))


@pytest.mark.parametrize("config", [replace(SETTINGS, auth=LISTED)])
async def test_with_a_list_of_keys_others_are_refused(client: Client) -> None:
    assert (await client.post(CHAT, json=BODY, headers=BEARER)).status_code == 200
    for headers in ({}, {"authorization": "Bearer other"}, {"x-api-key": "other"}):
        for path in (CHAT, MESSAGES):
            assert (await client.post(path, json=BODY, headers=headers)).status_code == 401
        assert (await client.get("/v1/models", headers=headers)).status_code == 401


@pytest.mark.parametrize("config", [replace(SETTINGS, auth=LISTED)])
async def test_the_usage_of_a_listed_key_is_what_the_server_tells_for_each_model(
    client: Client, upstream: ScriptedUpstream, redis: Redis
) -> None:
    told = b'{"choices":[],"usage":{"prompt_tokens":700,"completion_tokens":90}}'
    upstream.script = ([*HELLO[:-1], Complete(told)],)
    for _ in range(2):
        assert (await client.post(CHAT, json=BODY, headers=BEARER)).status_code == 200
    today = datetime.now(UTC).date()
    used = await read_usage(redis, today - timedelta(days=1), today)
    assert {(use.book, use.model) for use in used} == {(fingerprint("abc"), MODEL)}
    numbers = total(used.values())
    assert numbers.pop("slot_ms", 0) >= 0
    expected = {"ended:done": 2, "input_tokens": 1400, "output_tokens": 180, "units": 28}
    assert numbers == {"requests": 2, **expected}
    # Counting tokens takes no place in line and costs nothing.
    assert (await client.post(COUNT, json=BODY, headers=BEARER)).status_code == 200
    days = today - timedelta(days=1), today + timedelta(days=1)
    numbers = total((await read_usage(redis, *days)).values())
    assert (numbers["requests"], numbers["input_tokens"], numbers["units"]) == (2, 1400, 28)


async def test_without_a_list_a_request_needs_no_key(client: Client) -> None:
    response = await client.post(CHAT, json=BODY)
    assert response.status_code == 200
    status = await client.get(f"/v1/queue/{response.headers['x-queue-id']}")
    assert status.status_code in (200, 404)


REFUSING: Trouble = "refused_us"


@pytest.mark.parametrize("about", [About("openai", [MODEL], trouble=REFUSING)])
@pytest.mark.parametrize(
    "config", [replace(SETTINGS, queue=replace(LASTING, max_wait=0.5), workers=settings.Workers())]
)
async def test_a_wait_for_an_upstream_that_refuses_us_ends_with_that(
    client: Client, upstream: ScriptedUpstream
) -> None:
    upstream.script = (asyncio.Event(),)
    running = [asyncio.create_task(client.post(CHAT, json=BODY, headers=BEARER)) for _ in "12"]
    while upstream.active < 2:
        await asyncio.sleep(0.01)
    response = await client.post(CHAT, json=BODY, headers=BEARER)
    assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_refused_us")
    assert "gateway_slots 2.0" in (await client.get("/metrics")).text
    ready = (await client.get("/readyz")).json()
    assert any("refuses the credential" in reason for reason in ready["reasons"])
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def test_a_job_of_which_the_upstream_said_nothing_in_time_is_tried_once_more(
    client: Client, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.settlement.RETRY_PAUSE", 0.05)
    upstream.script = ([Failed("upstream_timeout", "Late.")],)
    response = await client.post(CHAT, json=BODY, headers=BEARER)
    assert response.status_code == 504
    assert len(upstream.asked) == 2


@pytest.mark.parametrize(
    "config", [replace(SETTINGS, queue=replace(LASTING, max_wait=0.5), workers=settings.Workers())]
)
async def test_a_server_that_lists_its_models_to_anyone_may_refuse_us_all_the_same(
    client: Client, upstream: ScriptedUpstream
) -> None:
    async def reasons(*, refused: bool) -> None:
        async with asyncio.timeout(30):
            while ("refuses the credential" in (await client.get("/readyz")).text) != refused:
                await asyncio.sleep(0.02)

    upstream.script = (UpstreamBusy(pause=0.1, refused_us=True),)
    response = await client.post(CHAT, json=BODY, headers=BEARER)
    assert response.status_code in (502, 504)  # the front end may not have heard of it yet
    await reasons(refused=True)
    response = await client.post(CHAT, json=BODY, headers=BEARER)
    assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_refused_us")
    upstream.script = (HELLO,)
    async with asyncio.timeout(30):
        while (await client.post(CHAT, json=BODY, headers=BEARER)).status_code != 200:
            await asyncio.sleep(0.02)
    await reasons(refused=False)


IMPATIENT = replace(SETTINGS, queue=replace(LASTING, on_model_cap="refuse"))


@pytest.mark.parametrize("config", [IMPATIENT])
async def test_requests_that_would_wait_too_long_for_a_quota_end_with_the_servers_error(
    client: Client, upstream: ScriptedUpstream
) -> None:
    """They waited until their deadline, and ended with a 504 that named no reason."""
    spent = Failed("rate_limited", "no quota left", "insufficient_quota")
    upstream.script = (0.2, UpstreamError(spent, capped_for=9000.0))
    asked = [client.post(CHAT, json=BODY, headers=BEARER) for _ in range(6)]
    for answer in await asyncio.gather(*asked):
        assert answer.status_code == 429
        assert answer.json()["error"]["code"] in ("insufficient_quota", "model_cap_exceeded")
    assert len(upstream.asked) <= 2, "as many as have a slot"
    late = await client.post(CHAT, json=BODY, headers=BEARER)
    assert (late.status_code, late.json()["error"]["code"]) == (429, "model_cap_exceeded")
    assert int(late.headers["retry-after"]) > 8000
