"""Accounts that answer over WebSocket, which their clients do not notice. Tools: test_tools.py."""

from __future__ import annotations

import openai
import pytest
from openai import OpenAI

from tests.support.gateway import Gateway, until

WORDS = " ".join(f"w{n}" for n in range(40))


@pytest.fixture(autouse=True)
def over_websocket(gateway: Gateway) -> None:
    """All accounts answer over WebSocket."""
    gateway.reset(account="websocket")


def streamed(client: OpenAI, directive: str) -> str:
    """The text of a streamed answer."""
    stream = client.chat.completions.create(
        model="gpt-4-s",
        messages=[{"role": "user", "content": f"[[sim words=40 interval=0.01 {directive}]]"}],
        stream=True,
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def test_streamed_and_whole_answers_are_those_of_sse(gateway: Gateway, client: OpenAI) -> None:
    assert streamed(client, "") == WORDS
    answer = client.chat.completions.create(
        model="gpt-4-s", messages=[{"role": "user", "content": "[[sim words=40 interval=0.01]]"}]
    )
    assert answer.choices[0].message.content == WORDS
    assert answer.choices[0].finish_reason == "stop"
    assert gateway.stats()["acks"] >= 4  # so they did come over one


def test_a_websocket_that_breaks_during_an_answer_is_resumed_unnoticed(
    gateway: Gateway, client: OpenAI
) -> None:
    for at in (0, 7, 30):
        assert streamed(client, f"socket=drop at_frame={at} strangers=1") == WORDS
    assert gateway.stats()["reconnects"] == 3


def test_a_websocket_closed_for_good_is_an_error_in_the_stream(
    gateway: Gateway, client: OpenAI
) -> None:
    with pytest.raises(openai.APIError) as caught:
        streamed(client, "socket=close at_frame=7")
    assert caught.value.code == "answer_broken_off"
    gateway.wait_idle()
    assert streamed(client, "") == WORDS


def test_the_websocket_answer_of_a_disconnected_client_is_stopped_within_a_second(
    gateway: Gateway, client: OpenAI
) -> None:
    """Without a stop such an answer goes on upstream: no connection of its own is closed."""
    stream = client.chat.completions.create(
        model="gpt-4-s",
        messages=[{"role": "user", "content": "[[sim words=2000 interval=0.02]]"}],
        stream=True,
    )
    while not next(stream).choices[0].delta.content:
        pass
    assert gateway.stats()["active"] == 1
    stream.close()
    until(lambda: gateway.stats()["active"] == 0, 1, "it goes on")
    assert gateway.stats()["stopped"] == 1
    assert streamed(client, "") == WORDS
