"""Fields of relayed requests that the gateway reads."""

from __future__ import annotations

import json

import pytest

from app.openai.bounds import MOST_BYTES
from app.openai.errors import ApiError, BadRequest, BodyTooLarge
from app.relayed.requests import RelayedRequest, decode_relayed
from wire.jobs import ApiPath

SAID: dict[str, object] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def decode(path: ApiPath, body: dict[str, object]) -> RelayedRequest:
    return decode_relayed(path, json.dumps(body).encode())


def test_fields_that_mean_nothing_here_may_be_anything() -> None:
    tools: dict[str, object] = {"tools": 1, "messages": [1, {"role": "new"}], "stop": {}, "x": [{}]}
    assert decode("chat/completions", SAID | tools).model == "m"


def test_the_usage_and_the_user_are_read() -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}, "user": "u"}
    request = decode("chat/completions", SAID | options)
    assert (request.is_streamed, request.include_usage, request.user_name) == (True, True, "u")
    request = decode("messages", SAID | {"metadata": {"user_id": "v"}})
    assert (request.is_streamed, request.user_name) == (False, "v")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("chat/completions", {"messages": []}, "model"),
        ("chat/completions", {"model": 1, "messages": []}, "model"),
        ("chat/completions", {"model": "m"}, "messages"),
        ("chat/completions", {"model": "m", "messages": {}}, "messages"),
        ("messages", {"model": "m", "messages": "hi"}, "messages"),
        ("embeddings", {"model": "m", "input": 1}, "input"),
        ("responses", {"model": "m", "background": True}, "background"),
        ("completions", {"model": "m", "n": 0}, "n"),
        ("completions", {"model": "m", "prompt": [""] * 2049}, "prompt"),
    ],
)
def test_a_wrong_field_is_named(path: ApiPath, body: dict[str, object], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        decode(path, body)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("body", "choices", "slots"),
    [
        ({}, 1, 1),
        ({"n": None, "n_cmpl": None}, 1, 1),
        ({"n": 3}, 3, 3),
        ({"n": 2, "best_of": 4}, 2, 4),
        ({"prompt": "a"}, 1, 1),
        ({"prompt": [1, 2, 3]}, 1, 1),
        ({"prompt": []}, 1, 1),
        ({"prompt": ["a", "b"], "n": 2}, 4, 4),
        ({"prompt": ["a", "b"], "n_cmpl": 2, "best_of": 3}, 4, 6),
        ({"prompt": [[1, 2], [3]]}, 2, 2),
    ],
)
def test_choices_and_slots_are_counted(body: dict[str, object], choices: int, slots: int) -> None:
    request = decode("completions", {"model": "m"} | body)
    assert (request.choices, request.slots) == (choices, slots)


@pytest.mark.parametrize("path", ["chat/completions", "completions", "responses", "messages"])
@pytest.mark.parametrize("field", ["n", "n_cmpl", "best_of"])
def test_choices_count_in_every_dialect(path: ApiPath, field: str) -> None:
    assert decode(path, SAID | {field: 2}).slots == 2


@pytest.mark.parametrize("path", ["embeddings", "messages/count_tokens"])
def test_some_answers_are_never_streamed(path: ApiPath) -> None:
    assert not decode(path, SAID | {"input": "a", "stream": True}).is_streamed


BASE64 = "A" * MOST_BYTES


@pytest.mark.parametrize(
    "part",
    [
        {"image_url": {"url": f"data:image/png;base64,{BASE64}"}},
        {"input_audio": {"data": BASE64}},
        {"source": {"type": "base64", "data": BASE64}},
        {"image_url": f"data:image/png;base64,{BASE64}"},
    ],
)
def test_files_may_be_long(part: dict[str, object]) -> None:
    said = [{"role": "user", "content": [part]}]
    assert decode("chat/completions", {"model": "m", "messages": said}).model == "m"


@pytest.mark.parametrize("field", ["text", "arguments"])
def test_all_else_is_bounded(field: str) -> None:
    said = [{"role": "user", "content": [{field: BASE64}]}]
    with pytest.raises(BodyTooLarge):
        decode("chat/completions", {"model": "m", "messages": said})


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"model"'])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(ApiError):
        decode_relayed("chat/completions", body)
