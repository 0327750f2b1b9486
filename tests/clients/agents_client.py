"""OpenAI's Agents SDK: its default model (Responses) with a function tool, whole and streamed."""

from __future__ import annotations

import asyncio
import os
import sys

from agents import Agent, Runner, function_tool, set_tracing_disabled

os.environ.update(OPENAI_BASE_URL=sys.argv[1], OPENAI_API_KEY="agents")
set_tracing_disabled(True)


@function_tool
def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return f"rain in {city}"


agent = Agent(name="Forecaster", instructions="Be brief.", tools=[get_weather])
ask = '[[sim call=get_weather args={"city":"Paris"}]] Will it rain?'
assert "rain in Paris" in Runner.run_sync(agent, ask).final_output


async def stream() -> str:
    """Return the text of a streamed answer."""
    text = ""
    async for event in Runner.run_streamed(agent, "[[sim words=5]]").stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            text += event.data.delta
    return text


assert asyncio.run(stream()) == "w0 w1 w2 w3 w4"
