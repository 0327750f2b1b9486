"""Responses and completions through the official client; tools and JSON are those of chats."""

from __future__ import annotations

from typing import Any

import pytest
from openai import APIError, BadRequestError, OpenAI
from openai.types.responses import FunctionToolParam, Response
from pydantic import BaseModel

from tests.support.bots import Ask
from tests.support.gateway import Gateway

PARIS = '{"city":"Paris"}'
QUESTION = f"What is the weather like? [[sim call=get_weather args={PARIS}]]"
ANN = '{"name":"Ann","age":3}'


class Person(BaseModel):
    name: str
    age: int


WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


def strictly(response: Response) -> Response:
    """The response, if it has all fields of its type; the client itself does not check that."""
    return Response.model_validate(response.to_dict(), strict=True)


def test_an_answer_is_a_response_as_openai_makes_them(client: OpenAI) -> None:
    answer = client.responses.with_raw_response.create(
        model="gpt-4", instructions="Be brief.", input="[[sim words=3]]", metadata={"a": "b"}
    )
    response = answer.parse()
    assert response.output_text == "w0 w1 w2"
    assert response.id == answer.headers["x-queue-id"]
    assert (response.status, response.metadata) == ("completed", {"a": "b"})
    assert (strictly(response).instructions, response.tools) == ("Be brief.", [])
    assert response.usage is not None
    assert response.usage.output_tokens > 0
    assert response.usage.total_tokens > response.usage.output_tokens


def test_a_stream_has_the_response_of_the_whole_answer(client: OpenAI) -> None:
    with client.responses.stream(model="gpt-4", input="[[sim words=30]]") as stream:
        events: list[Any] = list(stream)
        response = strictly(stream.get_final_response())
    numbers = list(dict.fromkeys(event.sequence_number for event in events))  # a keep-alive repeats
    assert numbers == list(range(len(numbers)))
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text == response.output_text == " ".join(f"w{n}" for n in range(30))
    cut = client.responses.create(model="gpt-4", input="[[sim words=30]]", max_output_tokens=4)
    assert (cut.status, cut.output[0].to_dict()["status"]) == ("incomplete", "incomplete")
    assert cut.incomplete_details is not None
    assert cut.incomplete_details.reason == "max_output_tokens"


def test_a_tool_is_called_and_its_result_is_used(client: OpenAI) -> None:
    asked: list[Any] = [{"role": "user", "content": QUESTION}]
    with client.responses.stream(model="gpt-4", input=asked, tools=[WEATHER]) as stream:
        streamed = stream.until_done().get_final_response()
    whole = client.responses.create(model="gpt-4", input=asked, tools=[WEATHER])
    for response in (streamed, whole):
        (call,) = [item for item in strictly(response).output if item.type == "function_call"]
        assert (call.name, call.arguments) == ("get_weather", PARIS)
    asked += [item.to_dict() for item in whole.output]
    (call,) = [item for item in whole.output if item.type == "function_call"]
    asked.append({"type": "function_call_output", "call_id": call.call_id, "output": "It rains."})
    answer = client.responses.create(model="gpt-4", input=asked, tools=[WEATHER])
    assert answer.output_text == "The result is: It rains."


def test_tools_of_other_kinds_are_called_or_left_out_by_name(client: OpenAI) -> None:
    tools: list[Any] = [
        {"type": "web_search"},
        {"type": "custom", "name": "patch"},
        {"type": "namespace", "name": "sky", "description": "The sky.", "tools": [WEATHER]},
    ]
    question = f'Look! [[sim call=sky.get_weather,patch args={PARIS[:-1]},"input":"a"}}]]'
    asked: list[Any] = [{"role": "user", "content": question}]
    answer = client.responses.with_raw_response.create(model="gpt-4", input=asked, tools=tools)
    assert answer.headers["x-ignored-parameters"] == "tools (web_search)"
    function, custom = answer.parse().output
    assert function.type == "function_call"
    assert (function.namespace, function.name) == ("sky", "get_weather")
    assert custom.type == "custom_tool_call"
    assert (custom.name, custom.input) == ("patch", "a")
    asked += [{"type": "item_reference", "id": item.id} for item in (function, custom)]
    for kind, call in (("function_call_output", function), ("custom_tool_call_output", custom)):
        asked.append({"type": kind, "call_id": call.call_id, "output": "It rains."})
    assert "It rains." in client.responses.create(model="gpt-4", input=asked).output_text


def test_an_answer_is_parsed_into_a_model(client: OpenAI) -> None:
    answer = client.responses.parse(
        model="gpt-4", input=f"Who? [[sim json={ANN}]]", text_format=Person
    )
    assert answer.output_parsed == Person(name="Ann", age=3)


def test_a_failure_raises_before_and_after_the_beginning(client: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="Send the whole conversation") as refused:
        client.responses.create(model="gpt-4", input="hi", previous_response_id="resp_1")
    assert refused.value.param == "previous_response_id"
    picture: Any = [
        {"role": "user", "content": [{"type": "input_image", "image_url": "http://127.0.0.1/"}]}
    ]
    with pytest.raises(BadRequestError) as refused:
        client.responses.create(model="gpt-4", input=picture)
    assert refused.value.param == "input[0].content[0].image_url"
    stream = client.responses.create(
        model="gpt-4", input="[[sim words=9 fault=cut at=3000]]", stream=True
    )
    with pytest.raises(APIError):
        list(stream)


def test_a_waiting_client_gets_its_place_in_an_event_that_it_knows(
    client: OpenAI, gateway: Gateway, ask: Ask
) -> None:
    client.api_key = "waiting"
    first = client.responses.create(
        model="gpt-4", input="[[sim words=30 interval=0.1]]", stream=True
    )
    next(first)
    with client.responses.stream(model="gpt-4", input="[[sim words=2]]") as stream:
        events: list[Any] = list(stream)
        assert stream.get_final_response().output_text == "w0 w1"
    places = [(e.model_extra or {}).get("queue") for e in events if "in_progress" in e.type]
    assert any(place and place["position"] == 1 for place in places)
    first.close()


def test_a_completion_is_text_alone(client: OpenAI) -> None:
    create = client.completions.create
    whole = create(model="gpt-3.5-turbo-instruct", prompt="[[sim words=9]]", stop="w4")
    assert (whole.choices[0].text, whole.choices[0].finish_reason) == ("w0 w1 w2 w3 ", "stop")
    assert whole.model == "gpt-3.5-turbo-instruct"
    assert whole.usage is not None
    assert whole.usage.completion_tokens > 0
    chunks = list(create(model="gpt-4", prompt="[[sim words=9]]", max_tokens=4, stream=True))
    assert {chunk.object for chunk in chunks} == {"text_completion"}
    assert "".join(chunk.choices[0].text for chunk in chunks) == "w0 w1"
    assert chunks[-1].choices[0].finish_reason == "length"
    with pytest.raises(BadRequestError, match="Several prompts"):
        create(model="gpt-4", prompt=["a", "b"])
