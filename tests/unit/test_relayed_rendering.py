"""Relayed answers as their clients get them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.openai.answers import QueuePlace
from app.openai.dialect import RenderOptions
from app.relayed.form import Head
from app.relayed.forms import FORMS
from app.relayed.model_name import with_model
from app.relayed.rendering import RelayedRendering
from wire.events import Complete, Event, Failed, Piece, Started
from wire.jobs import ApiPath

HEAD = Head("chatcmpl-abcdefgh", 7, "asked")
STARTED = b'{"type":"message_start","message":{"id":"m","model":"q"}}'
FAILED = Failed("upstream_error", "It broke.", "boom", status=502, kind="server_error", param="x")


def rendering(path: ApiPath, **options: Any) -> RelayedRendering:
    return RelayedRendering(FORMS[path](HEAD), RenderOptions(**options))


def body_of(path: ApiPath) -> RelayedRendering:
    form = FORMS[path](HEAD)
    return RelayedRendering(form, RenderOptions(), form.fold())


async def test_chunks_get_the_gateways_id_and_the_clients_model() -> None:
    answer = rendering("chat/completions")
    piece = Piece(b'{"object":"chat.completion.chunk","choices":[]}')
    rendered = await answer.add([Started("m"), piece, Complete()])
    assert rendered + await answer.ending() == (
        b'data: {"id":"chatcmpl-abcdefgh","created":7,"model":"asked",'
        b'"object":"chat.completion.chunk","choices":[]}\n\n'
        b"data: [DONE]\n\n"
    )
    assert answer.is_complete


async def test_a_chunk_without_members_is_json() -> None:
    ((_, chunk),) = events(await rendering("chat/completions").add([Piece(b"{}")]))
    assert chunk == {"id": HEAD.id, "created": 7, "model": "asked"}


@pytest.mark.parametrize("asked", [True, False])
async def test_the_usage_is_for_clients_that_asked(asked: bool) -> None:
    answer = rendering("chat/completions", include_usage=asked)
    rendered = await answer.add([Piece(b'{"choices":[]}'), Complete(b'{"usage":{}}')])
    assert (b'"usage"' in rendered) == asked


@pytest.mark.parametrize(
    ("path", "name", "data", "shown"),
    [
        ("messages", "message_start", STARTED, "message"),
        ("responses", "response.created", b'{"response":{"id":"r","model":"q"}}', "response"),
        ("responses", "response.completed", b'{"response":{"id":"r","model":"q"}}', "response"),
    ],
)
async def test_the_model_has_the_clients_name_in_every_dialect(
    path: ApiPath, name: str, data: bytes, shown: str
) -> None:
    ((_, streamed),) = events(await rendering(path).add([Piece(data, name)]))
    assert streamed[shown]["model"] == "asked"
    if name != "response.created":
        whole = body_of(path)
        await whole.add([Piece(data, name), Complete()])
        assert json.loads(await whole.whole())["model"] == "asked"


async def test_a_body_that_is_not_streamed_has_the_clients_name_of_the_model() -> None:
    embedded = body_of("embeddings")
    await embedded.add([Piece(b'{"data": [1.50], "model": "q"}'), Complete()])
    assert await embedded.whole() == b'{"data":[1.50],"model":"asked"}'


@pytest.mark.parametrize(
    "data", [b'{ "message": {"model": "asked"}}', b'{ "message": {}}', b"{}", b"[1]", b"{", b"\xff"]
)
def test_whatever_has_no_other_name_stays_as_the_server_wrote_it(data: bytes) -> None:
    assert with_model(data, "asked", "message") == data


async def test_events_of_other_dialects_are_as_the_server_wrote_them() -> None:
    answer = rendering("messages")
    pieces: list[Event] = [Piece(b'{"type": "x",\n"a":1}', "x"), Complete()]
    rendered = await answer.add(pieces) + await answer.ending()
    assert rendered == b'event: x\ndata: {"type": "x",\ndata: "a":1}\n\n'


async def test_a_client_that_resumes_gets_the_rest_with_the_same_numbers() -> None:
    pieces: list[Event] = [Piece(b'{"n":%d}' % number) for number in range(4)]
    all_of_it = await rendering("chat/completions", numbered=True).add(pieces)
    rest = await rendering("chat/completions", numbered=True, resume_after=2).add(pieces)
    assert b"\nid: abcdefgh-1\n" in all_of_it
    assert all_of_it.endswith(rest)
    assert rest.count(b"data: ") == 2


PLACE = QueuePlace(3, 9)


def events(rendered: bytes) -> list[tuple[str, Any]]:
    """The names and the data of some messages."""
    found = []
    for message in rendered.decode().split("\n\n")[:-1]:
        lines = dict(line.split(": ", 1) for line in message.split("\n"))
        found.append((lines.get("event", ""), json.loads(lines["data"])))
    return found


@pytest.mark.parametrize(("path", "text"), [("chat/completions", "delta"), ("completions", "text")])
def test_a_waiting_client_gets_empty_chunks_with_its_place(path: ApiPath, text: str) -> None:
    ((_, chunk),) = events(rendering(path).empty_delta(PLACE))
    assert (chunk["id"], chunk["model"]) == (HEAD.id, HEAD.model)
    assert chunk["queue"] == {"position": 3, "eta": 9}
    assert chunk["choices"][0][text] in ({"content": ""}, "")  # no role: the server will send it


def test_a_waiting_client_of_messages_gets_pings() -> None:
    expected = {"type": "ping", "queue": {"position": 3, "eta": 9}}
    assert events(rendering("messages").empty_delta(PLACE)) == [("ping", expected)]


async def test_a_response_has_one_id_so_its_waiting_client_gets_comments() -> None:
    answer = rendering("responses")
    assert answer.empty_delta(PLACE) == b": queued position=3 eta=9\n\n"
    created = b'{"type":"response.created","response":{"id":"resp_theirs"}}'
    assert created in await answer.add([Piece(created, "response.created")])
    ((name, event),) = events(answer.empty_delta(None))
    assert (name, event["response"]["id"]) == ("response.in_progress", "resp_theirs")
    assert event["sequence_number"] == 0


@pytest.mark.parametrize("path", ["chat/completions", "completions", "responses", "messages"])
def test_a_comment_is_a_keep_alive_in_every_dialect(path: ApiPath) -> None:
    assert rendering(path).comment(PLACE) == b": queued position=3 eta=9\n\n"


async def test_an_error_in_the_middle_has_the_form_of_the_dialect() -> None:
    shown = {"message": "It broke.", "type": "server_error", "param": "x", "code": "boom"}
    chat = rendering("chat/completions")
    assert events(await chat.add([FAILED])) == [("", {"error": shown})]
    assert not chat.is_complete
    assert chat.failure is not None
    (message,) = events(await rendering("messages").add([FAILED]))
    error = {"type": "server_error", "message": "It broke."}
    assert message == ("error", {"type": "error", "error": error})
    error_event, failed = events(await rendering("responses").add([FAILED]))
    assert error_event[0] == "error"
    assert error_event[1]["error"] == shown
    assert failed[0] == "response.failed"
    assert failed[1]["response"]["error"]["message"] == "It broke."


async def test_an_error_is_also_text_if_the_operator_wants_it() -> None:
    answer = rendering("chat/completions", errors_as_text=True)
    await answer.add([Piece(b'{"choices":[]}')])
    (_, text), (_, error) = events(await answer.add([FAILED]))
    assert text["choices"][0]["delta"]["content"] == "\n\nError: It broke."
    assert "error" in error


async def test_a_whole_answer_always_has_its_usage() -> None:
    answer = body_of("chat/completions")
    piece = Piece(b'{"object":"chat.completion.chunk","choices":[{"delta":{"content":"a"}}]}')
    assert await answer.add([piece, Complete(b'{"choices":[],"usage":{"total_tokens":1}}')]) == b""
    body = json.loads(await answer.whole())
    assert (body["id"], body["created"], body["model"]) == (HEAD.id, 7, "asked")
    assert body["usage"] == {"total_tokens": 1}


async def test_the_body_of_embeddings_is_that_of_the_server() -> None:
    answer = body_of("embeddings")
    await answer.add([Piece(b'{"data": []}'), Complete()])
    assert await answer.whole() == b'{"data": []}'


async def test_a_whole_answer_that_cannot_be_read_fails() -> None:
    answer = body_of("chat/completions")
    await answer.add([Piece(b"<html>")])
    assert answer.failure is not None
    assert answer.failure.http_status == 502


async def test_a_whole_answer_has_a_limit_and_a_stream_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.relayed.rendering.MAX_FOLDED", 5000)
    pieces: list[Event] = [Piece(b'{"choices":[]}' + b" " * 2000)]
    whole, stream = body_of("chat/completions"), rendering("chat/completions")
    failures = []
    for _ in range(3):
        await whole.add(pieces)
        await stream.add(pieces)
        failures.append((whole.failure and whole.failure.code, stream.failure))
    assert failures == [(None, None), (None, None), ("answer_too_long", None)]


async def test_an_error_as_text_has_an_item_or_block_of_its_own() -> None:
    response = rendering("responses", errors_as_text=True)
    created = Piece(b'{"response":{"id":"r"}}', "response.created")
    await response.add([created, Piece(b"{}", "response.output_item.added")])
    added, part, delta, error, failed = events(await response.add([FAILED]))
    assert [one[1]["sequence_number"] for one in (added, part, delta, error, failed)] == [
        *range(2, 7)
    ]
    assert (added[1]["output_index"], delta[1]["delta"]) == (1, "\n\nError: It broke.")
    message = rendering("messages", errors_as_text=True)
    await message.add([Piece(b"{}", "message_start"), Piece(b"{}", "content_block_start")])
    stop, start, text, _ = events(await message.add([FAILED]))
    assert (stop[1]["index"], start[1]["index"], text[1]["index"]) == (0, 1, 1)
    assert text[1]["delta"] == {"type": "text_delta", "text": "\n\nError: It broke."}


@pytest.mark.parametrize("path", ["responses", "messages"])
async def test_an_error_before_the_servers_first_event_is_no_text(path: ApiPath) -> None:
    answer = rendering(path, errors_as_text=True)
    answer.empty_delta(None)
    assert b"delta" not in await answer.add([FAILED])
