"""`stop` and `max_tokens` through the official client: the answer ends, and so does its turn."""

from __future__ import annotations

import time
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.support.gateway import Gateway, until

LONG = "[[sim words=2000 interval=0.01]]"

CUTS: list[tuple[dict[str, Any], str, str]] = [
    ({"stop": " w7"}, "w0 w1 w2 w3 w4 w5 w6", "stop"),
    ({"stop": ["w99", "5 w6"]}, "w0 w1 w2 w3 w4 w", "stop"),
    ({"max_tokens": 9}, "w0 w1 w2 w3 w", "length"),
    ({"max_completion_tokens": 10}, "w0 w1 w2 w3 w4", "length"),
]


@pytest.mark.parametrize(("asked", "text", "reason"), CUTS)
@pytest.mark.parametrize("stream", [True, False])
def test_a_cut_answer_ends_properly_and_frees_its_slot_within_a_second(
    gateway: Gateway,
    client: OpenAI,
    asked: dict[str, Any],
    text: str,
    reason: str,
    *,
    stream: bool,
) -> None:
    create: Any = client.chat.completions.create
    question = {"model": "gpt-4-s", "messages": [{"role": "user", "content": LONG}]}
    if stream:
        # The client's iterator ends well only after `[DONE]`.
        chunks = list(
            create(**question, **asked, stream=True, stream_options={"include_usage": True})
        )
        *said, usage = chunks
        got = "".join(c.choices[0].delta.content or "" for c in said)
        finish, counted = said[-1].choices[0].finish_reason, usage.usage
    else:
        answer = create(**question, **asked)
        got, finish = answer.choices[0].message.content, answer.choices[0].finish_reason
        counted = answer.usage
    ended = time.monotonic()
    assert (got, finish) == (text, reason)
    if reason == "length":
        assert counted.completion_tokens == next(iter(asked.values()))
    until(lambda: gateway.stats()["active"] == 0, 60, "the conversation goes on upstream")
    assert time.monotonic() - ended < 1
    stats = gateway.stats()
    assert (stats["aborted"], stats["finished"]) == (1, 0)
    # The same account, which holds one conversation at a time, is served at once.
    create(model="gpt-4-s", messages=[{"role": "user", "content": "[[sim words=1]]"}], timeout=3)


def test_an_unsupported_parameter_is_a_bad_request(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(
            model="gpt-4-s",
            messages=[{"role": "user", "content": "x"}],
            logprobs=True,
        )
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "logprobs")
