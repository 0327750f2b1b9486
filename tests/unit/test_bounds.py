"""Bounds of a request's body: nothing honest is refused, and nothing else costs much."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from app.openai.bounds import MOST_MESSAGES, MOST_PARTS, MOST_TOOLS, MOST_VALUES
from app.openai.errors import BadRequest
from app.openai.requests import decode_chat, decode_images

HELLO = {"role": "user", "content": "Hi"}
TEXT = {"type": "text", "text": "a"}
SIZE = 2_000_000


def chat(**fields: object) -> bytes:
    return json.dumps({"model": "gpt-4", "messages": [HELLO], **fields}).encode()


@pytest.mark.parametrize(
    ("fields", "param", "kind", "most"),
    [
        ({"messages": [HELLO] * 2049}, "messages", "array", MOST_MESSAGES),
        (
            {"messages": [HELLO, {"role": "user", "content": [TEXT] * 2049}]},
            "messages[1].content",
            "array",
            MOST_PARTS,
        ),
        ({"tools": [{}] * 129}, "tools", "array", MOST_TOOLS),
        ({"functions": [{}] * 129}, "functions", "array", MOST_TOOLS),
        ({"stop": ["a"] * 5}, "stop", "array", 4),
        ({"stop": ["a", "b" * 1001]}, "stop[1]", "string", 1000),
        ({"modalities": ["text"] * 17}, "modalities", "array", 16),
        ({"modalities": ["a" * 513]}, "modalities[0]", "string", 512),
        ({"user": "a" * 513}, "user", "string", 512),
        ({"service_tier": "a" * 513}, "service_tier", "string", 512),
        ({"model": "a" * 513}, "model", "string", 512),
        (
            {"messages": [HELLO | {"tool_calls": [{}] * 129}]},
            "messages[0].tool_calls",
            "array",
            128,
        ),
        ({"messages": [HELLO | {"name": "a" * 513}]}, "messages[0].name", "string", 512),
    ],
)
def test_a_field_beyond_its_bound_is_refused_as_openai_does(
    fields: dict[str, object], param: str, kind: str, most: int
) -> None:
    with pytest.raises(BadRequest) as caught:
        decode_chat(chat(**fields))
    article = "an" if kind == "array" else "a"
    assert str(caught.value) == (
        f"Invalid '{param}': {kind} too long. Expected {article} {kind} with maximum length {most}."
    )
    assert (caught.value.param, caught.value.code) == (param, f"{kind}_above_max_length")


def test_the_prompt_of_an_image_has_openais_own_bound() -> None:
    with pytest.raises(BadRequest) as caught:
        decode_images(json.dumps({"prompt": "a" * 32_001}).encode())
    assert (caught.value.param, caught.value.code) == ("prompt", "string_above_max_length")


def test_the_largest_honest_request_is_accepted() -> None:
    """As many messages and tools as OpenAI takes; texts and schemas may be full of JSON."""
    source = json.dumps([{"a": {}, "b": ["c", "d,", "e{"]}] * 40)
    properties = {f"field{n}": {"type": "string", "enum": ["a", "b", "c"]} for n in range(30)}
    schema = {"type": "object", "properties": properties}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    request = decode_chat(
        chat(
            messages=[{"role": "user", "name": "x", "content": source} for _ in range(2048)],
            tools=[tool] * 128,
        )
    )
    assert len(request.messages) == MOST_MESSAGES


@pytest.mark.parametrize(
    "space", ["", " ", "\n\t"], ids=["dense", "with spaces", "with line breaks"]
)
@pytest.mark.parametrize(
    ("start", "value", "end"),
    [
        ('{"model":"m","messages":[', '{"role":"user"}', "]}"),
        ('{"model":"m","messages":[', '{"role":"user","content":[]}', "]}"),
        (
            '{"model":"m","messages":[{"role":"user","content":[',
            '{"type":"text","text":""}',
            "]}]}",
        ),
        (
            '{"model":"m","messages":[{"role":"user","content":[',
            '{"type":"image_url","image_url":{"url":""}}',
            "]}]}",
        ),
        ('{"model":"m","messages":[],"tools":[', "{}", "]}"),
        ('{"model":"m","messages":[],"modalities":[', '"ab"', "]}"),
        ('{"model":"m","messages":[],"stop":[', '"a"', "]}"),
        ('{"model":"m","messages":[{"role":"user",', '"content":[]', "}]}"),
    ],
)
def test_millions_of_values_are_refused_before_objects_are_made_of_them(
    start: str, value: str, end: str, space: str
) -> None:
    spaced = value.replace("{", "{" + space).replace(",", space + "," + space)
    text = start + (f"{space},{space}".join([spaced] * (SIZE // (len(spaced) + 1)))) + end
    body = text.encode()
    assert len(json.loads(body)) >= 2
    tracemalloc.start()
    try:
        with pytest.raises(BadRequest, match=rf"too many values.*{MOST_VALUES}"):
            decode_chat(body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.1 * len(body) + 100_000


@pytest.mark.parametrize("field", ["role", "service_tier"])
def test_an_error_quotes_little_of_a_long_value(field: str) -> None:
    fields = {"messages": [{"role": "a" * SIZE}]} if field == "role" else {field: "a" * SIZE}
    with pytest.raises(BadRequest) as caught:
        decode_chat(chat(**fields))
    assert len(str(caught.value)) < 700
    assert caught.value.param == ("messages[0].role" if field == "role" else field)
