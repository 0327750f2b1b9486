"""AstrBot's provider for OpenAI: its models, answers, and calls of a tool, whole and streamed."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile

os.chdir(tempfile.mkdtemp())  # it makes a folder for its data where it is imported

from astrbot.core.agent.tool import FunctionTool, ToolSet  # noqa: E402
from astrbot.core.provider.sources.openai_source import ProviderOpenAIOfficial  # noqa: E402

provider = ProviderOpenAIOfficial(
    {
        "id": "gateway",
        "type": "openai_chat_completion",
        "key": ["astrbot"],
        "api_base": sys.argv[1],
        "model": "gpt-4o-mini",
        "model_config": {"model": "gpt-4o-mini"},
    },
    {},
)
city = {"type": "object", "properties": {"city": {"type": "string"}}}
tools = ToolSet([FunctionTool(name="get_weather", description="Weather.", parameters=city)])
ask = '[[sim call=get_weather args={"city":"Paris"}]] Will it rain?'


async def main() -> None:
    """Ask as its agents do."""
    assert "gpt-4" in await provider.get_models()
    answer = await provider.text_chat(prompt="[[sim words=3]]", contexts=[])
    assert answer.completion_text == "w0 w1 w2", answer

    called = await provider.text_chat(prompt=ask, contexts=[], func_tool=tools)
    assert called.tools_call_name == ["get_weather"], called
    assert called.tools_call_args == [{"city": "Paris"}], called
    told = [
        {"role": "user", "content": ask},
        {"role": "assistant", "content": None, "tool_calls": called.to_openai_tool_calls()},
        {"role": "tool", "tool_call_id": called.tools_call_ids[0], "content": "rain in Paris"},
    ]
    answer = await provider.text_chat(contexts=told, func_tool=tools)
    assert "rain in Paris" in answer.completion_text, answer

    streamed = provider.text_chat_stream(prompt="[[sim words=3]]", contexts=[])
    parts = [part async for part in streamed]
    assert parts[-1].completion_text == "w0 w1 w2", parts
    streamed = provider.text_chat_stream(prompt=ask, contexts=[], func_tool=tools)
    last = [part async for part in streamed][-1]
    assert last.tools_call_args == [{"city": "Paris"}], last


asyncio.run(main())
