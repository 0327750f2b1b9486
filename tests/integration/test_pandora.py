"""The client of the upstream against a server on loopback that treats each request as the test
says."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import socket
import threading
from contextlib import aclosing

import pytest
from msgspec.structs import replace

import settings
from tests.support.loopback import (
    DONE,
    END_OF_BODY,
    STREAM_HEAD,
    Exchange,
    Script,
    frame,
    new_pandora,
    refusal,
    says,
    upstream,
)
from tests.support.pandora import MEDIA
from wire import VERSION
from wire.events import Delta, Done, Event, Failed, File, Image, Started
from wire.jobs import ChatJob, Message
from workers.http.session import open_session
from workers.pandora.client import Pandora
from workers.pandora.files.downloads import by_file_server
from workers.pandora.payload import Question
from workers.upstream import UpstreamBusy, UpstreamError

JOB = ChatJob(
    version=VERSION,
    id="job-1",
    family="gpt_3_5",
    bearer="fk-secret-bearer",
    messages=[Message("user", "a secret question 你好")],
)

PING = b"event: ping\r\ndata: 2023-12-15 08:18:09.331532\r\n\r\n"
WHOLE = [Started("slug"), Delta("Hel"), Delta("lo"), Done("stop")]


ANSWER = says("") + says("Hel") + says("Hello") + says("Hello", finished=True)


async def collect(pandora: Pandora, job: ChatJob = JOB) -> list[Event]:
    async with aclosing(pandora.answer(job)) as answer:
        return [event async for events in answer for event in events]


async def failure(pandora: Pandora) -> tuple[list[Event], Failed]:
    """The events that came, and the failure that ended them."""
    events: list[Event] = []

    async def run() -> None:
        async with aclosing(pandora.answer(JOB)) as answer:
            async for batch in answer:
                events.extend(batch)

    with pytest.raises(UpstreamError) as caught:
        await run()
    return events, caught.value.failed


async def whole(exchange: Exchange) -> None:
    await exchange.send(STREAM_HEAD + frame(ANSWER) + frame(DONE) + END_OF_BODY)


async def test_a_whole_answer_comes_out_in_order_and_the_request_is_as_documented() -> None:
    async with upstream(whole, prefix="/abc123de/") as (server, pandora):
        assert await collect(pandora) == WHOLE
        (exchange,) = server.exchanges
        head = exchange.head.decode().lower()
        assert head.startswith("post /abc123de/backend-api/conversation http/1.1\r\n")
        assert "authorization: bearer fk-secret-bearer\r\n" in head
        assert "content-type: application/json\r\n" in head
        assert "cookie" not in head
        assert "你好".encode() in exchange.body
        assert json.loads(exchange.body)["model"] == "text-davinci-002-render-sha"


async def test_bytes_cut_anywhere_give_the_same_answer() -> None:
    async def trickle(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD)
        stream = ANSWER + PING + DONE
        for i in range(0, len(stream), 7):
            await exchange.send(frame(stream[i : i + 7]))
            await asyncio.sleep(0)
        await exchange.send(END_OF_BODY)

    async with upstream(trickle) as (_, pandora):
        assert await collect(pandora) == WHOLE


async def test_pings_yield_nothing_and_other_events_are_a_sign_of_life() -> None:
    turn = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.send_apart(STREAM_HEAD + frame(PING) + frame(b": ping\n\n"))
        await exchange.send(frame(says("")))
        await turn.wait()
        await exchange.send(frame(PING + ANSWER + DONE) + END_OF_BODY)

    async with upstream(script) as (_, pandora), aclosing(pandora.answer(JOB)) as answer:
        assert await anext(answer) == []
        turn.set()
        assert await anext(answer) == WHOLE
        assert [events async for events in answer] == []


async def test_a_connection_is_reused_after_done() -> None:
    async def late_end(exchange: Exchange) -> None:
        await exchange.send_apart(STREAM_HEAD + frame(ANSWER + DONE))
        await exchange.send(END_OF_BODY)

    async with upstream(whole, late_end, whole) as (server, pandora):
        for _ in range(3):
            assert await collect(pandora) == WHOLE
        assert server.connections == 1


async def test_a_body_that_does_not_end_after_done_costs_its_connection_but_not_the_answer() -> (
    None
):
    async def no_end(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD + frame(ANSWER + DONE))
        await exchange.closed_by_client()
        exchange.close()

    async with upstream(no_end, whole) as (server, pandora):
        assert await collect(pandora) == WHOLE
        assert await collect(pandora) == WHOLE
        assert server.connections == 2


async def test_a_connection_is_reused_after_an_error_response() -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.send(refusal(500, b'{"detail": "Hmm..."}'))

    async with upstream(refuse, whole) as (server, pandora):
        assert await failure(pandora) == ([], Failed("upstream_error", "Hmm..."))
        assert await collect(pandora) == WHOLE
        assert server.connections == 1


async def test_closing_the_generator_closes_the_connection_promptly() -> None:
    closed = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD + frame(says("Hel")))
        await exchange.closed_by_client()
        closed.set()
        exchange.close()

    async with upstream(script, whole) as (server, pandora):
        answer = pandora.answer(JOB)
        assert await anext(answer) == [Started("slug"), Delta("Hel")]
        assert not closed.is_set()
        await answer.aclose()
        async with asyncio.timeout(30):
            await closed.wait()
        assert await collect(pandora) == WHOLE
        assert server.connections == 2


@pytest.mark.parametrize("head", [b"", STREAM_HEAD])
async def test_cancelling_closes_the_connection_before_and_within_the_answer(head: bytes) -> None:
    waiting, closed = asyncio.Event(), asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.send_apart(head)
        waiting.set()
        await exchange.closed_by_client()
        closed.set()
        exchange.close()

    async with upstream(script) as (_, pandora):
        task = asyncio.create_task(collect(pandora))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(30):
            await closed.wait()


# ----- what cannot be reached


async def test_a_refused_connection_means_upstream_down() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        async with open_session() as session:
            pandora = new_pandora(session, f"http://127.0.0.1:{port}")
            events, failed = await failure(pandora)
    assert events == []
    assert failed.fault == "upstream_down"
    assert str(port) not in failed.message


async def test_an_unknown_host_means_upstream_down() -> None:
    async with open_session() as session:
        _, failed = await failure(new_pandora(session, "http://upstream.invalid"))
    assert failed.fault == "upstream_down"


async def test_a_server_without_tls_behind_https_means_upstream_down() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(16)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    listener = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    try:
        port = listener.sockets[0].getsockname()[1]
        async with open_session() as session:
            _, failed = await failure(new_pandora(session, f"https://127.0.0.1:{port}"))
    finally:
        listener.close()
    assert failed.fault == "upstream_down"


async def test_a_reset_or_close_before_the_headers_means_upstream_down() -> None:
    async def reset(exchange: Exchange) -> None:
        exchange.reset()

    async def close(exchange: Exchange) -> None:
        exchange.close()

    async with upstream(reset, close) as (_, pandora):
        for _ in range(2):
            events, failed = await failure(pandora)
            assert events == []
            assert failed.fault == "upstream_down"


# ----- answers that break off


async def test_a_stream_that_breaks_off_in_mid_text_gives_its_text_and_then_fails() -> None:
    async def close(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD + frame(says("Hel") + says("Hello")[:-9]))
        exchange.close()

    async def reset(exchange: Exchange) -> None:
        await exchange.send_apart(STREAM_HEAD + frame(says("Hel")))
        exchange.reset()

    async def clean_end(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD + frame(says("Hel")) + END_OF_BODY)

    async with upstream(close, reset, clean_end) as (_, pandora):
        for _ in range(3):
            events, failed = await failure(pandora)
            assert events == [Started("slug"), Delta("Hel")]
            assert failed.fault == "upstream_error"


async def test_a_stream_that_breaks_off_after_its_turn_is_whole() -> None:
    async def close(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD + frame(ANSWER))
        exchange.close()

    async def reset(exchange: Exchange) -> None:
        await exchange.send_apart(STREAM_HEAD + frame(ANSWER))
        exchange.reset()

    async def clean_end(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD + frame(ANSWER) + END_OF_BODY)

    async with upstream(close, reset, clean_end) as (_, pandora):
        for _ in range(3):
            assert await collect(pandora) == WHOLE


async def test_bytes_that_arrived_before_a_break_are_read_although_the_reader_was_busy() -> None:
    """aiohttp's `readany` raises for a broken connection before it hands out what it holds."""
    turn = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD + frame(says("Hel")))
        await turn.wait()
        await exchange.send(frame(ANSWER + DONE))
        exchange.close()

    async with upstream(script) as (server, pandora), aclosing(pandora.answer(JOB)) as answer:
        events: list[Event] = list(await anext(answer))
        turn.set()
        await server.traffic.connection_lost()
        await server.traffic.all_read()
        async for batch in answer:
            events += batch
        assert events == WHOLE


async def test_an_error_in_the_stream_fails_after_the_text_before_it() -> None:
    async def script(exchange: Exchange) -> None:
        error = (
            b'data: {"message": null, "error": "Our systems have detected unusual activity"}\n\n'
        )
        await exchange.send(STREAM_HEAD + frame(says("Hel") + error + DONE) + END_OF_BODY)

    async with upstream(script) as (_, pandora):
        assert await failure(pandora) == (
            [Started("slug"), Delta("Hel")],
            Failed("forbidden", "Our systems have detected unusual activity"),
        )


@pytest.mark.parametrize("before", [b"", says("Hel")], ids=["alone", "after-text"])
async def test_a_json_error_in_a_stream_response_is_reported_as_that_error(before: bytes) -> None:
    """The predecessor handled this: JSON with the status and the type of a stream."""

    async def script(exchange: Exchange) -> None:
        said = b'{"detail": {"message": "Too many.", "code": "model_cap_exceeded", "clears_in": 9}}'
        await exchange.send(STREAM_HEAD + (frame(before) if before else b""))
        await exchange.send(frame(said) + END_OF_BODY)

    async with upstream(script) as (_, pandora):
        events, failed = await failure(pandora)
        assert events == ([Started("slug"), Delta("Hel")] if before else [])
        assert failed == Failed("rate_limited", "Too many.", "model_cap_exceeded", 9.0)


async def test_an_event_over_the_size_limit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD + frame(says("Hel (")))
        await exchange.send(frame(b"data: " + b"x" * 1_000_000))
        await exchange.closed_by_client()
        exchange.close()

    monkeypatch.setattr("workers.pandora.translate.exchange.MAX_EVENT_BYTES", 500_000)
    async with upstream(script) as (_, pandora):
        events, failed = await failure(pandora)
        assert "".join(e.text for e in events if isinstance(e, Delta)) == "Hel ("
        assert "too large" in failed.message


async def test_other_tasks_run_between_the_steps_of_a_long_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("runtime.pacing.TURN", 0.0)
    marks = "".join(f"【{n}†s】" for n in range(1000))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with upstream(streams(says(marks, finished=True) + DONE)) as (_, pandora):
        async with aclosing(pandora.answer(JOB)) as answer:
            first = await anext(answer)
            assert len(first) < 1000
            other = asyncio.create_task(others())
            more = [events async for events in answer]
        other.cancel()
    assert sum(map(len, more)) > 500
    assert turns >= len(more) - 1


async def test_a_long_question_is_encoded_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    encode = Question.encode

    def noted(question: Question, token: str | None = None) -> bytes:
        threads.append(threading.get_ident())
        return encode(question, token)

    monkeypatch.setattr(Question, "encode", noted)
    for length in (1, 100_000):
        job = replace(JOB, messages=[Message("user", ["a", "x" * length])])
        async with upstream(whole) as (_, pandora):
            assert await collect(pandora, job) == WHOLE
    assert threads[0] == threading.get_ident()
    assert threads[1] != threading.get_ident()


async def test_a_long_answer_translated_in_a_thread_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workers.pandora.client._LARGE", 0)
    async with upstream(whole) as (_, pandora):
        assert await collect(pandora) == WHOLE


# ----- refusals


async def test_one_message_at_a_time_means_a_busy_account() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(refusal(429, b'{"detail": "Only one message at a time. Please wait."}'))

    async with upstream(script) as (_, pandora):
        with pytest.raises(UpstreamBusy):
            await collect(pandora)


async def test_a_rate_limit_carries_its_retry_time() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(refusal(429, b'{"detail": "Too many."}', "Retry-After: 17"))

    async with upstream(script) as (_, pandora):
        assert await failure(pandora) == ([], Failed("rate_limited", "Too many.", None, 17.0))


async def test_a_200_without_a_stream_and_a_redirect_are_errors_and_their_status_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)

    async def websocket(exchange: Exchange) -> None:
        await exchange.send(refusal(200, b'{"wss_url": "wss://x"}'))

    async def page(exchange: Exchange) -> None:
        await exchange.send(refusal(200, b"<html>Welcome", content_type="text/html"))

    async def redirect(exchange: Exchange) -> None:
        await exchange.send(refusal(307, b"", "Location: /elsewhere"))

    async with upstream(websocket, page, redirect) as (server, pandora):
        for part in ("WebSocket", "web page", "307"):
            events, failed = await failure(pandora)
            assert events == []
            assert failed.fault == "upstream_error"
            assert part in failed.message
        assert len(server.exchanges) == 3
    refused = [vars(r) for r in caplog.records if vars(r).get("event") == "upstream_refused"]
    assert [(one["job"], one["status"]) for one in refused] == [
        (JOB.id, status) for status in (200, 200, 307)
    ]


async def test_an_error_response_with_a_broken_body_is_mapped_by_its_status() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(refusal(401, b'{"detail": "Unauthorized"}')[:-5])
        exchange.close()

    async with upstream(script) as (_, pandora):
        assert (await failure(pandora))[1].fault == "unauthorized"


# ----- downloads


def linked(link: str) -> bytes:
    """A turn whose text links to one sandbox file, in a conversation with an odd name."""
    message = {
        "id": "m&1",
        "author": {"role": "assistant"},
        "content": {"content_type": "text", "parts": [f"See [it]{link}."]},
        "status": "finished_successfully",
        "end_turn": True,
        "metadata": {"model_slug": "slug"},
        "recipient": "all",
    }
    event = {"message": message, "conversation_id": "c/1", "error": None}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def pictured(*pointers: str) -> bytes:
    parts = [{"content_type": "image_asset_pointer", "asset_pointer": p} for p in pointers]
    message = {
        "id": "d",
        "author": {"role": "tool", "name": "dalle.text2im"},
        "content": {"content_type": "multimodal_text", "parts": parts},
        "status": "finished_successfully",
        "recipient": "all",
    }
    return b"data: " + json.dumps({"message": message}).encode() + b"\n\n"


def streams(data: bytes) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD + frame(data) + END_OF_BODY)

    return script


def found(url: str) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.send(
            refusal(200, json.dumps({"status": "success", "download_url": url}).encode())
        )

    return script


def refused(status: int, body: bytes) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.send(refusal(status, body))

    return script


async def test_the_path_of_a_sandbox_link_is_encoded_in_the_download_request() -> None:
    link = "(sandbox:/mnt/data/a b&c=样#?%2e.csv)"
    turn = streams(linked(link) + DONE)
    async with upstream(turn, found("https://files.example/x?sig=1"), prefix="abc123de") as (
        server,
        pandora,
    ):
        assert await collect(pandora) == [
            Started("slug"),
            Delta("See [it]"),
            File("https://files.example/x?sig=1"),
            Delta("."),
            Done("stop"),
        ]
        head = server.exchanges[1].head.decode()
        assert head.startswith(
            "GET /abc123de/backend-api/conversation/c%2F1/interpreter/download?message_id=m%261"
            "&sandbox_path=%2Fmnt%2Fdata%2Fa%20b%26c%3D%E6%A0%B7%23%3F..csv HTTP/1.1\r\n"
        )
        assert "authorization: bearer fk-secret-bearer\r\n" in head.lower()


async def test_a_download_url_may_arrive_in_several_reads() -> None:
    async def pieces(exchange: Exchange) -> None:
        body = refusal(200, b'{"status": "success", "download_url": "https://files.example/a"}')
        await exchange.send_apart(body[:-20])
        await exchange.send(body[-20:])

    async with upstream(streams(pictured("file-service://A") + DONE), pieces) as (_, pandora):
        assert (await collect(pandora))[1] == Image("dalle", "https://files.example/a")


async def test_images_are_requested_one_by_one_after_the_events_before_them_are_published() -> None:
    turn = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await turn.wait()
        await found("https://files.example/a")(exchange)

    data = says("Look.", finished=True) + pictured("file-service://file-A", "sediment://file_B")
    async with (
        upstream(streams(data + DONE), slow, found("https://files.example/b")) as (server, pandora),
        aclosing(pandora.answer(JOB)) as answer,
    ):
        assert await anext(answer) == [Started("slug"), Delta("Look.")]
        turn.set()
        rest = [event async for events in answer for event in events]
        assert rest == [
            Image("dalle", "https://files.example/a"),
            Image("dalle", "https://files.example/b"),
            Done("stop"),
        ]
        asked = [exchange.head.split(b" ")[1] for exchange in server.exchanges[1:]]
        assert asked == [
            b"/backend-api/files/file-A/download",
            b"/backend-api/files/file_B/download",
        ]


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, b'{"status": "error", "error_code": "ace_pod_expired"}', "ace_pod_expired"),
        (404, b'{"detail": "File not found"}', "http_404"),
        (403, b"<html>", "http_403"),
        (200, b'{"status": "success", "download_url": "javascript:alert(1)"}', "http_200"),
        (200, b'{"status": "success", "download_url": 7}', "http_200"),
        (302, b"", "http_302"),
    ],
)
async def test_a_refused_download_is_an_event_and_the_answer_goes_on(
    status: int, body: bytes, error: str
) -> None:
    turn = streams(linked("(sandbox:/mnt/data/a.csv)") + DONE)
    async with upstream(turn, refused(status, body)) as (_, pandora):
        assert (await collect(pandora))[2:] == [
            File(None, error=error),
            Delta("."),
            Done("stop"),
        ]


async def test_a_download_that_breaks_off_or_hangs_is_an_event(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def close(exchange: Exchange) -> None:
        exchange.close()

    async def hang(exchange: Exchange) -> None:
        await exchange.closed_by_client()
        exchange.close()

    monkeypatch.setattr("workers.pandora.files.downloads.TIMEOUT", 0.2)
    caplog.set_level(logging.DEBUG)
    data = pictured("file-service://secret-A", "file-service://secret-B") + DONE
    async with upstream(streams(data), close, close, hang) as (_, pandora):
        _, broken, hung, done = await collect(pandora)
        assert isinstance(broken, Image)
        assert broken.url is None
        assert broken.error
        assert hung == Image("dalle", None, error="timeout")
        assert done == Done("stop")
    ours = [record for record in caplog.records if record.name.startswith("workers.")]
    warned = [record for record in ours if record.levelno >= logging.WARNING]
    assert [vars(record)["event"] for record in warned] == ["download_failed"] * 2
    assert "secret" not in " ".join(str(vars(record)) for record in ours)


PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
COPIED = settings.Media(download_timeout=1.5)


def here(path: str) -> Script:
    """The upstream returns a URL on the host that was asked."""

    async def script(exchange: Exchange) -> None:
        host = exchange.head.lower().partition(b"host: ")[2].partition(b"\r\n")[0].decode()
        await found(f"http://{host}{path}")(exchange)

    return script


def gives(content: bytes, *, length: int | None = None) -> Script:
    async def script(exchange: Exchange) -> None:
        size = len(content) if length is None else length
        head = f"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: {size}\r\n\r\n"
        await exchange.send(head.encode() + content)
        if size > len(content):
            exchange.close()

    return script


async def test_an_image_and_a_file_are_copied_into_the_store_without_the_bearer() -> None:
    turn = pictured("file-service://A") + linked("(sandbox:/mnt/data/../样.csv)") + DONE
    scripts = (here("/a?sig=x%2Fy"), gives(PNG), here("/b"), gives(b"n\n1\n"))
    async with upstream(streams(turn), *scripts, rules=COPIED) as (server, pandora):
        events = await collect(pandora)
    (image,) = [event for event in events if isinstance(event, Image)]
    (file,) = [event for event in events if isinstance(event, File)]
    assert (image.url, image.error, image.name[32:]) == (None, None, ".png")
    assert (file.url, file.error, file.name[32:]) == (None, None, "_样.csv")
    assert [p async for p in MEDIA.read("images", image.name)] == [PNG]
    assert [p async for p in MEDIA.read("files", file.name)] == [b"n\n1\n"]
    fetched = server.exchanges[2].head.decode()
    assert fetched.startswith("GET /a?sig=x%2Fy HTTP/1.1\r\n")
    assert "authorization" not in fetched.lower()


async def hangs(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n" + PNG)
    await exchange.closed_by_client()
    exchange.close()


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (refused(403, b"<Error>AuthenticationFailed</Error>"), "http_403"),
        (refused(302, b""), "http_302"),
        (gives(b"<html>an error page that says 200</html>"), "not_an_image"),
        (gives(PNG, length=100_001), "too_large"),
        (gives(PNG, length=200), "ClientPayloadError"),
        (gives(b""), "empty"),
        (hangs, "timeout"),
    ],
)
async def test_a_file_that_cannot_be_copied_is_an_event_with_the_reason_and_the_answer_goes_on(
    script: Script, error: str
) -> None:
    turn = streams(pictured("file-service://A") + DONE)
    async with upstream(turn, here("/a"), script, rules=COPIED) as (_, pandora):
        _, image, done = await collect(pandora)
    assert image == Image("dalle", None, error=error)
    assert done == Done("stop")


async def test_a_copy_is_made_in_addition_if_the_job_asks_for_it() -> None:
    turn = streams(pictured("file-service://A") + DONE)
    async with (
        upstream(turn, here("/a"), gives(PNG)) as (server, pandora),
        aclosing(pandora.answer(replace(JOB, copies=True))) as answer,
    ):
        events = [event async for events in answer for event in events]
    image = events[1]
    assert isinstance(image, Image)
    assert image.url == server.url + "/a"
    assert image.name


async def test_a_long_copy_yields_signs_of_life(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workers.pandora.client._SIGN_OF_LIFE", 0.05)
    turn = streams(pictured("file-service://A") + DONE)
    async with (
        upstream(turn, here("/a"), hangs, rules=COPIED) as (_, pandora),
        aclosing(pandora.answer(JOB)) as answer,
    ):
        said = [list(events) async for events in answer]
    assert said.count([]) >= 3


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (settings.Media(), "https://files.oaiusercontent.com/file-A?sig=a%2Fb"),
        (
            settings.Media(use_pandora_file_server=True),
            "https://files.pandoranext.com/file-A?sig=a%2Fb",
        ),
        (
            settings.Media(use_pandora_file_server=True, use_oaiusercontent_url=True),
            "https://files.oaiusercontent.com/file-A?sig=a%2Fb",
        ),
        (
            settings.Media(use_pandora_file_server=True, pandora_file_server="http://10.0.0.1:81/"),
            "http://10.0.0.1:81/file-A?sig=a%2Fb",
        ),
    ],
)
def test_the_file_server_replaces_the_host_of_a_download_url(
    rules: settings.Media, expected: str
) -> None:
    url = "https://files.oaiusercontent.com/file-A?sig=a%2Fb"
    assert by_file_server(url, rules) == expected


async def test_copies_are_downloaded_through_the_file_server() -> None:
    turn = streams(pictured("file-service://A") + DONE)
    async with upstream(gives(PNG)) as (files, _):
        rules = settings.Media(use_pandora_file_server=True, pandora_file_server=files.url)
        gone = found("http://files.invalid/a?sig=1")
        async with upstream(turn, gone, rules=rules) as (_, pandora):
            _, image, _ = await collect(pandora)
        assert isinstance(image, Image)
        assert image.name
        assert files.exchanges[0].head.startswith(b"GET /a?sig=1 ")


# ----- oddities and secrets


async def test_an_unfinished_answer_is_counted_and_logged_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def script(exchange: Exchange) -> None:
        odd = says("secret text") + b"data: secret noise\n\n" + DONE
        await exchange.send(STREAM_HEAD + frame(odd) + END_OF_BODY)

    async def close(exchange: Exchange) -> None:
        exchange.close()

    caplog.set_level(logging.DEBUG)
    async with upstream(script, close) as (_, pandora):
        assert (await collect(pandora))[-1] == Done("stop")
        assert pandora.anomalies == {"unfinished": 1, "unknown": 1}
        await failure(pandora)
    records = [record for record in caplog.records if record.name.startswith("workers.")]
    warned = [record for record in records if record.levelno >= logging.WARNING]
    assert [vars(record)["event"] for record in warned] == [
        "upstream_odd_answer",
        "upstream_unreachable",
    ]
    assert "secret" not in " ".join(str(vars(record)) for record in caplog.records)


async def test_no_socket_or_task_is_left_open() -> None:
    async def hold(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD + frame(says("Hel")))
        await exchange.closed_by_client()
        exchange.close()

    before = asyncio.all_tasks()
    async with upstream(whole, hold) as (_, pandora):
        await collect(pandora)
        async with aclosing(pandora.answer(JOB)) as answer:
            await anext(answer)
    assert asyncio.all_tasks() == before
    gc.collect()  # an unclosed response or connection would warn here, and warnings are errors
