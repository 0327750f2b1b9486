"""openai-python: models, chats whole and streamed, tools, logprobs, completions and embeddings."""

from __future__ import annotations

import sys

from openai import OpenAI

client = OpenAI(base_url=sys.argv[1], api_key="openai", max_retries=0)
MODEL = "gpt-4"
assert MODEL in [model.id for model in client.models.list()]

WORDS = [{"role": "user", "content": "[[sim words=5 reasoning=2]]"}]
answer = client.chat.completions.create(
    model=MODEL, messages=WORDS, logprobs=True, top_logprobs=1, seed=7, temperature=0
)
assert answer.model == MODEL, answer
assert answer.choices[0].message.content == "w0 w1 w2 w3 w4", answer
assert answer.choices[0].message.reasoning_content == "t0 t1", answer
assert answer.choices[0].logprobs.content[0].token == "w0", answer
assert answer.usage.completion_tokens == 7, answer

with client.chat.completions.stream(
    model=MODEL, messages=WORDS, stream_options={"include_usage": True}
) as stream:
    end = stream.get_final_completion()
assert end.choices[0].message.content == "w0 w1 w2 w3 w4", end
assert end.usage.completion_tokens == 7, end

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
ASK = [{"role": "user", "content": '[[sim call=get_weather args={"city":"Paris"}]] Rain?'}]
with client.chat.completions.stream(model=MODEL, messages=ASK, tools=[WEATHER]) as stream:
    choice = stream.get_final_completion().choices[0]
(call,) = choice.message.tool_calls
assert choice.finish_reason == "tool_calls", choice
assert call.function.arguments == '{"city":"Paris"}', choice

completion = client.completions.create(model=MODEL, prompt="[[sim words=3]]")
assert completion.choices[0].text == "w0 w1 w2", completion
pieces = client.completions.create(model=MODEL, prompt="[[sim words=3]]", stream=True)
assert "".join(piece.choices[0].text for piece in pieces) == "w0 w1 w2"

response = client.responses.create(model=MODEL, input="[[sim words=5]]")
assert response.output_text == "w0 w1 w2 w3 w4", response

first, second = client.embeddings.create(model=MODEL, input=["a", "b"]).data
assert len(first.embedding) == len(second.embedding) > 0
assert first.embedding != second.embedding
