"""Bodies of requests in every dialect: translated for Pandora, or relayed as they are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress

import msgspec
from hypothesis import strategies as st

import settings
from app.anthropic.errors import message_error, message_status
from app.anthropic.rendering import MESSAGES
from app.files.attachments import read_inline
from app.files.data_urls import DataUrlError
from app.idempotency import request_digest
from app.openai.chunks import CHATS
from app.openai.completions import COMPLETIONS
from app.openai.dialect import Dialect
from app.openai.emulation import emulate
from app.openai.errors import ApiError
from app.openai.messages import given_files, memory, to_messages
from app.openai.requests import ChatMessage, ChatRequest, decode_images
from app.openai.responses.rendering import RESPONSES
from app.relayed.requests import decode_relayed
from tests.support.fuzzing import Json, bodies, encoded, fuzzed
from wire import VERSION
from wire.jobs import (
    ApiPath,
    Attachment,
    ChatJob,
    Job,
    JsonAnswer,
    Message,
    RelayedJob,
    decode_job,
    encode_job,
)
from wire.seal import Seal
from wire.tokens.prompt import prompt_tokens, summarize_prompt
from workers.json_check import check_json
from workers.openai.request import prepare

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
FUNCTION = {"name": "f", "description": "d", "parameters": SCHEMA}
CUSTOM = {"name": "g", "format": {"type": "grammar", "grammar": {"syntax": "lark"}}}
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"a": "b"}'}}

_SAID: list[Json] = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": "hi"},
    {
        "role": "user",
        "name": "n",
        "content": [
            {"type": "text", "text": "t"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
            {"type": "image_url", "image_url": "https://example.com/a.png"},
            {"type": "file", "file": {"file_data": PNG, "filename": "a.png"}},
            {"type": "file", "file": {"file_data": "data:,x"}},
            {"type": "refusal", "refusal": "no"},
        ],
    },
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "r"}]},
    {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
    {"role": "function", "name": "f", "content": "r"},
    {"role": "assistant", "tool_calls": [{"id": "c", "custom": {"name": "g", "input": "i"}}]},
]
_ONE: Json = [{"role": "user", "content": "hi"}]
_MORE = {
    "user": "u",
    "service_tier": "flex",
    "stream": True,
    "stream_options": {"include_usage": True},
}
CHAT: list[Json] = [
    {"model": "gpt-4", "messages": _SAID, **_MORE, "stop": ["a", "b"], "max_tokens": 3},
    {
        "model": "gpt-4",
        "messages": _ONE,
        "tools": [
            {"type": "function", "function": FUNCTION},
            {"type": "custom", "custom": CUSTOM},
            {"type": "namespace", "name": "n", "tools": [{"type": "function", **FUNCTION}]},
            {"type": "web_search"},
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}},
    },
    {
        "model": "gpt-4",
        "messages": _ONE,
        "functions": [FUNCTION],
        "function_call": {"name": "f"},
        "n": 1,
        "logprobs": False,
        "modalities": ["text"],
    },
]
COMPLETION: list[Json] = [
    {"model": "m", "prompt": "p", **_MORE, "n": 1, "best_of": 1, "echo": False, "stop": "a"},
    {"model": "m", "prompt": ["p"], "logprobs": None, "suffix": None, "max_tokens": 3},
    {"model": "m", "prompt": [1, 2, 3], "n": 2, "n_cmpl": 2},
    {"model": "m", "prompt": [[1, 2], ["a"]], "id_slot": 1},
]
_ITEMS: list[Json] = [
    {"role": "user", "content": "hi"},
    {
        "type": "message",
        "role": "user",
        "content": [
            {"type": "input_text", "text": "t"},
            {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"},
            {"type": "input_file", "file_data": PNG, "filename": "a.png"},
            {"type": "input_file", "file_url": "https://example.com/a.pdf"},
        ],
    },
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "t"}]},
    {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}", "namespace": "n"},
    {"type": "function_call_output", "call_id": "a", "output": "r"},
    {"type": "custom_tool_call", "call_id": "b", "name": "g", "input": "i"},
    {"type": "custom_tool_call_output", "call_id": "b", "output": [{"type": "text", "text": "r"}]},
    {"type": "reasoning", "summary": []},
    {"type": "additional_tools", "tools": [{"type": "function", **FUNCTION}]},
    {"type": "item_reference", "id": "msg_1"},
]
RESPONSE: list[Json] = [
    {"model": "m", "input": "hi", "instructions": "be", **_MORE, "max_output_tokens": 9},
    {"model": "m", "input": _ITEMS, "store": False, "metadata": {"a": "b"}},
    {
        "model": "m",
        "input": [_ITEMS[0]],
        "tools": [
            {"type": "function", **FUNCTION},
            {"type": "custom", **CUSTOM},
            {"type": "namespace", "name": "n", "tools": [{"type": "custom", **CUSTOM}]},
        ],
        "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"name": "f"}]},
        "text": {"format": {"type": "json_schema", "name": "s", "schema": SCHEMA}},
        "previous_response_id": None,
        "safety_identifier": "u",
    },
]
_BLOCKS: list[Json] = [
    {"type": "text", "text": "t"},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
    {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
    {"type": "document", "title": "d", "source": {"type": "text", "data": "plain"}},
    {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "t"}]}},
    {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "r"}]},
    {"type": "tool_result", "tool_use_id": "a", "content": "r", "is_error": True},
]
MESSAGE: list[Json] = [
    {
        "model": "claude",
        "max_tokens": 9,
        "system": [{"type": "text", "text": "s"}],
        "messages": [
            {"role": "user", "content": "hi"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "h", "signature": "s"},
                    {"type": "text", "text": "t"},
                    {"type": "tool_use", "id": "a", "name": "f", "input": {"a": "b"}},
                ],
            },
            {"role": "user", "content": _BLOCKS},
        ],
        "stop_sequences": ["x"],
        "metadata": {"user_id": "u"},
        "service_tier": "auto",
        "stream": True,
    },
    {
        "model": "claude",
        "messages": [{"role": "user", "content": [_BLOCKS[0]]}],
        "tools": [
            {"name": "f", "description": "d", "input_schema": SCHEMA},
            {"type": "web_search_20250305", "name": "web_search"},
        ],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
        "thinking": {"type": "enabled", "budget_tokens": 9},
        "mcp_servers": [],
    },
]
IMAGE: list[Json] = [
    {"prompt": "a cat", "n": 1, "size": "1024x1024", "response_format": "b64_json", "user": "u"},
    {"prompt": "a cat", "model": "gpt-image-1", "size": "auto", "stream": False, "image": None},
]
EMBEDDING: list[Json] = [
    {"model": "e", "input": "a", "encoding_format": "float", "dimensions": 9, "user": "u"},
    {"model": "e", "input": ["a", "b"]},
    {"model": "e", "input": [[1, 2], [3]]},
]
SAMPLES: dict[ApiPath, list[Json]] = {
    "chat/completions": CHAT,
    "completions": COMPLETION,
    "responses": RESPONSE,
    "messages": MESSAGE,
    "messages/count_tokens": MESSAGE,
    "embeddings": EMBEDDING,
}
FILE = Attachment("a.png", "image/png", 1, "0" * 64)
SEAL = Seal(b"a secret of the tests")
_MODES = (
    settings.Compat(),
    settings.Compat(ignore_unsupported=True),
    settings.Compat(tools="refuse"),
)


def check_refusal(failure: ApiError, body: bytes) -> None:
    """Check an error that a client gets for a body."""
    assert 400 <= failure.http_status < 500
    assert 400 <= message_status(failure) < 500
    error = json.loads(msgspec.json.encode(failure.object))["error"]
    assert error["message"]
    assert len(error["message"]) < 3000
    assert error["param"] is None or isinstance(error["param"], str)
    assert json.loads(msgspec.json.encode(message_error(failure)))["error"]["type"]


def check_survives(job: Job) -> bytes:
    """Check that a job is the same for its worker; return it encoded."""
    plain = encode_job(job)
    assert decode_job(plain) == job
    return plain


def check_files(chat: ChatRequest) -> Mapping[str, Attachment]:
    """Decode the files that are in a request; return one in place of each."""
    files = given_files(chat.messages)
    for file in files:
        with suppress(DataUrlError):
            if inline := read_inline(file):
                assert sum(map(len, inline.pieces())) <= sum(map(len, file.source.slices()))
    return dict.fromkeys((file.param for file in files), FILE)


def job_of(dialect: Dialect, body: bytes, compat: settings.Compat) -> ChatJob:
    """Make the job of a body as a front end does. Raises ApiError."""
    decoded = dialect.decode(bytearray(body))
    stored = {id: ChatMessage("assistant", "stored") for id in decoded.references}
    chat = decoded.chat(stored)
    emulation = emulate(chat, compat, decoded.ignored)
    headers = emulation.headers(dialect.field)
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    assert memory(chat.messages) >= 0
    messages = emulation.instruct(to_messages(chat.messages, check_files(chat)))
    assert asyncio.run(prompt_tokens(summarize_prompt(messages))) > 0
    if emulation.call_rules is not None:
        assert emulation.call_rules.memory > 0
    assert chat.stops is not None
    return ChatJob(VERSION, "id", "gpt_4_s", "key", messages, json=emulation.json_answer)


def check_translated(dialect: Dialect, body: bytes, compat: settings.Compat) -> None:
    try:
        job = job_of(dialect, body, compat)
    except ApiError as failure:
        check_refusal(dialect.renamed(failure), body)
        return
    assert len(check_survives(job)) < 20 * len(body) + 10_000
    request_digest(SEAL, "/v1/chat/completions", body)
    assert job.messages
    if job.json is not None and job.json.schema:
        assert isinstance(job.json, JsonAnswer)
        check_json('{"a": "b"}', job.json.schema)


@fuzzed(bodies(CHAT), st.sampled_from(_MODES))
def test_a_chat_becomes_a_job_or_a_refusal(body: bytes, compat: settings.Compat) -> None:
    check_translated(CHATS, body, compat)


@fuzzed(bodies(COMPLETION), st.sampled_from(_MODES))
def test_a_completion_becomes_a_job_or_a_refusal(body: bytes, compat: settings.Compat) -> None:
    check_translated(COMPLETIONS, body, compat)


@fuzzed(bodies(RESPONSE), st.sampled_from(_MODES))
def test_a_response_becomes_a_job_or_a_refusal(body: bytes, compat: settings.Compat) -> None:
    check_translated(RESPONSES, body, compat)


@fuzzed(bodies(MESSAGE), st.sampled_from(_MODES))
def test_a_message_becomes_a_job_or_a_refusal(body: bytes, compat: settings.Compat) -> None:
    check_translated(MESSAGES, body, compat)


@fuzzed(bodies(IMAGE))
def test_a_request_for_images_becomes_a_job_or_a_refusal(body: bytes) -> None:
    try:
        images = decode_images(bytearray(body))
    except ApiError as failure:
        check_refusal(failure, body)
        return
    prompt = Message("user", images.prompt_with_size)
    job = ChatJob(VERSION, "id", "gpt_4_s", "key", [prompt], copies=images.wants_base64)
    check_survives(job)


def check_relayed(path: ApiPath, body: bytes) -> None:
    try:
        call = decode_relayed(path, bytearray(body))
    except ApiError as failure:
        check_refusal(failure, body)
        return
    assert 1 <= call.choices <= call.slots
    assert str(call.user_name)
    job = RelayedJob(VERSION, "id", path, call.model, "key", body, choices=call.choices)
    check_survives(job)
    request_digest(SEAL, f"/v1/{path}", body)
    request = prepare(path, body, "its own")
    members = json.loads(request.body)
    assert members["model"] == request.model == "its own"
    assert members.get("stream") is True or not request.streamed


@fuzzed(st.sampled_from(list(SAMPLES)), st.data())
def test_a_relayed_request_goes_upstream_or_is_refused(path: ApiPath, data: st.DataObject) -> None:
    check_relayed(path, data.draw(bodies(SAMPLES[path])))


@fuzzed(st.sampled_from([*CHAT, *RESPONSE, *MESSAGE, *EMBEDDING]), st.integers(0, 3))
def test_a_request_that_is_written_differently_is_the_same(sample: Json, indent: int) -> None:
    first = request_digest(SEAL, "/", encoded(sample))
    turned = dict(reversed(sample.items()))
    assert request_digest(SEAL, "/", json.dumps(turned, indent=indent).encode()) == first
    assert request_digest(SEAL, "/", encoded({**sample, "model": "other"})) != first
