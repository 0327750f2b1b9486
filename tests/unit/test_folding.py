"""Streams of servers, folded into one body."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.relayed.folding import (
    ChunkFold,
    Fold,
    MessageFold,
    ResponseFold,
    UnreadableAnswer,
)
from wire.events import Piece
from workers.http.sse import EventParser

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "recorded-openai"
HEAD = {"id": "chatcmpl-1", "created": 1, "model": "asked"}


def folded(pieces: Iterable[Piece], fold: Fold | None = None) -> Any:
    fold = fold or ChunkFold(HEAD)
    for piece in pieces:
        fold.add(piece)
    return json.loads(fold.body())


def chunk(*choices: dict[str, object], **more: object) -> Piece:
    body = {"object": "chat.completion.chunk", "choices": choices, **more}
    return Piece(json.dumps(body).encode())


def delta(index: int = 0, finish: str | None = None, **fields: object) -> dict[str, object]:
    return {"index": index, "delta": fields, "finish_reason": finish}


def test_texts_are_joined_and_the_form_is_that_of_a_whole_answer() -> None:
    body = folded(
        [
            chunk(delta(role="assistant", content=None)),
            chunk(delta(role="assistant", content="Hel", reasoning="I ")),
            chunk(delta(content="lo", reasoning="think")),
            chunk(delta(finish="stop"), system_fingerprint="fp"),
            chunk(usage={"total_tokens": 3}, timings={"n": 2}),
        ]
    )
    message = {"role": "assistant", "content": "Hello", "reasoning": "I think"}
    assert body == {
        **HEAD,
        "object": "chat.completion",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "system_fingerprint": "fp",
        "usage": {"total_tokens": 3},
        "timings": {"n": 2},
    }


def test_choices_are_apart_and_in_order() -> None:
    body = folded(
        [
            chunk(delta(1, content="b")),
            chunk(delta(0, content="a"), delta(1, content="B")),
            chunk(delta(1, "length")),
            chunk(delta(0, "stop", content="A")),
        ]
    )
    texts = [(one["message"]["content"], one["finish_reason"]) for one in body["choices"]]
    assert texts == [("aA", "stop"), ("bB", "length")]


def call(index: int, id: str | None, arguments: str, **more: str) -> dict[str, object]:
    named = {"id": id, "type": "function"} if id else {}
    return {"index": index, **named, "function": {**more, "arguments": arguments}}


def whole_call(id: str, name: str, arguments: str) -> dict[str, object]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_calls_are_merged_by_their_index() -> None:
    body = folded(
        [
            chunk(delta(role="assistant", content=None)),
            chunk(delta(content=None, tool_calls=[call(0, "a", "{", name="f")])),
            chunk(delta(tool_calls=[call(1, "b", "[", name="g")])),
            chunk(delta(tool_calls=[call(0, None, "}"), call(1, None, "]")])),
            chunk(delta(finish="tool_calls")),
        ]
    )
    message = body["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [whole_call("a", "f", "{}"), whole_call("b", "g", "[]")]


def test_calls_with_the_same_index_but_ids_of_their_own_are_several() -> None:
    body = folded(
        [
            chunk(delta(tool_calls=[call(0, "a", "1", name="f")])),
            chunk(delta(tool_calls=[call(0, "b", "2", name="f")])),
        ]
    )
    calls = body["choices"][0]["message"]["tool_calls"]
    assert calls == [whole_call("a", "f", "1"), whole_call("b", "f", "2")]


def test_logprobs_are_appended_and_unknown_fields_are_kept() -> None:
    logprobs = [{"content": [{"token": text, "bytes": [1]}], "refusal": None} for text in "ab"]
    body = folded(
        [
            chunk({**delta(content="a"), "logprobs": logprobs[0], "eos": None}, later=1),
            chunk({**delta(content="b"), "logprobs": logprobs[1], "eos": "x"}, later=2),
            chunk({**delta(finish="stop"), "logprobs": None}),
        ]
    )
    (choice,) = body["choices"]
    tokens = [{"token": "a", "bytes": [1]}, {"token": "b", "bytes": [1]}]
    assert choice["logprobs"] == {"content": tokens, "refusal": None}
    assert (choice["eos"], body["later"]) == ("x", 2)


def test_a_finish_that_the_server_did_not_say_is_null() -> None:
    (choice,) = folded([chunk({"delta": {"content": "a"}})])["choices"]
    assert choice["finish_reason"] is None


def test_a_character_that_a_server_cut_in_two_is_whole() -> None:
    halves = [
        rb'{"choices":[{"delta":{"content":"\ud83d"}}]}',
        rb'{"choices":[{"delta":{"content":"\ude00"}}]}',
    ]
    body = folded(Piece(half) for half in halves)
    assert body["choices"][0]["message"]["content"] == "😀"


HALF: dict[str, Any] = {"\ud83d": ["\ud83d", {"x": "\ude00"}], "name": "\ud83d"}
REPAIRED = {"\ufffd": ["\ufffd", {"x": "\ufffd"}], "name": "\ufffd"}


def test_half_characters_are_replaced_wherever_they_are() -> None:
    many = [HALF] * 20
    body = folded([chunk({**delta(**HALF), "logprobs": {"content": many}}, **HALF)])
    (choice,) = body["choices"]
    assert body["name"] == "\ufffd"
    assert body["\ufffd"] == REPAIRED["\ufffd"]
    assert choice["message"] == {"role": "assistant", "content": "", **REPAIRED}
    assert choice["logprobs"]["content"] == [REPAIRED] * 20
    assert folded([event("message_start", message=HALF)], MessageFold("asked"))["name"] == "\ufffd"
    assert folded([event("response.completed", response=HALF)], ResponseFold("asked")) == REPAIRED


@pytest.mark.parametrize("number", [0, 1, 15, 16, 17, 33])
def test_lists_of_any_length_are_whole(number: int) -> None:
    items = [{"a": [], "b": {}, "c": [[1]], "d": "é\n"} for _ in range(number)]
    value = {"items": items, "n": 2**70, "f": 1.5, "none": None}
    assert folded([event("response.completed", response=value)], ResponseFold("asked")) == value


def test_calls_without_an_index_are_whole() -> None:
    calls = [whole_call("a", "f", "1"), whole_call("b", "f", "2")]
    body = folded([chunk(delta(tool_calls=[one])) for one in calls])
    assert body["choices"][0]["message"]["tool_calls"] == calls


def test_a_long_answer_is_folded() -> None:
    pieces = [chunk(delta(content="0123456789"))] * 100_000  # copying the text each time: 50 GB
    assert len(folded(pieces)["choices"][0]["message"]["content"]) == 1_000_000


@pytest.mark.parametrize(
    "data",
    [
        b"no json",
        b"[]",
        b'{"choices":[1]}',
        b'{"choices":[{"index":[]}]}',
        b'{"choices":[{"delta":[]}]}',
        b'{"choices":[{"text":1}]}',
        b'{"choices":[{"delta":{"tool_calls":["x"]}}]}',
    ],
)
def test_pieces_that_are_no_chunks_are_refused(data: bytes) -> None:
    with pytest.raises(UnreadableAnswer):
        folded([Piece(data)])


def event(type: str, **fields: object) -> Piece:
    return Piece(json.dumps({"type": type, **fields}).encode(), type)


def test_a_message_has_its_blocks_and_its_usage() -> None:
    def start(index: int, **block: object) -> Piece:
        return event("content_block_start", index=index, content_block=block)

    def more(index: int, **delta: object) -> Piece:
        return event("content_block_delta", index=index, delta=delta)

    usage = {"input_tokens": 5, "output_tokens": 0}
    begun: dict[str, object] = {
        "id": "msg_1",
        "type": "message",
        "content": [],
        "stop_reason": None,
        "usage": usage,
    }
    body = folded(
        [
            event("message_start", message=begun),
            start(0, type="thinking", thinking=""),
            more(0, type="thinking_delta", thinking="a"),
            more(0, type="signature_delta", signature="s"),
            start(1, type="text", text=""),
            event("ping"),
            more(1, type="text_delta", text="b"),
            more(1, type="text_delta", text="c"),
            more(1, type="citations_delta", citation={"cited_text": "x"}),
            start(2, type="tool_use", id="t", name="f", input={}),
            more(2, type="input_json_delta", partial_json='{"a"'),
            more(2, type="input_json_delta", partial_json=":1}"),
            event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 9}),
            event("message_stop"),
        ],
        MessageFold("asked"),
    )
    assert body == {
        **begun,
        "content": [
            {"type": "thinking", "thinking": "a", "signature": "s"},
            {"type": "text", "text": "bc", "citations": [{"cited_text": "x"}]},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 5, "output_tokens": 9},
    }


@pytest.mark.parametrize("name", ["response.completed", "response.incomplete"])
def test_a_response_is_that_of_its_last_event(name: str) -> None:
    events = [event("response.created", response={"id": "r"}), event(name, response={"id": "r2"})]
    assert folded(events, ResponseFold("asked")) == {"id": "r2"}


@pytest.mark.parametrize("fold", [ResponseFold("asked"), MessageFold("asked")])
def test_an_answer_without_its_end_is_refused(fold: Fold) -> None:
    with pytest.raises(UnreadableAnswer):
        folded([event("response.created", response={"id": "r"})], fold)


def recorded(name: str) -> bytes:
    """Return the body of a recorded answer."""
    path = RECORDED / f"{name}.response"
    if not path.is_file():
        pytest.skip(f"the recordings are not part of this repository, and {path} is not here")
    head, _, rest = path.read_bytes().partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" not in head.lower():
        return rest
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body


def recorded_pieces(name: str) -> Iterable[Piece]:
    for message in EventParser().feed(recorded(name)):
        if message.data != b"[DONE]":
            yield Piece(bytes(message.data), message.event)


def keys(value: object) -> object:
    """The keys of a value that are not null, at every level; its usage apart."""
    match value:
        case dict():
            return {key: keys(item) for key, item in value.items() if item not in (None, "")}
        case list():
            return [keys(item) for item in value[:1]]
    return ...


@pytest.mark.parametrize(
    ("stream", "whole", "fold"),
    [
        ("llama.cpp/stream-usage", "llama.cpp/whole", ChunkFold({})),
        ("llama.cpp/stream-n2", "llama.cpp/whole-n2", ChunkFold({})),
        ("llama.cpp/stream-logprobs", "llama.cpp/whole-logprobs", ChunkFold({})),
        (
            "llama.cpp/qwen3-template-reasoning-stream",
            "llama.cpp/qwen3-template-reasoning-whole",
            ChunkFold({}),
        ),
        (
            "llama.cpp/tiny-tools-required-stream",
            "llama.cpp/tiny-tools-required-whole",
            ChunkFold({}),
        ),
        ("llama.cpp/completions-stream", "llama.cpp/completions-whole", ChunkFold({})),
        ("llama.cpp/messages-stream", "llama.cpp/messages-whole", MessageFold("asked")),
        ("llama.cpp/responses-stream", "llama.cpp/responses-whole", ResponseFold("asked")),
        ("vllm/stream-usage", "vllm/whole", ChunkFold({})),
        ("vllm/stream-logprobs", "vllm/whole-logprobs", ChunkFold({})),
        ("vllm/stream-tools-required", "vllm/whole-tools-required", ChunkFold({})),
        ("mlx-lm/stream-usage", "mlx-lm/whole", ChunkFold({})),
    ],
)
def test_recorded_streams_have_the_keys_of_the_servers_whole_answers(
    stream: str, whole: str, fold: Fold
) -> None:
    got = folded(recorded_pieces(stream), fold)
    own = msgspec.json.decode(recorded(whole))
    # Recorded without usage, or only in the whole answer.
    optional = ("usage", "timings", "completed_at")
    for body in (got, own):
        for key in optional:
            body.pop(key, None)
    assert keys(got) == keys(own)
