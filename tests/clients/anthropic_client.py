"""Anthropic's SDK: a message whole and streamed, a tool, and the count of tokens."""

from __future__ import annotations

import sys

from anthropic import Anthropic

# Its base URL has no `/v1`.
client = Anthropic(base_url=sys.argv[1].removesuffix("/v1"), api_key="anthropic")
MODEL = "gpt-4"
WEATHER = {
    "name": "get_weather",
    "description": "Get the weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def ask(messages: list[object]) -> object:
    """Ask with a tool."""
    return client.messages.create(
        model=MODEL, max_tokens=500, messages=messages, tools=[WEATHER], system="Be brief."
    )


question = {"role": "user", "content": "[[sim words=5]]"}
message = client.messages.create(model=MODEL, max_tokens=500, messages=[question])
assert message.content[0].text == "w0 w1 w2 w3 w4", message
assert message.stop_reason == "end_turn", message
assert message.usage.output_tokens > 0, message

with client.messages.stream(model=MODEL, max_tokens=500, messages=[question]) as stream:
    assert "".join(stream.text_stream) == "w0 w1 w2 w3 w4"

weather = {"role": "user", "content": '[[sim call=get_weather args={"city":"Paris"}]] Rain?'}
called = ask([weather])
(call,) = [block for block in called.content if block.type == "tool_use"]
assert (call.name, call.input) == ("get_weather", {"city": "Paris"}), called
assert called.stop_reason == "tool_use", called
result = {"type": "tool_result", "tool_use_id": call.id, "content": "rain in Paris"}
told = ask(
    [
        weather,
        {"role": "assistant", "content": called.content},
        {"role": "user", "content": [result]},
    ]
)
assert "rain in Paris" in told.content[0].text, told

with client.messages.stream(
    model=MODEL, max_tokens=500, messages=[weather], tools=[WEATHER]
) as stream:
    streamed = stream.get_final_message()
(call,) = [block for block in streamed.content if block.type == "tool_use"]
assert call.input == {"city": "Paris"}, streamed

assert client.messages.count_tokens(model=MODEL, messages=[question]).input_tokens > 0
