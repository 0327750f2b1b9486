"""LangChain: an agent with a tool, streamed text, and structured output."""

from __future__ import annotations

import sys

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return f"rain in {city}"


class Answer(BaseModel):
    """An answer with its unit."""

    value: int
    unit: str


model = ChatOpenAI(model="gpt-4o", base_url=sys.argv[1], api_key="langchain")
assert "".join(chunk.text for chunk in model.stream("[[sim words=5]]")) == "w0 w1 w2 w3 w4"

agent = create_agent(model, tools=[get_weather])
ask = '[[sim call=get_weather args={"city":"Paris"}]] Will it rain?'
said = agent.invoke({"messages": [{"role": "user", "content": ask}]})["messages"]
assert [message.type for message in said] == ["human", "ai", "tool", "ai"], said
assert "rain in Paris" in said[-1].text, said[-1]

for method in ("function_calling", "json_schema", "json_mode"):
    structured = model.with_structured_output(Answer, method=method)
    arguments = '{"value":7,"unit":"km"}'
    question = f"[[sim call=Answer args={arguments} json={arguments}]] How far? Answer in JSON."
    assert structured.invoke(question) == Answer(value=7, unit="km"), method
