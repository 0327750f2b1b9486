"""The front end over HTTP, with a real Redis, a real worker and a scripted upstream."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from sanic.http import Stage

import settings
from app.http.connection import GatewayHttp
from app.job_ids import accepted_at
from benchmarks.line import WholeLine
from local.redis import EmbeddedRedis
from settings.redis_url import redis_url
from store.media import Media
from tests.support.line import LASTING
from tests.support.requests import BEARER, BODY, CHAT, IMAGES, messages, said
from tests.support.sanic_adapter import Client
from tests.support.scripted import HELLO, ScriptedUpstream
from wire.events import Citation, Delta, Done, Event, Failed, File, Image, Started
from wire.gpts import EVERYBODY, GptInfos
from wire.jobs import Message
from wire.redis.client import Redis, connect
from wire.seal import Seal
from workers.opening import serve_pandora
from workers.served import RESTS
from workers.upstream import UpstreamBusy, UpstreamError
from workers.worker import Worker


@pytest.fixture
def config() -> settings.Settings:
    return settings.Settings(
        queue=LASTING,
        stream=settings.Stream(grace=0.2, keepalive_interval=0.1),
        upstream=settings.Upstream(first_event_timeout=1.0, idle_timeout=0.5, max_duration=2.0),
        custom=(("my-one", settings.Gpt("g-1")), ("my-other", settings.Gpt("g-2"))),
    )


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
    fingerprints = [chunk["system_fingerprint"] for chunk in streamed[:-1]]
    assert fingerprints == [None, *[whole["system_fingerprint"]] * (len(streamed) - 2)]
    assert all(answer["created"] == accepted_at(answer["id"]) for answer in (whole, *streamed[:-1]))
    assert whole["system_fingerprint"]


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
            settings.Settings(queue=LASTING),
            "\n```\nprint(1)\n```\n`Result:` \n```\n1\n```\n\n![image](https://files.example/a)\n"
            "[下载链接](https://files.example/a)\nSee[[6](https://ex.org)](https://files.example/b)",
        ),
        (
            settings.Settings(queue=LASTING, bot=settings.Bot(enabled=True)),
            "See(https://files.example/b)",
        ),
    ],
    ids=["bot mode off", "bot mode on"],
)
async def test_the_output_of_tools_is_shown_as_configured(
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
            queue=LASTING,
            bot=settings.Bot(enabled=True),
            stream=settings.Stream(grace=0.2, keepalive_interval=0.1),
        )
    ],
)
async def test_a_client_without_tool_output_still_gets_keep_alives_while_tools_run(
    client: Client, upstream: ScriptedUpstream
) -> None:
    code: list[list[Event] | float] = [[Delta("x", "code")], 0.02]
    upstream.script = ([Started("m")], *(code * 20), [Delta("a"), Done("stop")])
    response = await client.post(CHAT, json={**BODY, "stream": True}, headers=BEARER)
    empty = [one for one in messages(response) if one and _delta(one) == {"content": ""}]
    assert 1 <= len(empty) <= 10
    assert "x" not in "".join(
        chunk["choices"][0]["delta"].get("content", "") for chunk in messages(response)[:-1]
    )


CALLED = {"name": "f", "arguments": "{}"}


async def test_the_upstream_gets_the_bearer_and_the_messages_of_the_request(
    client: Client, upstream: ScriptedUpstream
) -> None:
    said = [
        {"role": "developer", "content": "rules"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "x", "function": CALLED}]},
        {"role": "tool", "content": "result", "tool_call_id": "x"},
        {"role": "user", "content": ""},
    ]
    await client.post(CHAT, json={**BODY, "messages": said}, headers=BEARER)
    (job,) = upstream.asked
    assert job.bearer == "abc"
    assert [(m.role, m.text) for m in job.messages] == [
        ("system", "rules"),
        ("user", "a\nb"),
        ("assistant", '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'),
        ("user", '<tool_result name="f">\nresult\n</tool_result>'),
        ("user", ""),
    ]


async def test_a_failure_keeps_its_status_until_the_stream_has_begun(
    client: Client, upstream: ScriptedUpstream
) -> None:
    upstream.script = (UpstreamError(Failed("rate_limited", "slow down", retry_after=7.2)),)
    for stream in (False, True):
        response = await client.post(CHAT, json={**BODY, "stream": stream}, headers=BEARER)
        assert response.status_code == 429
        assert response.headers["retry-after"] == "8"
        assert response.json()["error"]["message"] == "slow down. Retry in 8 seconds."


@pytest.mark.parametrize(
    ("path", "question"),
    [
        ("chat/completions", {"messages": BODY["messages"]}),
        ("completions", {"prompt": "hi"}),
        ("responses", {"input": "hi"}),
        ("messages", {"messages": BODY["messages"], "max_tokens": 9}),
    ],
)
async def test_a_failure_before_the_first_word_has_its_own_status_in_every_dialect(
    client: Client, upstream: ScriptedUpstream, path: str, question: dict[str, Any]
) -> None:
    upstream.script = (UpstreamError(Failed("rate_limited", "slow down")),)
    body = {"model": BODY["model"], "stream": True, **question}
    response = await client.post(f"/v1/{path}", json=body, headers=BEARER)
    assert response.status_code == 429
    assert response.json()["error"]["message"].startswith("slow down")


async def test_a_failure_after_the_grace_is_an_error_in_the_stream(
    client: Client, upstream: ScriptedUpstream
) -> None:
    upstream.script = (0.5, UpstreamError(Failed("forbidden", "no")))
    response = await client.post(CHAT, json={**BODY, "stream": True}, headers=BEARER)
    assert response.status_code == 200
    *waiting, failure = messages(response)
    assert failure["error"]["message"] == "no"
    assert said(waiting) == ""


async def test_an_answer_that_breaks_off_ends_with_an_error_and_without_done(
    client: Client, upstream: ScriptedUpstream
) -> None:
    upstream.script = ([Started("m"), Delta("half")], UpstreamError(Failed("upstream_error", "x")))
    headers = BEARER | {"x-keepalive": "off"}
    streamed = messages(await client.post(CHAT, json={**BODY, "stream": True}, headers=headers))
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


async def test_a_job_of_a_busy_account_is_retried_without_its_client_noticing(
    client: Client, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RESTS, "pandora", (0.3, 60.0))
    upstream.script = (UpstreamBusy(),)
    asking = asyncio.create_task(client.post(CHAT, json=BODY, headers=BEARER))
    while not upstream.asked:
        await asyncio.sleep(0.01)
    upstream.script = (HELLO,)
    assert (await asking).status_code == 200
    assert len(upstream.asked) == 2


async def test_an_account_has_one_conversation_at_a_time_and_a_pool_three(
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
    ("configured", "header", "kind"),
    [
        ("comment", None, "comment"),
        ("empty_delta", None, "empty_delta"),
        ("off", None, "off"),
        ("empty_delta", "comment", "comment"),
        ("off", "empty_delta", "empty_delta"),
        ("comment", "off", "off"),
        ("comment", "whitespace", "comment"),
    ],
)
async def test_keep_alives_are_sent_as_configured_or_as_the_client_says(
    front: Client, config: settings.Settings, configured: str, header: str | None, kind: str
) -> None:
    msgspec.structs.force_setattr(config.stream, "keepalive", configured)
    headers = BEARER | ({"x-keepalive": header} if header else {})
    async with front.session.stream(
        "POST", front.make_url(CHAT), json={**BODY, "stream": True}, headers=headers
    ) as response:
        assert response.status_code == 200
        assert response.headers["cache-control"] == "no-cache, no-transform"
        lines = response.aiter_lines()
        if kind == "off":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await anext(lines)
            return
        seen = [line async for line in _first(lines, 8) if line]
    if kind == "comment":
        assert all(line.startswith(": queued position=1 eta=") for line in seen)
        return
    role, *waiting = (json.loads(line.removeprefix("data: ")) for line in seen)
    assert _delta(role) == {"role": "assistant", "content": ""}
    assert all(_delta(one) == {"content": ""} for one in waiting)
    assert {one["queue"]["position"] for one in waiting} == {1}


async def test_messages_have_ids_only_for_a_client_that_may_resume(
    client: Client, upstream: ScriptedUpstream
) -> None:
    upstream.script = (HELLO,)
    body = {**BODY, "stream": True}
    # SSE libraries send the header by themselves.
    plain = await client.post(CHAT, json=body, headers=BEARER | {"last-event-id": "7"})
    assert plain.status_code == 200
    assert all(block.startswith("data: ") for block in plain.text.split("\n\n")[:-1])
    assert "\nid:" not in plain.text
    named = await client.post(CHAT, json=body, headers=BEARER | {"idempotency-key": "k"})
    kept_alive = sum('"queue":' in block for block in named.text.split("\n\n"))
    assert named.text.count("\nid: ") == len(messages(named)) - 1 - kept_alive
    lost = BEARER | {"idempotency-key": "k", "last-event-id": "7"}
    assert (await client.post(CHAT, json=body, headers=lost)).status_code == 409


def _delta(chunk: Any) -> Any:
    return chunk["choices"][0]["delta"]


async def _first(lines: AsyncIterator[str], count: int) -> AsyncIterator[str]:
    async for line in lines:
        yield line
        count -= 1
        if not count:
            return


@pytest.mark.parametrize(
    "config",
    [
        settings.Settings(
            queue=msgspec.structs.replace(LASTING, max_wait=0.3), stream=settings.Stream(grace=0.2)
        )
    ],
)
async def test_a_job_that_waits_too_long_is_a_504(front: Client) -> None:
    response = await front.post(CHAT, json=BODY, headers=BEARER)
    assert response.status_code == 504
    assert response.json()["error"]["code"] == "waited_too_long"
    stream = await front.post(CHAT, json={**BODY, "stream": True}, headers=BEARER)
    assert stream.status_code == 200
    assert messages(stream)[-1]["error"]["code"] == "waited_too_long"


@pytest.mark.parametrize(
    "config",
    [
        settings.Settings(
            queue=msgspec.structs.replace(LASTING, max_wait=1.0), stream=settings.Stream(grace=0.2)
        )
    ],
)
async def test_every_reader_of_a_job_that_waited_too_long_gets_a_504(
    front: Client, redis: Redis, config: settings.Settings
) -> None:
    """The front end of the first reader finished the job without publishing it: a reader attached
    later waited on, for a minute and ten minutes at worst."""
    headers = BEARER | {"idempotency-key": "k"}
    first = asyncio.create_task(front.post(CHAT, json=BODY, headers=headers))
    while not await redis.zcard("gateway:waiting:chat"):
        await asyncio.sleep(0.01)
    # The deadline of the second reader is far away, so that only the end of the job ends its wait.
    msgspec.structs.force_setattr(config.queue, "max_wait", 3600.0)
    response = await asyncio.wait_for(front.post(CHAT, json=BODY, headers=headers), timeout=30)
    for answer in (response, await first):
        assert answer.status_code == 504
        assert answer.headers["x-should-retry"] == "false"
        assert answer.json()["error"]["code"] == "waited_too_long"


async def test_readiness_lists_the_missing_parts(
    front: Client,
    redis: Redis,
    redis_server: EmbeddedRedis,
    seal: Seal,
    config: settings.Settings,
) -> None:
    await redis.delete("gateway:upstream:main")
    response = await front.get("/readyz")
    assert response.status_code == 200
    assert response.json()["reasons"] == ["no worker has described its upstream yet"]
    await WholeLine(redis, seal, config.queue).presences.remove_worker("steady")
    response = await front.get("/readyz")
    assert response.status_code == 503
    assert response.json()["reasons"] == ["no worker is alive"]
    stranger = connect(redis_url(redis_server.url))
    worker = Worker(
        "stranger",
        stranger,
        Seal(b"another secret"),
        [serve_pandora("main", config, ScriptedUpstream())],
        config,
    )
    main = asyncio.create_task(worker.main())
    try:
        async with asyncio.timeout(30):
            while not any("GATEWAY_SECRET" in r for r in response.json()["reasons"]):
                await asyncio.sleep(0.05)
                response = await front.get("/readyz")
        assert response.status_code == 503, "it takes none of our jobs"
    finally:
        worker.drain()
        await main
        await stranger.aclose()
    assert (await front.get("/healthz")).status_code == 200


async def test_a_redis_out_of_memory_is_reported_as_such(
    front: Client, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """It can still be read: /readyz said `ok`, and then that no worker was alive."""
    await redis.config_set("maxmemory", 1)
    try:
        response = await front.get("/readyz")
        async with asyncio.timeout(30):
            while response.status_code == 200:
                response = await front.get("/readyz")
        # If it lasts for two heartbeats of this test, the line also has to settle.
        reasons = [each for each in response.json()["reasons"] if "settling" not in each]
        assert reasons == ["Redis cannot be written to (OOM: its memory is full (maxmemory))"]
        refused = await front.post(CHAT, json=BODY, headers=BEARER)
        assert refused.status_code == 503
        assert "a job could not be put in line: OOM: its memory is full" in caplog.text
    finally:
        await redis.config_set("maxmemory", 0)
    async with asyncio.timeout(30):
        while response.status_code != 200:
            response = await front.get("/readyz")


async def test_no_prompt_answer_or_bearer_is_in_redis_in_the_clear(
    client: Client, redis: Redis, upstream: ScriptedUpstream
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
    while not seen:
        await redis.ping()
        await asyncio.sleep(0.01)
    seen.clear()
    await client.post(CHAT, json={**BODY, "messages": messages}, headers=headers)
    stored = [await redis.dump(key) for key in await redis.keys("*")]
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    everything = "".join(seen) + str(stored) + str(await redis.keys("*"))
    assert len(seen) > 10
    assert "xadd" in everything.lower()
    for told in ("secret answer", "secret prompt", "the-secret-bearer"):
        assert told not in everything


# Limits of an answer, and unsupported parameters


@pytest.mark.parametrize(
    ("asked", "text", "reason"),
    [
        ({"stop": "END"}, "one two thr", "stop"),
        ({"stop": ["never", "two"]}, "one ", "stop"),
        ({"stop": ["three"]}, "one two thrENDee four", "stop"),
        ({"stop": ["four!", "our."]}, "one two thrENDee four", "stop"),
        ({"stop": []}, "one two thrENDee four", "stop"),
        ({"stop": ""}, "one two thrENDee four", "stop"),
        ({"max_tokens": 2}, "one two", "length"),
        ({"max_completion_tokens": 1, "max_tokens": 2}, "one", "length"),
        ({"max_tokens": 1000}, "one two thrENDee four", "stop"),
        ({"max_tokens": 2, "stop": "thr"}, "one two", "length"),
        ({"max_tokens": 3, "stop": " thr"}, "one two", "stop"),
    ],
)
async def test_stop_and_max_tokens_cut_an_answer_alike_streamed_and_whole(
    client: Client, upstream: ScriptedUpstream, asked: dict[str, Any], text: str, reason: str
) -> None:
    parts = ["one", " tw", "o t", "hrE", "N", "Dee f", "our"]
    upstream.script = ([Started("m")], *([[Delta(part)] for part in parts]), [Done("stop")])
    whole = (await client.post(CHAT, json={**BODY, **asked}, headers=BEARER)).json()
    assert whole["choices"][0]["message"]["content"] == text
    assert whole["choices"][0]["finish_reason"] == reason
    body = {**BODY, **asked, "stream": True, "stream_options": {"include_usage": True}}
    streamed = messages(await client.post(CHAT, json=body, headers=BEARER))
    assert said(streamed) == text
    *_, last, usage, done = streamed
    assert (last["choices"][0]["finish_reason"], done) == (reason, None)
    assert usage["usage"] == whole["usage"]
    limit = asked.get("max_completion_tokens") or asked.get("max_tokens") or 1000
    assert usage["usage"]["completion_tokens"] <= limit


PATIENT = settings.Settings(queue=LASTING, stream=settings.Stream(grace=0.2))
"""Settings for an upstream that may be silent for long, so that only the cut ends its turn."""


@pytest.mark.parametrize("config", [PATIENT], ids=["patient"])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("asked", [{"stop": "END"}, {"max_tokens": 3}])
async def test_a_cut_ends_the_conversation_at_once(
    client: Client, upstream: ScriptedUpstream, asked: dict[str, Any], *, stream: bool
) -> None:
    upstream.script = ([Started("m"), Delta("a b c END d e")], 60.0, [Done("stop")])
    body = {**BODY, **asked, "stream": stream}
    async with asyncio.timeout(30):
        response = await client.post(CHAT, json=body, headers=BEARER)
        while upstream.active:
            await asyncio.sleep(0.01)
    assert response.status_code == 200
    assert ("[DONE]" in response.text) == stream


async def test_text_held_back_for_a_stop_sequence_is_sent_before_an_error(
    client: Client, upstream: ScriptedUpstream
) -> None:
    upstream.script = (
        [Started("m"), Delta("half E")],
        UpstreamError(Failed("upstream_error", "x")),
    )
    body = {**BODY, "stop": "END", "max_tokens": 3, "stream": True}
    *before, last = messages(await client.post(CHAT, json=body, headers=BEARER))
    assert said(before) == "half E"
    assert "error" in last


@pytest.mark.parametrize("config", [PATIENT], ids=["patient"])
async def test_a_cut_frees_the_slot_though_its_client_reads_nothing(
    client: Client, upstream: ScriptedUpstream
) -> None:
    upstream.script = ([Started("m"), Delta("x " * 4_000_000 + "END")], 60.0, [Done("stop")])
    body = json.dumps({**BODY, "stop": "END", "stream": True})
    where = urlsplit(client.make_url(CHAT))
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: {where.netloc}\r\nAuthorization: Bearer abc\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await loop.sock_connect(connection, (where.hostname, where.port))
        await loop.sock_sendall(connection, (head + body).encode())
        async with asyncio.timeout(30):
            while not upstream.active:
                await asyncio.sleep(0.01)
        async with asyncio.timeout(30):
            while upstream.active:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("config", [PATIENT], ids=["patient"])
async def test_what_a_client_keeps_while_it_waits_is_freed_when_it_is_not_needed(
    client: Client, upstream: ScriptedUpstream
) -> None:
    """Thousands may wait. A full garbage collection would stop the front end for long."""
    upstream.script = ([Started("m")], 60.0, [Done("stop")])
    where = urlsplit(client.make_url(CHAT))
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    body = json.dumps({**BODY, "stream": True})
    head = (
        f"POST {CHAT}?waits HTTP/1.1\r\nHost: {where.netloc}\r\nAuthorization: Bearer abc\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    gc.collect()
    gc.disable()
    try:
        async with asyncio.timeout(30):
            writer.write((head + body).encode())
            await reader.readuntil(b"role")
            (connection,) = _waiting()
            assert not connection.request.headers
            assert not connection.request.head
            assert not connection.response.headers
            del connection
            writer.close()
            while _waiting():
                await asyncio.sleep(0.01)
    finally:
        gc.enable()


def _waiting() -> list[GatewayHttp]:
    tracked = [one for one in gc.get_objects() if isinstance(one, GatewayHttp)]
    answering = [one for one in tracked if one.stage is Stage.RESPONSE]
    return [one for one in answering if one.request.query_string == "waits"]


UNSUPPORTED: list[tuple[str, Any]] = [
    ("n", 2),
    ("tools", [{"type": "function", "function": {"name": "f"}}]),
    ("functions", [{"name": "f"}]),
    ("tool_choice", "required"),
    ("tool_choice", {"type": "function", "function": {"name": "f"}}),
    ("function_call", {"name": "f"}),
    ("logprobs", True),
    ("top_logprobs", 2),
    ("response_format", {"type": "json_object"}),
    ("response_format", {"type": "json_schema", "json_schema": {"name": "x"}}),
    ("modalities", ["text", "audio"]),
    ("audio", {"voice": "alloy", "format": "wav"}),
]


@pytest.mark.parametrize(
    "config",
    [settings.Settings(queue=LASTING, compat=settings.Compat(tools="refuse", json="refuse"))],
    ids=["refused"],
)
async def test_a_parameter_that_the_upstream_does_not_support_is_refused(client: Client) -> None:
    for field, value in UNSUPPORTED:
        response = await client.post(CHAT, json={**BODY, field: value}, headers=BEARER)
        assert response.status_code == 400
        error = response.json()["error"]
        assert (error["code"], error["param"]) == ("unsupported_parameter", field)
        assert error["type"] == "invalid_request_error"
        assert "not supported" in error["message"]


@pytest.mark.parametrize(
    "config",
    [settings.Settings(queue=LASTING, compat=settings.Compat(ignore_unsupported=True))],
    ids=["ignored"],
)
async def test_a_parameter_that_the_upstream_does_not_support_is_ignored_if_so_configured(
    client: Client, upstream: ScriptedUpstream
) -> None:
    for field, value in UNSUPPORTED:
        response = await client.post(CHAT, json={**BODY, field: value}, headers=BEARER)
        assert response.status_code == 200, field
        assert response.headers["x-ignored-parameters"] == field
    assert all(job.messages == [Message("user", "hi")] for job in upstream.asked)
    asked = {**BODY, "stream": True, "n": 2, "tools": [{}], "tool_choice": "required"}
    streamed = await client.post(CHAT, json=asked, headers=BEARER)
    assert streamed.headers["x-ignored-parameters"] == "n, tools, tool_choice"
    wrong = await client.post(CHAT, json={**BODY, "n": "two"}, headers=BEARER)
    assert wrong.json()["error"]["param"] == "n"


async def test_neither_emulation_leaves_a_header(client: Client) -> None:
    response = await client.post(CHAT, json=BODY, headers=BEARER)
    assert not {"x-ignored-parameters", "x-format-warning"} & response.headers.keys()


async def test_a_json_answer_is_held_back_with_keep_alives(
    client: Client, upstream: ScriptedUpstream
) -> None:
    upstream.script = (
        [Started("m"), Delta("```json\n")],
        0.5,
        [Delta('{"a": 1}\n```'), Done("stop")],
    )
    asked = {**BODY, "stream": True, "response_format": {"type": "json_object"}}
    streamed = messages(await client.post(CHAT, json=asked, headers=BEARER))
    texts = [chunk["choices"][0]["delta"].get("content") for chunk in streamed[:-1]]
    assert texts.count("") > 2  # the role, and keep-alives
    assert [text for text in texts if text] == ['{"a": 1}']


async def test_unsupported_parameters_with_neutral_values_are_accepted(client: Client) -> None:
    harmless = {
        "n": 1,
        "tools": [],
        "functions": [],
        "tool_choice": "auto",
        "function_call": "none",
        "logprobs": False,
        "top_logprobs": 0,
        "response_format": {"type": "text"},
        "modalities": ["text"],
        "audio": None,
        "max_tokens": None,
        "stop": None,
    }
    assert (await client.post(CHAT, json={**BODY, **harmless}, headers=BEARER)).status_code == 200
    nothing = {**BODY, **dict.fromkeys(harmless)}
    assert (await client.post(CHAT, json=nothing, headers=BEARER)).status_code == 200
    sampling = {"temperature": "hot", "top_p": 3, "logit_bias": {"1": 2}, "seed": 1}
    assert (await client.post(CHAT, json={**BODY, **sampling}, headers=BEARER)).status_code == 200


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("stop", 7, "stop"),
        ("stop", ["a", 7], "stop[1]"),
        ("max_tokens", "many", "max_tokens"),
        ("max_tokens", 0, "max_tokens"),
        ("max_completion_tokens", 1.5, "max_completion_tokens"),
        ("n", 0, "n"),
        ("tools", {}, "tools"),
        ("tools", ["f"], "tools[0]"),
        ("functions", "f", "functions"),
        ("tool_choice", 1, "tool_choice"),
        ("function_call", "often", "function_call"),
        ("logprobs", 5, "logprobs"),
        ("top_logprobs", True, "top_logprobs"),
        ("response_format", "text", "response_format"),
        ("response_format", {}, "response_format.type"),
        ("response_format", {"type": "xml"}, "response_format.type"),
        ("modalities", "text", "modalities"),
        ("audio", "loud", "audio"),
    ],
)
async def test_a_known_field_of_a_wrong_type_is_named(
    front: Client, field: str, value: Any, param: str
) -> None:
    response = await front.post(CHAT, json={**BODY, field: value}, headers=BEARER)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert response.json()["error"]["code"] is None


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (["a", "b", "c", "d", "e"], "array_above_max_length"),
        ("x" * 1001, "string_above_max_length"),
    ],
)
async def test_a_known_field_that_is_too_long_is_named(
    front: Client, value: object, code: str
) -> None:
    response = await front.post(CHAT, json={**BODY, "stop": value}, headers=BEARER)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "stop"
    assert response.json()["error"]["code"] == code


# ----- media

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


@pytest.mark.parametrize(
    ("content", "given", "kind", "disposition"),
    [
        (PNG, "", "image/png", "inline; filename="),
        (b"<script>", "x.png", "application/octet-stream", "attachment; filename="),
        (
            b"n\n1\n",
            '数 据".csv',
            "text/csv; charset=utf-8",
            "attachment; filename=\"____.csv\"; filename*=UTF-8''%E6%95%B0_%E6%8D%AE_.csv",
        ),
        (b"<html>", "x.html", "application/octet-stream", 'attachment; filename="x.html"'),
        (PNG * 100_000, "big.png", "image/png", 'inline; filename="big.png"'),
    ],
)
async def test_a_file_is_served_whole_with_headers_that_let_a_browser_run_nothing(
    front: Client, media: Media, content: bytes, given: str, kind: str, disposition: str
) -> None:
    name = await media.put("files", pieces(content), given)
    whole = await front.get(f"/files/{name}")
    head = await front.session.head(front.make_url(f"/files/{name}"))
    assert whole.content == content
    assert head.content == b""
    for answer in (whole, head):
        assert answer.status_code == 200
        assert answer.headers["content-length"] == str(len(content))
        assert answer.headers["content-type"] == kind
        assert answer.headers["content-disposition"].startswith(disposition)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert answer.headers["cache-control"] == "private, max-age=86400, immutable"


async def test_an_unknown_file_name_is_a_404_however_it_is_spelled(
    front: Client, media: Media, tmp_path: Path
) -> None:
    name = await media.put("files", pieces(PNG), "a.png")
    (tmp_path / "media" / "secret.png").write_bytes(PNG)
    for path in (
        f"/images/{name}",
        "/images/none.png",
        "/files/..%2fsecret.png",
        "/files/%2e%2e%2fsecret.png",
        "/files/..%252fsecret.png",
        f"/files/{'0' * 32}_..%2f..%2fsecret.png",
        f"/files/{name}%00",
        "/files/%ff",
        "/files/",
    ):
        answer = await front.get(path)
        assert answer.status_code == 404, path
        assert answer.json()["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    "config",
    [settings.Settings(queue=LASTING, images=settings.Images(prompt_prefix="Draw: ", max_n=2))],
)
async def test_a_prompt_is_sent_with_its_prefix_and_its_size(
    client: Client, upstream: ScriptedUpstream
) -> None:
    image = Image("dalle", None, "0" * 32 + ".png", "a fat cat")
    upstream.script = ([Started("m"), image, Delta("There."), Done("stop")],)
    body = {"prompt": "a cat", "n": 1, "size": "1024x1792"}
    headers = {**BEARER, "host": "bots.example:81"}
    response = await client.post(IMAGES, json=body, headers=headers)
    answer = response.json()
    assert response.headers["x-queue-position"] == "1"
    url = f"http://bots.example:81/images/{image.name}"
    assert answer["data"] == [{"url": url, "revised_prompt": "a fat cat"}]
    assert answer["reply"] == "There."
    assert upstream.asked[0].messages[0].text == "Draw: a cat\n\nSize: 1024x1792"
    assert not upstream.asked[0].copies
    failed = Failed("rate_limited", "enough")
    upstream.script = (UpstreamError(failed),)
    refused = await client.post(IMAGES, json=body, headers=BEARER)
    assert refused.status_code == 429
    body = {"prompt": "a cat", "response_format": "b64_json"}
    upstream.script = ([Started("m"), image, Done("stop")],)
    lost = await client.post(IMAGES, json=body, headers=BEARER)
    assert lost.status_code == 500
    assert "media store" in lost.json()["error"]["message"]
    assert upstream.asked[-1].copies


async def test_an_invalid_host_header_does_not_appear_in_links(
    client: Client, upstream: ScriptedUpstream
) -> None:
    upstream.script = ([Started("m"), File(None, "a.csv"), Done("stop")],)
    headers = {**BEARER, "host": "x)<b>"}
    answer = await client.post(CHAT, json=BODY, headers=headers)
    content = answer.json()["choices"][0]["message"]["content"]
    assert content == "(http://localhost:50011/files/a.csv)"


async def test_a_gpt_is_a_model_unless_it_cannot_be_reached(
    client: Client, upstream: ScriptedUpstream, redis: Redis, seal: Seal
) -> None:
    async def listed(**headers: str) -> list[str]:
        models = (await client.get("/v1/models", headers=headers)).json()["data"]
        return [m["id"] for m in models if m["id"].startswith("my-")]

    infos = GptInfos(redis, seal, 3600)
    assert await listed() == ["my-one", "my-other"]
    answer = await client.post(CHAT, json=BODY | {"model": "my-one"}, headers=BEARER)
    assert answer.status_code == 200
    assert (upstream.asked[-1].family, upstream.asked[-1].gpt) == ("gpt_4_gizmo", "g-1")
    await infos.miss("abc", "g-2")
    assert await listed(**BEARER) == ["my-one"]
    assert await listed() == ["my-one", "my-other"]
    assert (await client.get("/v1/models/my-other", headers=BEARER)).status_code == 404
    await infos.miss(EVERYBODY, "g-1")
    assert await listed() == ["my-other"]


async def test_an_image_is_not_lost_with_the_words_after_it(
    client: Client, upstream: ScriptedUpstream
) -> None:
    """A client that gets a failure repeats its request, and the image is drawn a second time."""
    image = Image("dalle", None, "0" * 32 + ".png")
    broken = UpstreamError(Failed("upstream_error", "broken off"))
    upstream.script = ([Started("m"), image, Delta("Here")], broken)
    answer = await client.post(IMAGES, json={"prompt": "a cat", "n": 2}, headers=BEARER)
    assert answer.status_code == 200
    assert [one["url"].rpartition("/")[2] for one in answer.json()["data"]] == [image.name]
    assert answer.json()["reply"] == "Here"
    assert len(upstream.asked) == 1
    upstream.script = ([Started("m"), Delta("Here")], broken)
    failed = await client.post(IMAGES, json={"prompt": "a cat"}, headers=BEARER)
    assert failed.status_code == 502


async def test_a_gpt_serves_an_images_request(client: Client, upstream: ScriptedUpstream) -> None:
    """The images request named no GPT, which the upstream refuses."""
    image = Image("dalle", None, "0" * 32 + ".png")
    upstream.script = ([Started("m"), image, Done("stop")],)
    body = {"model": "my-one", "prompt": "a cat"}
    answer = await client.post(IMAGES, json=body, headers=BEARER)
    assert answer.status_code == 200
    assert (upstream.asked[-1].family, upstream.asked[-1].gpt) == ("gpt_4_gizmo", "g-1")


async def test_half_a_surrogate_pair_in_a_body_is_reported_as_such(client: Client) -> None:
    """JavaScript sends it when it cuts an emoji; the error said that the JSON was truncated."""
    cut = b'{"model": "gpt-4", "messages": [{"role": "user", "content": "a \\ud83d b"}]}'
    answer = await client.post(CHAT, content=cut, headers=BEARER)
    assert answer.status_code == 400
    assert "\\ud83d" in answer.json()["error"]["message"]
    whole = cut.replace(b"\\ud83d", b"\\ud83d\\ude00")
    assert (await client.post(CHAT, content=whole, headers=BEARER)).status_code == 200
