"""openai-python 0.27, which many bots still use: plain, streamed, and with functions."""

from __future__ import annotations

import sys
from typing import Any

import openai

openai.api_base = sys.argv[1]
openai.api_key = "openai-old"


def ask(question: str, **more: object) -> Any:
    """Ask a question under a model's name of that time."""
    messages = [{"role": "user", "content": question}]
    return openai.ChatCompletion.create(model="gpt-3.5-turbo-0613", messages=messages, **more)


answer = ask("[[sim words=5]]")
assert answer["choices"][0]["message"]["content"] == "w0 w1 w2 w3 w4", answer
assert answer["usage"]["total_tokens"] > 0, answer

chunks = list(ask("[[sim words=5]]", stream=True))
texts = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
assert "".join(texts) == "w0 w1 w2 w3 w4", chunks

weather = '[[sim call=get_weather args={"city":"Paris"}]] Will it rain?'
city = {"type": "object", "properties": {"city": {"type": "string"}}}
functions = [{"name": "get_weather", "parameters": city}]
choice = ask(weather, functions=functions)["choices"][0]
assert choice["finish_reason"] == "function_call", choice
assert choice["message"]["function_call"]["arguments"] == '{"city":"Paris"}', choice

name = arguments = ""
for chunk in ask(weather, functions=functions, function_call={"name": "get_weather"}, stream=True):
    call = chunk["choices"][0]["delta"].get("function_call", {})
    name += call.get("name", "")
    arguments += call.get("arguments", "")
assert (name, arguments) == ("get_weather", '{"city":"Paris"}')

told = [
    {"role": "user", "content": weather},
    choice["message"],
    {"role": "function", "name": "get_weather", "content": "rain in Paris"},
]
end = openai.ChatCompletion.create(model="gpt-4", messages=told, functions=functions)
assert "rain in Paris" in end["choices"][0]["message"]["content"], end

refused = None
try:
    ask("", functions=[{}])
except openai.error.InvalidRequestError as error:
    refused = error.http_status
assert refused == 400, refused
