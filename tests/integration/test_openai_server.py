"""The worker's client of OpenAI-compatible servers, against sockets that answer byte for byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import settings
from settings.accounts import list_accounts
from settings.credentials import Secret
from tests.support.loopback import (
    END_OF_BODY,
    STREAM_HEAD,
    Exchange,
    Script,
    Server,
    frame,
    refusal,
    serving,
)
from tests.support.replay import cut_places, played, recorded
from wire import VERSION
from wire.events import Complete, Event, Failed, Piece, Started
from wire.jobs import ApiPath, RelayedJob
from wire.seal import Seal
from workers.accounts import open_pool
from workers.openai.connection import ANTHROPIC_VERSION
from workers.openai.server import OpenAiServer, open_openai
from workers.upstream import BROKEN_OFF, UpstreamBusy, UpstreamError

DEADLINE = 60.0


def sse(data: object) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def chunk(delta: object, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return sse({"id": "theirs", "model": "theirs", "choices": [choice]})


ROLE, WORD, STOP = chunk({"role": "assistant"}), chunk({"content": "a"}), chunk({}, "stop")
DONE = b"data: [DONE]\n\n"


def answering(*reads: bytes, end: bytes = END_OF_BODY) -> Script:
    """Send a stream in pieces that are read apart, and keep the connection."""

    async def script(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD)
        for read in reads:
            await exchange.send_apart(frame(read))
        await exchange.send(end)

    return script


def refusing(status: int, body: bytes, *headers: str) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.send(refusal(status, body, *headers))

    return script


async def hanging_up(exchange: Exchange) -> None:
    exchange.close()


@asynccontextmanager
async def asking(*scripts: Script, **config: Any) -> AsyncIterator[tuple[Server, OpenAiServer]]:
    async with asyncio.timeout(DEADLINE), serving(*scripts) as server:
        base = config.pop("base", "")
        upstream = settings.Upstream(kind="openai", base_url=server.url + base, **config)
        with server.traffic.watched():
            pool = open_pool("gpu", upstream, Seal(b"a secret of the tests"))
            async with open_openai("gpu", upstream, pool) as opened:
                yield server, opened


def job(path: ApiPath = "chat/completions", body: bytes = b'{"model":"mine"}') -> RelayedJob:
    return RelayedJob(VERSION, "j1", path, "mine", "k1", body)


async def collect(server: OpenAiServer, asked: RelayedJob | None = None) -> list[Event]:
    async with aclosing(server.answer(asked or job())) as batches:
        return [event async for events in batches for event in events]


async def failure(server: OpenAiServer, asked: RelayedJob | None = None) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await collect(server, asked)
    return caught.value


def head(server: Server, number: int = 0) -> dict[str, str]:
    first, *lines = server.exchanges[number].head.decode().strip().split("\r\n")
    fields = (line.partition(": ") for line in lines)
    return {"": first, **{name.lower(): value for name, _, value in fields}}


async def test_an_answer_is_relayed_as_it_comes_and_its_connection_is_kept() -> None:
    stream = answering(ROLE, WORD, STOP + DONE)
    async with asking(stream, stream) as (server, upstream):
        async with aclosing(upstream.answer(job())) as batches:
            batches_seen = [list(events) async for events in batches]
        assert [len(events) for events in batches_seen] == [0, 3, 2]
        assert batches_seen[1][0] == Started("theirs")
        assert batches_seen[2][1] == Complete()
        await collect(upstream)
    assert server.connections == 1


async def test_a_large_message_is_relayed_whole() -> None:
    text = "x" * 1_000_000
    async with asking(answering(chunk({"content": text}), STOP)) as (_, upstream):
        _, piece, *_ = await collect(upstream)
    assert isinstance(piece, Piece)
    assert json.loads(piece.data)["choices"][0]["delta"]["content"] == text


async def test_comments_are_no_signs_of_life() -> None:
    ping = b": ping\n\n"
    async with (
        asking(answering(ping, ping, WORD + STOP)) as (_, upstream),
        aclosing(upstream.answer(job())) as batches,
    ):
        assert [len(events) async for events in batches] == [3, 1]


@pytest.mark.parametrize(
    ("base", "path"),
    [("", "/v1"), ("/v1", "/v1"), ("/v1/", "/v1"), ("/api/v1beta/x", "/api/v1beta/x")],
)
async def test_the_base_url_may_have_the_version_at_its_end(base: str, path: str) -> None:
    async with asking(answering(STOP), base=base) as (server, upstream):
        await collect(upstream)
    assert head(server)[""] == f"POST {path}/chat/completions HTTP/1.1"


async def test_only_our_own_headers_go_upstream(tmp_path: Path) -> None:
    file = tmp_path / "credential"
    file.write_text("sk-file\n")
    stop = sse({"type": "message_delta", "delta": {"stop_reason": "end_turn"}})
    async with asking(answering(STOP), credential=Secret("sk-ours")) as (server, upstream):
        await collect(upstream)
    common = {
        "",
        "host",
        "accept",
        "accept-encoding",
        "content-type",
        "content-length",
        "user-agent",
    }
    assert set(head(server)) == common | {"authorization"}
    assert head(server)["authorization"] == "Bearer sk-ours"
    assert head(server)["accept-encoding"] == "identity"
    async with asking(answering(stop), credential_file=str(file)) as (server, upstream):
        await collect(upstream, job("messages"))
    assert set(head(server)) == common | {"authorization", "x-api-key", "anthropic-version"}
    assert head(server)["x-api-key"] == "sk-file"
    assert head(server)["anthropic-version"] == ANTHROPIC_VERSION
    async with asking(answering(STOP)) as (server, upstream):
        await collect(upstream)
    assert set(head(server)) == common


async def test_the_request_goes_upstream_under_the_servers_name_for_the_model() -> None:
    large = json.dumps({"model": "mine", "x": "y" * 3_000_000}).encode()
    config = {"models": {"mine": "theirs"}, "pass_service_tier": True}
    async with asking(answering(STOP), answering(STOP), **config) as (server, upstream):
        await collect(upstream, job(body=b'{"service_tier":"flex","model":"mine"}'))
        await collect(upstream, job(body=large))
    sent = json.loads(server.exchanges[0].body)
    assert (sent["model"], sent["service_tier"], sent["stream"]) == ("theirs", "flex", True)
    assert len(json.loads(server.exchanges[1].body)["x"]) == 3_000_000
    assert "content-length" in head(server, 1)


async def test_closing_closes_the_connection_at_once() -> None:
    left = asyncio.Event()

    async def endless(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD + frame(WORD))
        await exchange.closed_by_client()
        left.set()

    async def silent(exchange: Exchange) -> None:
        await exchange.closed_by_client()
        left.set()

    async with asking(endless, silent) as (server, upstream):
        async with aclosing(upstream.answer(job())) as batches:
            await anext(batches)
        await left.wait()
        left.clear()
        waiting = asyncio.create_task(collect(upstream))
        while len(server.exchanges) < 2:
            await asyncio.sleep(0)
        waiting.cancel()
        await left.wait()
    assert server.connections == 2


async def test_a_kept_connection_that_breaks_is_replaced_at_once() -> None:
    async with asking(answering(STOP), hanging_up, answering(STOP)) as (server, upstream):
        await collect(upstream)
        assert (await collect(upstream))[-1] == Complete()
    assert server.connections == 2
    async with asking(hanging_up) as (_, upstream):
        assert (await failure(upstream)).failed.fault == "upstream_down"


async def test_a_finished_answer_does_not_wait_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never_ends(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD + frame(WORD + STOP))
        await exchange.closed_by_client()

    async def pings_for_ever(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD + frame(WORD + STOP))
        while True:
            await exchange.send(frame(b": ping\n\n"))
            await asyncio.sleep(0)

    monkeypatch.setattr("workers.openai.server._TAIL_TIMEOUT", 0.01)
    async with asking(never_ends, pings_for_ever) as (_, upstream):
        for _ in range(2):
            assert (await collect(upstream))[-1] == Complete()


@pytest.mark.parametrize("path", ["chat/completions", "embeddings"])
async def test_a_body_with_damaged_framing_is_broken_off_at_once(path: ApiPath) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD)
        await exchange.send_apart(frame(WORD))
        await exchange.send(b"zz\r\nno number\r\n")
        await exchange.closed_by_client()

    async with asking(script) as (_, upstream):
        assert (await failure(upstream, job(path))).failed == BROKEN_OFF


async def test_a_broken_body_ends_as_the_table_says() -> None:
    async def resets(exchange: Exchange) -> None:
        await exchange.send_apart(STREAM_HEAD + frame(WORD))
        exchange.reset()

    async def resets_after_the_finish(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD + frame(WORD + STOP))
        exchange.reset()

    async with asking(resets, resets_after_the_finish) as (_, upstream):
        assert (await failure(upstream)).failed == BROKEN_OFF
        assert (await collect(upstream))[-1] == Complete()


async def test_refusals_have_their_consequences() -> None:
    full = refusing(429, b'{"error":{"message":"Slow down."}}', "Retry-After: 9")
    leak = b'{"error":{"message":"bad key sk-ours"}}'
    scripts = full, refusing(401, leak), refusing(400, leak), refusing(307, b"", "Location: /x")
    async with asking(*scripts, credential=Secret("sk-ours")) as (server, upstream):
        for pause, refused_us in ((9.0, False), (0.0, True)):
            with pytest.raises(UpstreamBusy) as busy:
                await collect(upstream)
            assert (busy.value.pause, busy.value.refused_us) == (pause, refused_us)
        refused = (await failure(upstream)).failed
        assert (refused.fault, refused.status) == ("bad_request", 400)
        assert "sk-ours" not in refused.message
        assert (await failure(upstream)).failed.fault == "upstream_error"
    assert len(server.exchanges) == 4  # a redirect is not followed


async def test_an_error_is_read_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.send(refusal(400, b"", "X: y").replace(b"Content-Length: 0\r\n", b""))
        while True:
            await exchange.send(b"x" * 65_536)

    async with asking(endless) as (_, upstream):
        refused = (await failure(upstream)).failed
    assert refused.message == "x" * 500


async def test_a_good_answer_says_for_which_time_it_has_used_up_the_account() -> None:
    limits = "x-ratelimit-remaining-requests: 0", "x-ratelimit-reset-requests: 6s"
    scripts = refusing(200, b'{"data":[]}', *limits), refusing(200, b'{"data":[]}', limits[1])
    async with asking(*scripts) as (_, upstream):
        for pause in (6.0, 0.0):
            assert (await collect(upstream, job("embeddings")))[-1] == Complete(pause=pause)


async def test_answers_without_a_stream_are_relayed_whole() -> None:
    body = b'{"object":"list","data":[{"embedding":[0.1, 0.20]}],"model":"theirs"}'
    scripts = refusing(200, body), refusing(200, b'{"input_tokens":3}')
    async with asking(*scripts) as (server, upstream):
        expected = [Started("theirs"), Piece(body), Complete()]
        assert await collect(upstream, job("embeddings")) == expected
        counted = await collect(upstream, job("messages/count_tokens"))
        assert counted == [Started("mine"), Piece(b'{"input_tokens":3}'), Complete()]
    assert json.loads(server.exchanges[0].body) == {"model": "mine"}
    assert "/v1/messages/count_tokens" in head(server, 1)[""]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"data":[', BROKEN_OFF),
        (b"[]", BROKEN_OFF),
        (b"", BROKEN_OFF),
        (
            b'{"error":{"message":"Too long.","code":400}}',
            Failed("bad_request", "Too long.", "400", status=400),
        ),
    ],
)
async def test_answers_without_a_stream_may_fail(body: bytes, expected: Failed) -> None:
    async with asking(refusing(200, body)) as (_, upstream):
        assert (await failure(upstream, job("embeddings"))).failed == expected


async def test_a_whole_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.openai.server.MAX_WHOLE", 1000)
    async with asking(refusing(200, b'{"a":"%b"}' % (b"x" * 2000))) as (_, upstream):
        assert (await failure(upstream, job("embeddings"))).failed.fault == "upstream_error"


async def test_an_answer_without_a_finish_is_noticed() -> None:
    async with asking(answering(WORD + DONE)) as (_, upstream):
        assert (await collect(upstream))[-1] == Complete()
        assert upstream.anomalies == {"unfinished": 1}


@pytest.mark.parametrize(
    "name", ["llama.cpp/stream-usage", "vllm/stream-usage", "mlx-lm/stream-usage"]
)
async def test_recorded_answers_arrive_the_same_however_they_are_cut(name: str) -> None:
    raw = recorded(name)
    places = [at for part in cut_places(raw).values() for at in part[:20]]
    async with asking(played(raw), played(raw, places)) as (_, upstream):
        whole = await collect(upstream)
        assert isinstance(whole[-1], Complete)
        assert whole[-1].usage
        assert await collect(upstream) == whole


async def test_a_recorded_answer_that_breaks_off_over_http_1_0_is_no_answer() -> None:
    raw = recorded("mlx-lm/stream")
    cut = raw.index(b'"finish_reason": "length"')
    async with asking(played(raw, end=cut)) as (_, upstream):
        assert (await failure(upstream)).failed == BROKEN_OFF


async def test_a_body_that_is_not_an_object_is_the_clients_fault() -> None:
    async with asking() as (_, upstream):
        assert (await failure(upstream, job(body=b"[]"))).failed.fault == "bad_request"


async def test_each_account_is_asked_with_its_own_token_and_no_error_shows_it() -> None:
    stream = answering(ROLE, WORD, STOP + DONE)
    quoting = refusing(400, json.dumps({"error": {"message": "sk-two?"}}).encode())
    refused = refusing(401, b"{}")
    accounts = list_accounts(["sk-one one", "sk-two two"])
    asked = replace(job(), bearer="sk-two")
    async with asking(stream, quoting, refused, accounts=accounts) as (server, upstream):
        await collect(upstream, replace(job(), bearer="sk-one"))
        failed = await failure(upstream, asked)
        with pytest.raises(UpstreamBusy) as busy:
            await collect(upstream, asked)
        bearers = [head(server, n)["authorization"] for n in range(3)]
    assert bearers == ["Bearer sk-one", "Bearer sk-two", "Bearer sk-two"]
    assert "sk-two" not in failed.failed.message
    assert busy.value.aside == "token_refused"


async def test_a_server_that_refuses_one_account_is_asked_for_its_models_with_the_next() -> None:
    async def listing(exchange: Exchange) -> None:
        known = b"bearer sk-two" in exchange.head.lower()
        body = b'{"data": [{"id": "m"}]}'
        answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        await exchange.send(answer % len(body) + body if known else refusal(401, b"{}"))

    accounts = list_accounts(["sk-one one", "sk-two two"])
    config = {"accounts": accounts, "max_concurrency": 3}
    async with asking(*[listing] * 3, **config) as (_, upstream):
        for _ in range(2):
            survey = await upstream.survey()
            assert (survey.models, survey.trouble) == ({"m": "m"}, "")
