"""Tools and JSON through the official client, on a model that does as the prompt says."""

from __future__ import annotations

import json
from typing import Any

import httpx
from openai import OpenAI
from openai.types.chat import (
    ChatCompletionChunk,
    ChatCompletionMessageFunctionToolCall,
    ChatCompletionToolUnionParam,
)
from openai.types.chat.chat_completion import Choice
from pydantic import BaseModel

from tests.support.gateway import Gateway

WEATHER: ChatCompletionToolUnionParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
PARIS = '{"city":"Paris"}'
QUESTION = f"What is the weather like? [[sim call=get_weather args={PARIS}]]"


ANN = '{"name":"Ann","age":3}'


class Person(BaseModel):
    name: str
    age: int


def functions_of(choice: Choice) -> list[ChatCompletionMessageFunctionToolCall]:
    calls = choice.message.tool_calls or []
    return [call for call in calls if call.type == "function"]


def test_a_tool_is_called_and_its_result_is_used(client: OpenAI) -> None:
    asked: list[Any] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": QUESTION},
    ]
    create = client.chat.completions.create
    (choice,) = create(model="gpt-4", messages=asked, tools=[WEATHER]).choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    (call,) = functions_of(choice)
    assert (call.function.name, call.function.arguments) == ("get_weather", PARIS)

    result = {"role": "tool", "tool_call_id": call.id, "content": "It rains."}
    asked += [choice.message.to_dict(), result]
    answer = create(model="gpt-4", messages=asked, tools=[WEATHER])
    (choice,) = answer.choices
    assert (choice.message.content, choice.finish_reason) == ("The result is: It rains.", "stop")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 200  # the instructions are a part of the prompt


def test_a_stream_has_the_calls_of_the_whole_answer(client: OpenAI) -> None:
    question = "hello [[sim call=get_weather,get_time step=3 fence=1]]"
    time = {"type": "function", "function": {"name": "get_time"}}
    tools: list[Any] = [WEATHER, time]
    with client.chat.completions.stream(
        model="gpt-4", messages=[{"role": "user", "content": question}], tools=tools
    ) as stream:
        chunks: list[ChatCompletionChunk] = [e.chunk for e in stream if e.type == "chunk"]
        (choice,) = stream.get_final_completion().choices
    calls = [(c.function.name, json.loads(c.function.arguments)) for c in functions_of(choice)]
    assert calls == [("get_weather", {"city": "text"}), ("get_time", {})]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "Let me see.")
    deltas = [call for c in chunks for call in c.choices[0].delta.tool_calls or ()]
    first, more, second, _ = deltas
    assert (first.index, first.type, bool(first.id)) == (0, "function", True)
    assert first.function is not None
    assert (first.function.name, first.function.arguments) == ("get_weather", "")
    assert (more.index, more.id, second.index) == (0, None, 1)
    assert first.id != second.id


def test_a_resumed_stream_has_the_same_calls(client: OpenAI) -> None:
    body = {
        "model": "gpt-4",
        "stream": True,
        "tools": [WEATHER],
        "messages": [{"role": "user", "content": QUESTION}],
    }
    headers = {"authorization": f"Bearer {client.api_key}", "idempotency-key": "the-question"}
    url = f"{client.base_url}chat/completions"
    streams = [httpx.post(url, json=body, headers=headers, timeout=60).text for _ in range(2)]
    numbered = [[part for part in stream.split("\n\n") if "\nid: " in part] for stream in streams]
    assert numbered[0] == numbered[1]
    assert "call_" in streams[0]


def test_only_what_was_asked_for_is_called(client: OpenAI) -> None:
    create = client.chat.completions.create
    two = f"[[sim call=get_weather,get_weather args={PARIS}]]"

    def calls(question: str = two, **more: Any) -> int:
        messages: list[Any] = [{"role": "user", "content": question}]
        (choice,) = create(model="gpt-4", messages=messages, tools=[WEATHER], **more).choices
        found = len(choice.message.tool_calls or ())
        assert choice.finish_reason == ("tool_calls" if found else "stop")
        return found

    assert calls() == 2
    assert calls(parallel_tool_calls=False) == 1
    assert calls(tool_choice="none") == 0
    assert calls("hello") == 0
    assert calls("hello", tool_choice="required") == 1
    assert (
        calls("hello", tool_choice={"type": "function", "function": {"name": "get_weather"}}) == 1
    )


def test_a_call_that_cannot_be_read_is_text(client: OpenAI) -> None:
    for directive in ("call=unknown", "call=get_weather slips=1"):
        (choice,) = client.chat.completions.create(
            model="gpt-4",
            messages=[{"role": "user", "content": f"[[sim {directive}]]"}],
            tools=[WEATHER],
        ).choices
        assert (choice.finish_reason, choice.message.tool_calls) == ("stop", None)
        assert str(choice.message.content).startswith("<tool_call>")


def test_functions_are_called_in_the_dialect_of_2023(client: OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    functions: list[Any] = [{"name": "get_weather", "parameters": {"type": "object"}}]
    create = client.chat.completions.create
    (choice,) = create(model="gpt-4", messages=messages, functions=functions).choices
    assert choice.finish_reason == "function_call"
    called = choice.message.function_call
    assert called is not None
    assert (called.name, called.arguments) == ("get_weather", PARIS)
    deltas = [
        chunk.choices[0].delta.function_call
        for chunk in create(model="gpt-4", messages=messages, functions=functions, stream=True)
    ]
    names = [(one.name, one.arguments) for one in deltas if one]
    assert names == [("get_weather", ""), (None, PARIS)]
    result = {"role": "function", "name": "get_weather", "content": "It rains."}
    messages += [choice.message.to_dict(), result]
    (choice,) = create(model="gpt-4", messages=messages, functions=functions).choices
    assert choice.message.content == "The result is: It rains."


def test_an_answer_is_parsed_into_a_model(client: OpenAI, gateway: Gateway) -> None:
    for directive, conversations in (("fence=1", 1), ("slips=1", 2), ("", 1)):
        gateway.at_rest()
        prompt = f"Who? [[sim {directive}]]" if directive else "Who?"
        answer = client.chat.completions.parse(
            model="gpt-4",
            messages=[{"role": "user", "content": prompt.replace("]]", " json=" + ANN + "]]")}],
            response_format=Person,
        )
        expected = Person(name="Ann", age=3) if directive else Person(name="text", age=1)
        assert answer.choices[0].message.parsed == expected
        assert gateway.stats()["started"] == conversations


def test_json_that_stays_wrong_comes_with_a_warning(client: OpenAI) -> None:
    create = client.chat.completions.with_raw_response.create
    messages: list[Any] = [{"role": "user", "content": '[[sim json={"a":1} slips=2]]'}]
    asked: Any = {"type": "json_object"}
    answer = create(model="gpt-4", messages=messages, response_format=asked)
    assert answer.headers["x-format-warning"] == "invalid_json"
    completion = answer.parse()
    assert completion.choices[0].message.content == '{"a":1'
    assert (completion.model_extra or {})["warning"]["code"] == "invalid_json"
    chunks = list(
        client.chat.completions.create(
            model="gpt-4", messages=messages, response_format=asked, stream=True
        )
    )
    texts = [text for c in chunks if c.choices and (text := c.choices[0].delta.content)]
    assert texts == ['{"a":1']
    assert (chunks[-1].model_extra or {})["warning"]["code"] == "invalid_json"
