"""The dialect of `/v1/completions`: one prompt, and chunks of its text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types import Completion

from app.openai.answers import QueuePlace, Usage
from app.openai.completions import COMPLETIONS
from app.openai.dialect import Answer, RenderOptions
from app.openai.errors import BadRequest
from app.openai.reading import AnswerReader
from app.openai.requests import ChatMessage
from settings import Bot
from wire.events import Delta, Failed, Started


def body(**fields: object) -> bytes:
    return json.dumps({"model": "m", "prompt": "hi", **fields}).encode()


def answer(options: RenderOptions = RenderOptions(), stop: str = "") -> Answer:  # noqa: B008
    reader = AnswerReader(Bot(), [stop] if stop else [])
    return COMPLETIONS.decode(body()).answer("cmpl-0123", "m", 0, reader, options)


def chunks(stream: bytes) -> list[Any]:
    found = [line.removeprefix("data: ") for line in stream.decode().split("\n\n")[:-1]]
    return [None if data == "[DONE]" else json.loads(data) for data in found]


@pytest.mark.parametrize("prompt", ["hi", ["hi"]])
def test_the_prompt_is_a_message_of_the_user(prompt: object) -> None:
    chat = COMPLETIONS.decode(body(prompt=prompt, max_tokens=3, stop="x", n=1, echo=False)).chat({})
    assert chat.messages == [ChatMessage("user", "hi")]
    assert (chat.token_limit, chat.stops) == (3, ["x"])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"echo": True}, "echo"),
        ({"suffix": "a"}, "suffix"),
        ({"logprobs": 0}, "logprobs"),
        ({"n": 2}, "n"),
        ({"best_of": 2}, "best_of"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1], [2]]}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
    ],
)
def test_a_field_that_is_not_served_is_refused_by_name(
    fields: dict[str, object], param: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        COMPLETIONS.decode(body(**fields))
    assert caught.value.param == param


def test_a_stream_has_the_text_and_the_end_of_the_whole_answer() -> None:
    one = answer(RenderOptions(include_usage=True), stop="END")
    stream = chunks(one.add([Started("m"), Delta("a "), Delta("b END c")]))
    stream += chunks(one.ending(Usage(1, 2, 3)))
    assert [choice["text"] for chunk in stream if chunk for choice in chunk["choices"]] == [
        "a ",
        "b ",
    ]
    assert [c["choices"][0]["finish_reason"] for c in stream[:2]] == [None, "stop"]
    assert (stream[2]["choices"], stream[2]["usage"]["total_tokens"], stream[3]) == ([], 3, None)
    whole = Completion.model_validate_json(one.whole(Usage(1, 2, 3)), strict=True)
    assert (whole.choices[0].text, whole.choices[0].finish_reason) == ("a b ", "stop")
    assert whole.system_fingerprint == stream[0]["system_fingerprint"]


def test_keep_alives_and_errors_are_those_of_a_chat() -> None:
    one = answer(RenderOptions(errors_as_text=True, numbered=True))
    (waiting,) = chunks(one.empty_delta(QueuePlace(3, 12)))
    assert (waiting["queue"], waiting["choices"][0]["text"]) == ({"position": 3, "eta": 12}, "")
    assert one.begun
    assert one.add([Started("m"), Delta("a")]).endswith(b"\nid: 0123-1\n\n")
    told, error = chunks(one.add([Failed("too_long", "Oops.")]))
    assert told["choices"][0]["text"].startswith("\n\nError: ")
    assert (error["error"]["param"], error["error"]["code"]) == (
        "prompt",
        "context_length_exceeded",
    )
