"""Tokens of a job: as its server tells them, or else counted from its request and its answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wire import VERSION
from wire.events import Break, Complete, Delta, Done, Event, Failed, Piece, Started
from wire.jobs import ApiPath, ChatJob, Message, Offloaded, RelayedJob
from wire.line.usage import Tokens
from wire.tokens import job as of_jobs
from wire.tokens.job import JobTokens
from wire.tokens.text import count

LOST = Failed("gateway_error", "lost")


def piece(name: str = "", **members: Any) -> Piece:
    return Piece(json.dumps(members).encode(), name)


def relayed(path: ApiPath = "chat/completions", **body: Any) -> RelayedJob:
    return RelayedJob(VERSION, "job", path, "model", "key", json.dumps(body).encode())


async def used(
    job: ChatJob | RelayedJob, *events: Event, ending: Done | Complete | Failed
) -> Tokens:
    tokens = JobTokens(job)
    for event in events:
        tokens.add([event])
    return await tokens.count(ending)


async def test_a_chat_counts_as_openai_does_without_the_output_of_tools() -> None:
    job = ChatJob(VERSION, "job", "gpt_4_s", "bearer", [Message("user", "Tell me a story.")])
    said: list[Event] = [Delta("Once upon"), Break(), Delta("print(1)", "code")]
    said.append(Delta("1\n", "output"))
    expected = Tokens(3 + 3 + count("user\nTell me a story."), count("Once uponprint(1)"))
    assert await used(job, Started("m"), *said, ending=Done("stop")) == expected


CHUNK = piece(choices=[{"index": 0, "delta": {"role": "assistant", "content": "Hello there"}}])
TOLD = {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}
RESPONSE = {"id": "r", "output": [], "usage": {"input_tokens": 7, "output_tokens": 9}}
CACHED = {"input_tokens": 2, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 1}


@pytest.mark.parametrize(
    ("path", "events", "usage"),
    [
        ("chat/completions", [CHUNK], json.dumps({"choices": [], "usage": TOLD}).encode()),
        ("completions", [CHUNK, piece(choices=[{"text": "!"}], usage=TOLD)], b""),
        ("responses", [CHUNK, piece("response.completed", response=RESPONSE)], b""),
        (
            "messages",
            [
                piece("message_start", message={"usage": {**CACHED, "output_tokens": 1}}),
                *[CHUNK] * 5,
                piece("message_delta", delta={}, usage={"output_tokens": 9}),
                piece("message_stop", type="message_stop"),
            ],
            b"",
        ),
    ],
    ids=["chat", "completions", "responses", "messages"],
)
async def test_a_complete_answer_counts_as_its_server_tells(
    path: ApiPath, events: list[Event], usage: bytes
) -> None:
    asked = relayed(path, messages=[{"role": "user", "content": "x" * 1000}])
    assert await used(asked, *events, ending=Complete(usage)) == Tokens(7, 9)


@pytest.mark.parametrize(
    ("path", "events"),
    [
        ("chat/completions", [CHUNK, piece(choices=[{"delta": {"content": ", you"}}])]),
        ("completions", [piece(choices=[{"text": "Hello there"}, {"text": ", you"}])]),
        (
            "responses",
            [
                piece("response.output_text.delta", delta="Hello there"),
                piece("response.output_text.delta", delta=", you"),
                piece("response.output_text.done", text="Hello there, you"),
                piece("response.completed", response={"output": [{"text": "Hello there, you"}]}),
            ],
        ),
        (
            "messages",
            [
                piece("content_block_delta", delta={"type": "text_delta", "text": "Hello there"}),
                piece("content_block_delta", delta={"partial_json": ", you"}),
            ],
        ),
    ],
    ids=["chat", "completions", "responses", "messages"],
)
@pytest.mark.parametrize("ending", [Complete(), LOST], ids=["complete", "torn"])
async def test_texts_are_counted_if_the_server_tells_no_usage(
    path: ApiPath, events: list[Event], ending: Complete | Failed
) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9999}}
    content = [{"type": "text", "text": "Who is there?"}, picture]
    asked = relayed(path, messages=[{"role": "user", "content": content}], stream=True)
    counted = Tokens(count("Who is there?"), count("Hello there, you"))
    assert await used(asked, *events, ending=ending) == counted


async def test_of_a_torn_answer_the_number_told_at_its_beginning_is_not_all() -> None:
    start = piece("message_start", message={"usage": {"input_tokens": 7, "output_tokens": 1}})
    tokens = await used(relayed("messages"), start, *[CHUNK] * 9, ending=LOST)
    assert tokens == Tokens(7, count("Hello there" * 9))


async def test_embeddings_count_their_input_and_counts_of_tokens_nothing() -> None:
    body = piece(object="list", data=[{"embedding": [0.5] * 9}], usage={"prompt_tokens": 5})
    asked = relayed("embeddings", input=["one", "two"])
    assert await used(asked, body, ending=Complete()) == Tokens(5)
    bare = piece(object="list", data=[{"embedding": [0.5] * 9}])
    assert await used(asked, bare, ending=Complete()) == Tokens(count("one\ntwo"))
    counted = piece(input_tokens=5)
    asked = relayed("messages/count_tokens", messages=[{"content": "one"}])
    assert await used(asked, counted, ending=Complete()) == Tokens()


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"not json", b'{"usage": 1}', b"[" * 100_000),
        *(b'{"usage": {"prompt_tokens": %s}}' % number for number in (b'"x"', b"-1", b"1e18")),
        b'{"usage": {"completion_tokens": 99999999999999999999}}',
    ],
)
async def test_what_cannot_be_read_counts_nothing(data: bytes) -> None:
    asked = RelayedJob(VERSION, "job", "chat/completions", "model", "key", data)
    assert await used(asked, Piece(data), ending=Complete(data)) == Tokens()


async def test_what_is_kept_to_be_counted_is_bounded_and_the_rest_extrapolated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(of_jobs, "COUNTED", 1000)
    monkeypatch.setattr(of_jobs, "MAX_KEPT", 10 * len(CHUNK.data))
    words = Delta("word " * 100)
    job = ChatJob(VERSION, "job", "gpt_4_s", "bearer", [Message("user", words.text * 20)])
    tokens = await used(job, *[words] * 20, ending=Done("stop"))
    assert tokens.output == pytest.approx(2000, rel=0.01)
    assert tokens.input == pytest.approx(2000, rel=0.02)
    answer = await used(relayed(), *[CHUNK] * 500, ending=LOST)
    assert answer.output == pytest.approx(count("Hello there" * 500), rel=0.01)


async def test_a_request_that_is_still_in_the_store_is_estimated_by_its_size() -> None:
    stored = Offloaded(4000, "0" * 64, "key", 0)
    job = ChatJob(VERSION, "job", "gpt_4_s", "bearer", [], offloaded=stored)
    assert await used(job, Delta("Hi"), ending=LOST) == Tokens(1000, 1)


def test_the_tokens_so_far_are_told_without_counting_texts() -> None:
    tokens = JobTokens(ChatJob(VERSION, "job", "gpt_4_s", "bearer", []))
    tokens.add([Delta("x" * 90), Delta("y" * 10), Delta("z" * 50, "output")])
    assert tokens.so_far == 25
    tokens = JobTokens(relayed())
    assert tokens.so_far == 0
    tokens.add([CHUNK])
    tokens.add([CHUNK, CHUNK])
    assert tokens.so_far == 3
