"""The real llama.cpp server of local/llama, asked directly: the tests of the gateway rely on it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from local.llama.tokens import CALL_BIAS, ENDLESS_BIAS
from tests.support.llama import Llama, needs_llama

pytestmark = needs_llama

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris"]}, "today": {"type": "boolean"}},
            "required": ["city", "today"],
        },
    },
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server with two slots, which knows its key."""
    log = tmp_path_factory.mktemp("llama") / "log"
    with (
        Llama(log, "--api-key", "k", context=8192) as llama,
        httpx.Client(base_url=llama.url, timeout=30.0) as client,
    ):
        client.headers["authorization"] = "Bearer k"
        yield client


def chat(client: httpx.Client, **fields: object) -> Mapping[str, Any]:
    """Ask a question with these fields of the request; return the choice and the usage."""
    messages = [{"role": "user", "content": "Hello, \u4e16\u754c!"}]
    answer = client.post("/v1/chat/completions", json={"messages": messages, **fields})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return {**body["choices"][0], "tokens": body["usage"]["completion_tokens"]}


def test_it_has_its_slots_requires_its_key_and_names_its_model(client: httpx.Client) -> None:
    assert client.get("/props").json()["total_slots"] == 2
    assert client.get("/props", headers={"authorization": "Bearer other"}).status_code == 401
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["tiny-llama"]


def test_a_grammar_makes_it_say_any_text_after_any_thought(client: httpx.Client) -> None:
    grammar = 'root ::= "<think>" "Hm" "</think>" "\u597d!"'
    message = chat(client, grammar=grammar)["message"]
    assert (message["reasoning_content"], message["content"]) == ("Hm", "\u597d!")


def test_it_calls_a_tool_once_and_ends(client: httpx.Client) -> None:
    for _ in range(10):
        choice = chat(client, tools=[TOOL], logit_bias=CALL_BIAS)
        assert choice["finish_reason"] == "tool_calls"
        calls = [call["function"] for call in choice["message"]["tool_calls"]]
        assert [call["name"] for call in calls] == ["weather"]
        assert json.loads(calls[0]["arguments"])["city"] == "Paris"


def test_an_answer_goes_on_until_its_limit_and_is_the_same_again(client: httpx.Client) -> None:
    fields = {"max_tokens": 300, "temperature": 0, "logprobs": True, "logit_bias": ENDLESS_BIAS}
    # Without the prompt cache, which changes the order of the sums.
    first, second = (chat(client, **fields, cache_prompt=False) for _ in range(2))
    assert first == second
    assert first["finish_reason"] == "length"
    assert first["tokens"] == 300


def test_it_makes_embeddings(client: httpx.Client) -> None:
    data = client.post("/v1/embeddings", json={"input": ["a", "b"]}).json()["data"]
    assert [len(each["embedding"]) for each in data] == [64, 64]
