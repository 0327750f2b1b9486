"""pydantic-ai: its default OpenAI model with a tool and a typed output, whole and streamed."""

from __future__ import annotations

import asyncio
import os
import sys

from pydantic import BaseModel
from pydantic_ai import Agent

os.environ.update(OPENAI_BASE_URL=sys.argv[1], OPENAI_API_KEY="pydantic-ai")


class City(BaseModel):
    """A city and its country."""

    name: str
    country: str


agent = Agent("openai:gpt-4")


@agent.tool_plain
def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return f"rain in {city}"


weather = '[[sim call=get_weather args={"city":"Paris"}]] Will it rain?'
assert "rain in Paris" in agent.run_sync(weather).output

typed = Agent("openai:gpt-4", output_type=City)
ask = '[[sim call=final_result args={"name":"Paris","country":"France"}]] Which city?'
city = typed.run_sync(ask).output
assert city == City(name="Paris", country="France"), city


async def stream() -> str:
    """Return the text of a streamed answer."""
    async with agent.run_stream("[[sim words=5]]") as answer:
        return await answer.get_output()


assert asyncio.run(stream()) == "w0 w1 w2 w3 w4"
