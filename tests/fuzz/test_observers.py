"""Answers of OpenAI-compatible servers, as a worker observes them in every dialect."""

from __future__ import annotations

import json

import msgspec
from hypothesis import strategies as st

from app.openai.errors import JobFailed
from tests.support.fuzzing import PLACES, Json, bodies, cut, encoded, fuzzed
from tests.support.work import lines_of_code
from wire.events import Batch, Complete, Event, Failed, Piece, Started, decode_frame, encode_frame
from wire.jobs import ApiPath
from workers.openai.answer import MAX_HELD, Answer
from workers.openai.dialects import dialect_of
from workers.openai.judgement import Refusal
from workers.openai.survey import (
    read_models,
    read_props,
    read_server_info,
    read_tabby_model,
)
from workers.openai.whole_answer import read_whole
from workers.upstream import UpstreamBusy, UpstreamError

SECRET = "sk-secret-of-the-operator"


def _chunk(*choices: Json, **more: Json) -> Json:
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "llama"}
    return {**head, "choices": list(choices), **more}


def _delta(index: int = 0, finish: str | None = None, **delta: Json) -> Json:
    return {"index": index, "delta": delta, "finish_reason": finish, "logprobs": None}


_CALL = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}}
_USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
CHUNKS: list[Json] = [
    _chunk(_delta(role="assistant", content="")),
    _chunk(_delta(content="Hel")),
    _chunk(_delta(content="lo \u2028🙂"), _delta(1, content="Hi")),
    _chunk(_delta(reasoning_content="hm")),
    _chunk(_delta(tool_calls=[_CALL])),
    _chunk(_delta(tool_calls=[{"index": 0, "function": {"arguments": "}"}}])),
    _chunk(_delta(content="\ud83d")),
    _chunk(_delta(finish="stop")),
    _chunk(_delta(1, finish="length"), _delta(finish="tool_calls")),
    _chunk(_delta(finish="error")),
    _chunk(usage=_USAGE, timings={"n": 1.5}),
    {"error": {"message": f"bad key {SECRET}", "type": "server_error", "code": 500}},
    {"object": "error", "message": "loading", "code": 503},
]
TEXTS: list[Json] = [
    _chunk({"index": 0, "text": "Hel", "finish_reason": None}),
    _chunk({"index": 1, "text": "lo", "logprobs": {"tokens": ["lo"]}, "finish_reason": None}),
    _chunk({"index": 0, "text": "", "finish_reason": "stop"}),
    _chunk({"text": "x", "finish_reason": "length"}, usage=_USAGE),
    {"error": "text"},
]
_RESPONSE: Json = {
    "id": "resp_1",
    "object": "response",
    "model": "llama",
    "output": [],
    "error": None,
}
RESPONSE_EVENTS: list[Json] = [
    {"type": "response.created", "sequence_number": 0, "response": _RESPONSE},
    {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message"}},
    {"type": "response.output_text.delta", "output_index": 0, "delta": "Hel"},
    {"type": "response.output_text.done", "text": "Hello"},
    {"type": "response.completed", "response": {**_RESPONSE, "status": "completed"}},
    {"type": "response.incomplete", "response": _RESPONSE},
    {"type": "response.failed", "response": {**_RESPONSE, "error": {"code": "x", "message": "y"}}},
    {"type": "error", "code": "server_error", "message": SECRET},
]
MESSAGE_EVENTS: list[Json] = [
    {"type": "message_start", "message": {"id": "msg_1", "model": "claude", "content": []}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
    {
        "type": "content_block_start",
        "index": 1,
        "content_block": {"type": "tool_use", "id": "a", "name": "f", "input": {}},
    },
    {
        "type": "content_block_delta",
        "index": 1,
        "delta": {"type": "input_json_delta", "partial_json": "{}"},
    },
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
    {"type": "ping"},
    {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}},
]
STREAMED: dict[ApiPath, list[Json]] = {
    "chat/completions": CHUNKS,
    "completions": TEXTS,
    "responses": RESPONSE_EVENTS,
    "messages": MESSAGE_EVENTS,
}
PATHS = st.sampled_from(list(STREAMED))


@st.composite
def streams(draw: st.DrawFn, path: ApiPath) -> bytes:
    """A stream of a server: most of its messages as they should be, some damaged."""
    samples = STREAMED[path]
    whole = st.sampled_from(samples)
    event = st.one_of(
        whole.map(lambda one: _sse(encoded(one), one)),
        bodies(samples).map(lambda data: _sse(data, {})),
        st.sampled_from([b"data: [DONE]\n\n", b": c\n\n", b"event: ping\ndata: x\n\n", b"{"]),
    )
    return b"".join(draw(st.lists(event, max_size=10)))


def _sse(data: bytes, one: Json) -> bytes:
    name = one.get("type", "") if isinstance(one, dict) else ""
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + data.replace(b"\n", b" ").replace(b"\r", b" ") + b"\n\n"


def observed(path: ApiPath, reads: list[bytes], choices: int = 1) -> tuple[list[Event], Answer]:
    """The events of an answer, and its state at the end."""
    answer = Answer(dialect_of(path, choices), "asked", [SECRET])
    events: list[Event] = []
    for read in [*reads, b""]:
        if not answer.over:
            events += answer.feed(read) or []
    return events, answer


def check_refusal(refusal: Refusal) -> None:
    """Check the failure of an answer as its client may get it."""
    match refusal:
        case UpstreamBusy():
            assert 0 <= refusal.pause <= 86_400
        case UpstreamError():
            failed = refusal.failed
            failure = JobFailed(failed)
            assert 400 <= failure.http_status < 600
            assert msgspec.json.encode(failure.object)
            assert SECRET not in str(failed)
            assert len(failed.message) <= 4000
            assert len(failed.code or "") <= 200
            assert len(failed.kind or "") <= 200


@fuzzed(PATHS, st.data(), PLACES)
def test_an_answer_is_observed_the_same_however_it_is_cut(
    path: ApiPath, data: st.DataObject, places: list[int]
) -> None:
    stream = data.draw(streams(path))
    events, answer = observed(path, [stream])
    in_pieces, again = observed(path, cut(stream, places))
    assert in_pieces == events
    assert (again.ending, str(again.failure)) == (answer.ending, str(answer.failure))


@fuzzed(PATHS, st.data(), st.integers(1, 3))
def test_an_answer_has_one_ending_and_its_failure_shows_no_secret(
    path: ApiPath, data: st.DataObject, choices: int
) -> None:
    events, answer = observed(path, [data.draw(streams(path))], choices)
    assert (answer.ending is None) != (answer.failure is None)
    assert [one for one in events if isinstance(one, Complete)] == [answer.ending] * (
        answer.ending is not None
    )
    assert not events or isinstance(events[0], Started)
    assert answer.begun == bool(events)
    assert not any(isinstance(one, Failed) for one in events)
    assert answer._held_bytes < MAX_HELD + 5_000_000
    if answer.failure is not None:
        check_refusal(answer.failure)
    (batch,) = decode_frame(encode_frame([Batch("id", 1, 0, events)]))
    assert batch.events == events


@fuzzed(PATHS, st.data())
def test_pieces_are_json_for_clients_if_they_were_json(path: ApiPath, data: st.DataObject) -> None:
    stream = b"".join(
        _sse(encoded(one), one)
        for one in data.draw(st.lists(st.sampled_from(STREAMED[path]), max_size=12))
    )
    for one in observed(path, [stream])[0]:
        if isinstance(one, Piece):
            assert isinstance(json.loads(one.data), dict)


@fuzzed(PATHS, st.data())
def test_the_work_is_in_proportion_to_the_answer(path: ApiPath, data: st.DataObject) -> None:
    stream = data.draw(streams(path))
    assert lines_of_code(lambda: observed(path, [stream])) < 5_000 + 20 * len(stream)


@fuzzed(bodies([{"model": "e", "data": [{"embedding": [0.5]}]}, *CHUNKS[-2:]]))
def test_a_whole_answer_is_read_or_refused(body: bytes) -> None:
    try:
        events = read_whole(body, "asked", [SECRET])
    except (UpstreamBusy, UpstreamError) as refusal:
        check_refusal(refusal)
        return
    assert [type(one) for one in events] == [Started, Piece, Complete]


_PAGES: list[Json] = [
    {"data": [{"id": "a", "aliases": ["b"]}, {"id": "c", "object": "model"}], "object": "list"},
    {"total_slots": 4, "role": "model"},
    {"max_running_requests": 8},
    {"parameters": {"max_batch_size": 2}},
]


@fuzzed(bodies(_PAGES))
def test_what_a_server_says_of_itself_is_read_or_left_out(body: bytes) -> None:
    names, left_out = read_models(body)
    assert left_out >= 0
    assert all(name.isprintable() and own.isprintable() for name, own in names.items())
    for read in (read_props, read_server_info, read_tabby_model):
        assert isinstance(read(body), int)
