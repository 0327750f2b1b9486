"""Streamed answers of OpenAI-compatible servers: begun, relayed, and ended truthfully."""

from __future__ import annotations

import json
from itertools import pairwise
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.recorded_openai import recording
from wire.events import Complete, Event, Failed, Piece, Started
from wire.jobs import ApiPath
from workers.http.sse import EventParser
from workers.openai.answer import MAX_HELD, Answer
from workers.openai.dialects import dialect_of
from workers.openai.error_object import TOO_LARGE, read_error
from workers.openai.judgement import judge
from workers.upstream import BROKEN_OFF, NO_ANSWER, UpstreamBusy, UpstreamError

CHAT: ApiPath = "chat/completions"
DONE = b"data: [DONE]\n\n"


def sse(data: object, name: str = "") -> bytes:
    event = f"event: {name}\n".encode() if name else b""
    return event + b"data: " + json.dumps(data).encode() + b"\n\n"


def chunk(delta: object = None, finish: str | None = None, index: int = 0, **more: object) -> bytes:
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish}
    return sse({"id": "theirs", "created": 1, "model": "m", "choices": [choice], **more})


def say(text: str, index: int = 0) -> bytes:
    return chunk({"content": text}, index=index)


ROLE = chunk({"role": "assistant", "content": None})
STOP = chunk(finish="stop")
USAGE = sse({"id": "theirs", "model": "m", "choices": [], "usage": {"total_tokens": 3}})
ERROR = sse({"error": {"message": "It broke.", "type": "server_error", "code": 500}})


def ask(
    *reads: bytes, path: ApiPath = CHAT, choices: int = 1, ends: bool = True
) -> tuple[list[Event], Answer]:
    answer = Answer(dialect_of(path, choices), "asked", ("http://10.0.0.7:8080",))
    events: list[Event] = []
    for read in [*reads, b""] if ends else reads:
        events += [] if answer.over else answer.feed(read) or []
    if answer.ending is not None:
        assert events.pop() is answer.ending
    assert not any(isinstance(event, Started) for event in events[1:])
    return events, answer


def failed(answer: Answer) -> Failed:
    assert answer.ending is None
    assert isinstance(answer.failure, UpstreamError)
    return answer.failure.failed


def pieces(events: list[Event]) -> list[object]:
    return [json.loads(event.data) for event in events if isinstance(event, Piece)]


def text(events: list[Event]) -> str:
    deltas = [choice["delta"] for piece in pieces(events) for choice in piece["choices"]]  # type: ignore[index]  # JSON
    return "".join(delta.get("content") or "" for delta in deltas)


# The table of endings, in its order.


def test_an_error_message_fails_the_answer_whatever_follows() -> None:
    for tail in (b"", DONE, STOP + DONE):
        events, answer = ask(ROLE + say("a") + ERROR + tail)
        assert text(events) == "a"
        assert failed(answer) == Failed(
            "upstream_error", "It broke.", "upstream_error", kind="server_error"
        )
    _, answer = ask(say("a") + STOP + ERROR + DONE)
    assert failed(answer).message == "It broke."


@pytest.mark.parametrize("tail", [DONE, b""])
def test_a_finish_and_the_end_complete_an_answer(tail: bytes) -> None:
    events, answer = ask(ROLE + say("a") + STOP + tail)
    assert events[0] == Started("m")
    assert len(events) == 4
    assert answer.ending == Complete()
    assert not answer.unfinished


@pytest.mark.parametrize("reason", ["error", "abort"])
def test_some_finishes_are_failures(reason: str) -> None:
    events, answer = ask(say("a") + chunk(finish=reason) + DONE)
    assert text(events) == "a"
    assert failed(answer).fault == "upstream_error"
    with_error = chunk(finish="error", error={"message": "Provider is down.", "code": 502})
    assert failed(ask(say("a") + with_error + DONE)[1]).message == "Provider is down."


def test_done_without_a_finish_completes_what_was_said_and_is_noticed() -> None:
    events, answer = ask(say("a") + DONE)
    assert text(events) == "a"
    assert answer.ending == Complete()
    assert answer.unfinished


@pytest.mark.parametrize("stream", [DONE, ROLE + DONE, USAGE + DONE, chunk({"content": ""}) + DONE])
def test_done_without_anything_said_is_no_answer_and_may_be_tried_again(stream: bytes) -> None:
    events, answer = ask(stream)
    assert events == []
    assert failed(answer) == NO_ANSWER
    assert isinstance(answer.failure, UpstreamError)
    assert answer.failure.passing


def test_a_body_that_ends_without_finish_and_done_is_broken_off() -> None:
    for stream, passing in ((say("a"), False), (ROLE, True), (b"", True), (b": ping\n\n", True)):
        _, answer = ask(stream)
        assert failed(answer) == BROKEN_OFF
        assert isinstance(answer.failure, UpstreamError)
        assert answer.failure.passing is passing


def test_a_body_may_break_after_a_finish() -> None:
    events, answer = ask(say("a") + STOP + b'data: {"choices"')
    assert text(events) == "a"
    assert answer.finished
    assert answer.ending == Complete()


# The beginning.


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "a"},
        {"reasoning": "a"},
        {"reasoning_content": "a"},
        {"reasoning_details": [{"text": "a"}]},
        {"tool_calls": [{"index": 0, "id": "c"}], "content": None},
        {"refusal": "a"},
        {"audio": {"id": "a"}},
        {"function_call": {"name": "f"}},
    ],
)
def test_an_answer_begins_with_the_first_message_that_says_something(delta: object) -> None:
    answer = Answer(dialect_of(CHAT), "asked")
    for silent in (ROLE, sse({"choices": [], "prompt_progress": {}}), sse({}), chunk(delta={})):
        assert answer.feed(silent) == []
    events = answer.feed(chunk(delta))
    assert events is not None
    assert events[0] == Started("m")
    assert len(events) == 5  # those that were held back come first, in order, without `{}`
    assert pieces(events)[-1]["choices"][0]["delta"] == delta  # type: ignore[index]  # JSON


def test_a_finish_alone_begins_an_answer() -> None:
    events, answer = ask(chunk(finish="length") + DONE)
    assert len(events) == 2
    assert answer.ending == Complete()


def test_comments_and_pings_are_no_signs_of_life() -> None:
    answer = Answer(dialect_of("messages"), "asked")
    for nothing in (b": keep-alive\n\n", b"data:\n\n", sse({"type": "ping"}, "ping")):
        assert answer.feed(nothing) is None
    assert answer.feed(sse({"type": "content_block_stop"})) == []


def test_a_bounded_size_is_held_back() -> None:
    filler = {"role": "assistant", "content": "", "padding": "x" * (MAX_HELD // 4)}
    events, answer = ask(*[chunk(filler)] * 5, ends=False)
    assert answer.begun
    assert len(events) == 6


# The pieces.


@pytest.mark.parametrize(
    "content",
    [rb"\ud83d", rb"\uDE00x", rb"\\ud83d", rb"\ud83d\ude00\ud83d", "\ufffd".encode(), b"\xff"],
)
def test_members_that_the_front_end_replaces_are_left_out_and_others_stay(content: bytes) -> None:
    choices = b'"choices":[{"index":0,"delta":{"content":"%b","new":[ 1 ]},"x":{}}]' % content
    odd = b'{"id":"x","model":"m","created":1,"object":"o", "tomorrow" : 1.50,%b}' % choices
    events, answer = ask(b"data:" + odd + b"\r\n\r\n", ends=False)
    assert answer.failure is None
    assert events[1] == Piece(b'{"object":"o","tomorrow":1.50,%b}' % choices)


def test_usage_alone_is_told_by_the_ending_and_nothing_else_follows_a_finish() -> None:
    for usage in (USAGE, chunk(finish="stop", usage={"total_tokens": 3})):
        events, answer = ask(say("a") + STOP + say("late") + usage + DONE)
        assert len(events) == 3
        assert answer.ending is not None
        assert msgspec.json.decode(answer.ending.usage)["usage"] == {"total_tokens": 3}
        assert msgspec.json.decode(answer.ending.usage)["choices"] == []


def test_usage_in_every_message_stays_there() -> None:
    events, answer = ask(say("a") + chunk(finish="stop", usage={"total_tokens": 3}) + DONE)
    assert pieces(events)[-1]["usage"] == {"total_tokens": 3}  # type: ignore[index]  # JSON
    assert answer.ending == Complete()


def test_every_choice_that_was_asked_for_must_finish() -> None:
    half = say("a") + say("b", 1) + STOP
    events, answer = ask(
        half + say("late") + say("c", 1) + chunk(finish="stop", index=1), choices=2
    )
    assert answer.ending == Complete()
    assert text(events) == "abc"
    assert failed(ask(half, choices=2)[1]) == BROKEN_OFF
    assert failed(ask(say("a") + STOP, choices=2)[1]) == BROKEN_OFF
    assert failed(ask(half)[1]) == BROKEN_OFF  # more spoke than were asked for


@pytest.mark.parametrize(
    "message",
    [
        b'{"choices":[%b{}]}' % (b"{}," * 100_000),
        b'{"choices":[{"delta":{"content":[%b[]]}}]}' % (b"[]," * 100_000),
        b'{"a":1%b}' % b"".join(b',"%d":1' % number for number in range(100_000)),
    ],
)
def test_a_message_of_very_many_values_is_not_read(message: bytes) -> None:
    assert failed(ask(b"data: " + message + b"\n\n")[1]).message == TOO_LARGE


def test_an_error_of_any_size_is_read_within_bounds() -> None:
    huge = b'{"error":{"message":"%b"}}' % (b"x" * 1_000_000)
    for stream in (b"data: " + huge + b"\n\n", huge):
        assert len(failed(ask(say("a") + stream)[1]).message) < 100


@pytest.mark.parametrize("bad", [b"{", b"5", b'{"choices":5}', b'{"a":"\xff', b"[" * 60_000])
def test_a_message_that_is_not_json_breaks_the_answer_off(bad: bytes) -> None:
    events, answer = ask(say("a") + b"data: " + bad + b"\n\n" + say("b"))
    assert text(events) == "a"
    assert failed(answer).code == "answer_broken_off"
    assert len(failed(answer).message) < 200


# Errors in messages.


def test_the_first_message_may_be_an_error_and_its_code_counts_as_the_status() -> None:
    def first(**error: object) -> UpstreamError | UpstreamBusy:
        answer = ask(ROLE + sse({"error": error}) + DONE)[1]
        assert answer.failure is not None
        return answer.failure

    assert isinstance(first(message="The request queue is full.", code=503), UpstreamBusy)
    assert isinstance(first(message="Slow down.", code="429"), UpstreamBusy)
    refused = first(message="Not found", code=404)
    assert isinstance(refused, UpstreamError)
    assert refused.failed == Failed("bad_request", "Not found", "404", status=404)
    for odd in ({}, {"code": "x"}, {"code": 7}, {"code": True}):
        unknown = first(message="Broken.", **odd)
        assert isinstance(unknown, UpstreamError)
        assert (unknown.retries, unknown.doubtful, unknown.passing) == (1, True, True)


def test_a_flat_error_is_an_error() -> None:
    flat = sse({"object": "error", "message": "Aborted.", "code": 500})
    assert failed(ask(say("a") + flat)[1]).message == "Aborted."


def test_json_instead_of_a_stream_is_an_error_if_it_says_so() -> None:
    _, answer = ask(b'{"error":{"message":"Full.","code":429}}')
    assert isinstance(answer.failure, UpstreamBusy)
    assert failed(ask(b'{"a":')[1]) == BROKEN_OFF


def test_a_message_with_our_address_is_not_shown() -> None:
    leak = sse({"error": {"message": "no route to http://10.0.0.7:8080/v1", "type": "t"}})
    for stream in (leak, say("a") + leak):
        assert "10.0.0.7" not in repr(failed(ask(stream)[1]))


@pytest.mark.parametrize("before", range(30, 105))
def test_a_message_that_is_not_json_shows_no_part_of_our_address(before: int) -> None:
    bad = b"{" + b"x" * before + b"http://10.0.0.7:8080/v1"
    assert "http" not in failed(ask(say("a") + b"data: " + bad + b"\n\n")[1]).message


@pytest.mark.parametrize("empty", [{}, {"id": "x"}, {"id": "x", "created": 1, "model": "m"}])
def test_a_message_that_says_nothing_is_not_relayed(empty: object) -> None:
    events, answer = ask(ROLE + say("a") + sse(empty) + STOP + DONE)
    assert len(pieces(events)) == 3
    assert answer.ending == Complete()


# The other dialects.


def test_completions_speak_by_text() -> None:
    def line(text: str, finish: str | None = None) -> bytes:
        return sse({"id": "x", "choices": [{"index": 0, "text": text, "finish_reason": finish}]})

    events, answer = ask(line("") + line("a") + line("", "length") + DONE, path="completions")
    assert len(events) == 4
    assert events[0] == Started("asked")
    assert answer.ending == Complete()
    assert failed(ask(line("") + DONE, path="completions")[1]) == NO_ANSWER


def response(kind: str, **fields: object) -> bytes:
    return sse({"type": kind, **fields}, kind)


CREATED = response("response.created", response={"model": "theirs"})
ADDED = response("response.output_item.added", item={"type": "message"})
DELTA = response("response.output_text.delta", delta="a")
ENDED = response("response.completed", response={"model": "theirs", "usage": {}})


def test_responses_begin_with_a_delta_and_end_with_their_last_event() -> None:
    answer = Answer(dialect_of("responses"), "asked")
    assert answer.feed(CREATED + ADDED) == []
    events, answer = ask(CREATED + ADDED + DELTA + ENDED + DELTA, path="responses")
    assert events[0] == Started("theirs")
    assert [event.name for event in events if isinstance(event, Piece)] == [
        "response.created",
        "response.output_item.added",
        "response.output_text.delta",
        "response.completed",
    ]
    assert events[-1] == Piece(ENDED.partition(b"data: ")[2].strip(), "response.completed")
    assert answer.ending == Complete()


@pytest.mark.parametrize("tail", [b"", DONE])
def test_responses_without_their_last_event_are_broken_off(tail: bytes) -> None:
    assert failed(ask(CREATED + DELTA + tail, path="responses")[1]) == BROKEN_OFF


def test_responses_fail_by_an_event() -> None:
    error = {"code": "server_error", "message": "It broke."}
    for event in (
        response("response.failed", response={"error": error}),
        response("error", **error),
        sse({"error": error}),
    ):
        assert failed(ask(DELTA + event, path="responses")[1]).message == "It broke."
    assert failed(ask(DELTA + response("response.failed"), path="responses")[1]).message
    limited = {"code": "rate_limit_exceeded", "message": "Slow down."}
    first = response("response.failed", response={"error": limited})
    assert isinstance(ask(CREATED + first, path="responses")[1].failure, UpstreamBusy)


def block(kind: str, **fields: object) -> bytes:
    return sse({"type": kind, **fields}, kind)


MESSAGE = block("message_start", message={"model": "theirs"})
TEXT = block("content_block_start", index=0, content_block={"type": "text", "text": ""})
WORD = block("content_block_delta", index=0, delta={"type": "text_delta", "text": "a"})
REASON = block("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 1})
END = block("message_stop")


def test_messages_begin_with_content_and_end_with_message_stop() -> None:
    for silent in (MESSAGE, TEXT, block("content_block_delta", delta={"type": "t", "text": ""})):
        assert ask(silent, path="messages", ends=False)[0] == []
    call = block("content_block_start", content_block={"type": "tool_use", "name": "f"})
    for beginning in (WORD, call):
        events, answer = ask(MESSAGE + TEXT + beginning + REASON + END, path="messages")
        assert events[0] == Started("theirs")
        assert len(events) == 6
        assert events[-1] == Piece(b'{"type": "message_stop"}', "message_stop")
        assert answer.ending == Complete()


def test_messages_whose_end_is_missing_get_it_and_those_without_a_finish_are_broken_off() -> None:
    events, answer = ask(MESSAGE + WORD + REASON, path="messages")
    assert events[-1] == Piece(b'{"type":"message_stop"}', "message_stop")
    assert answer.ending == Complete()
    assert failed(ask(MESSAGE + WORD, path="messages")[1]) == BROKEN_OFF
    assert failed(ask(MESSAGE + END, path="messages")[1]) == NO_ANSWER


def test_messages_fail_by_an_event() -> None:
    error = block("error", error={"type": "overloaded_error", "message": "Overloaded"})
    assert failed(ask(WORD + error, path="messages")[1]).message == "Overloaded"
    assert isinstance(ask(MESSAGE + error, path="messages")[1].failure, UpstreamBusy)


# Recordings of real servers.

COMPLETE = [
    *("llama.cpp/stream", "llama.cpp/stream-usage", "llama.cpp/stream-timings-per-token"),
    *("llama.cpp/stream-logprobs", "llama.cpp/tiny-logprobs-utf8-stream"),
    *("llama.cpp/tiny-tools-required-stream", "llama.cpp/qwen3-template-reasoning-stream"),
    *("llama.cpp/completions-stream", "llama.cpp/context-full-in-the-middle"),
    *("llama.cpp/responses-stream", "llama.cpp/tiny-responses-tools-stream"),
    *("llama.cpp/messages-stream", "llama.cpp/tiny-messages-tools-stream"),
    *("llama.cpp/stream-n2", "llama.cpp-router/first-loads-alpha"),
    *("vllm/stream", "vllm/stream-usage", "vllm/stream-n2", "vllm/noreason-tools-named-stream"),
    *("vllm/keep-alive-while-waiting", "vllm/completions-stream"),
    *("vllm/responses-stream", "vllm/messages-stream"),
    *("mlx-lm/stream", "mlx-lm/stream-usage", "mlx-lm/stream-tools"),
    *("transformers-serve/stream", "transformers-serve/stream-usage"),
]


@pytest.mark.parametrize("name", COMPLETE)
def test_recorded_streams_are_complete_and_the_same_however_they_are_cut(name: str) -> None:
    recorded = recording(name)
    path = msgspec.convert(recorded.path, ApiPath)
    choices = json.loads(recorded.request).get("n", 1)
    events, answer = ask(recorded.body, path=path, choices=choices)
    assert isinstance(answer.ending, Complete)
    assert not answer.unfinished
    assert bool(answer.ending.usage) == (b'"choices":[],' in recorded.body.replace(b" ", b""))
    random, body = Random(name), recorded.body
    for size in (1, 7, 97, 1460):
        cut = [body[i : i + size] for i in range(0, len(body), size)]
        assert ask(*cut, path=path, choices=choices)[0] == events
    edges = [0, *sorted(random.sample(range(len(body)), 20)), len(body)]
    cut = [body[a:b] for a, b in pairwise(edges)]
    assert ask(*cut, path=path, choices=choices)[0] == events


@pytest.mark.parametrize("name", COMPLETE)
def test_recorded_streams_arrive_byte_for_byte(name: str) -> None:
    recorded = recording(name)
    path = msgspec.convert(recorded.path, ApiPath)
    choices = json.loads(recorded.request).get("n", 1)
    events, answer = ask(recorded.body, path=path, choices=choices)
    relayed = [event.data for event in events if isinstance(event, Piece)]
    assert answer.ending is not None
    relayed += [answer.ending.usage] if answer.ending.usage else []
    sent = [data for e in EventParser().feed(recorded.body) if (data := e.data) != b"[DONE]"]
    if path not in ("chat/completions", "completions"):
        assert relayed == sent
        return
    ours = ("id", "created", "model")
    for got, theirs in zip(relayed, sent, strict=True):
        members = msgspec.json.decode(theirs, type=dict[str, msgspec.Raw])
        expected = {key: bytes(raw) for key, raw in members.items() if key not in ours}
        relayed_members = msgspec.json.decode(got, type=dict[str, msgspec.Raw])
        assert {key: bytes(raw) for key, raw in relayed_members.items()} == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("llama.cpp/server-killed-in-the-middle", BROKEN_OFF.message),
        ("vllm/engine-killed-in-the-middle", "EngineCore encountered an issue."),
    ],
)
def test_recorded_streams_of_killed_servers_fail(name: str, message: str) -> None:
    events, answer = ask(recording(name).body)
    assert len(events) > 100
    assert failed(answer).message.startswith(message)


# Anything at all.

MEMBERS = [
    *("id", "model", "object", "choices", "usage", "error", "message", "code", "type", "detail"),
    *("index", "delta", "text", "finish_reason", "content", "tool_calls", "reasoning"),
    *("response", "content_block", "stop_reason", "loc", "msg", "param"),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(MEMBERS) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)
STREAMED = st.sampled_from(["chat/completions", "completions", "responses", "messages"])


@given(STREAMED, st.lists(JSON, max_size=5), st.booleans())
def test_any_json_gives_one_ending(path: ApiPath, values: list[object], done: bool) -> None:
    events, answer = ask(b"".join(map(sse, values)) + (DONE if done else b""), path=path)
    assert (answer.ending is None) != (answer.failure is None)
    assert answer.begun == bool(events)
    assert answer.ending is None or answer.begun


@given(STREAMED, st.binary())
def test_any_bytes_give_one_ending(path: ApiPath, stream: bytes) -> None:
    for prefix in (b"", b"data: "):
        _, answer = ask(prefix + stream + b"\n\n", path=path)
        assert (answer.ending is None) != (answer.failure is None)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()), st.integers(200, 600))
def test_any_error_is_judged(body: bytes, status: int) -> None:
    refusal = judge(status, read_error(body), path="completions")
    assert isinstance(refusal, UpstreamBusy) or refusal.failed.message
