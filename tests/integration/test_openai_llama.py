"""The worker's client of OpenAI-compatible servers, against the real llama.cpp."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager

import httpx
import msgspec
import pytest

import settings
from local.llama.tokens import CALL_BIAS, ENDLESS_BIAS
from settings.credentials import Secret
from tests.support.llama import Llama, needs_llama
from wire import VERSION
from wire.events import Complete, Event, Piece, Started
from wire.jobs import ApiPath, RelayedJob
from workers.http.sse import EventParser
from workers.openai.server import OpenAiServer, open_openai
from workers.openai.survey import Survey
from workers.upstream import UpstreamBusy, UpstreamError

pytestmark = needs_llama

KEY = "sk-llama"
MESSAGES = [{"role": "user", "content": "Hello, \u4e16\u754c!"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"enum": ["Paris"]}}},
    },
}
FIXED = {"temperature": 0, "seed": 1, "cache_prompt": False, "max_tokens": 40}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with two slots, whose answers take some seconds if they may."""
    log = tmp_path_factory.mktemp("llama") / "log"
    with Llama(log, "--layers", "16", "--api-key", KEY, context=8192) as llama:
        yield llama.url


@asynccontextmanager
async def asking(url: str, key: str = KEY) -> AsyncIterator[OpenAiServer]:
    config = settings.Upstream(
        kind="openai", base_url=url, credential=Secret(key), max_concurrency=0
    )
    async with asyncio.timeout(60), open_openai("main", config) as server:
        yield server


def job(path: ApiPath, **body: object) -> RelayedJob:
    content = json.dumps({"model": "mine", **body}).encode()
    return RelayedJob(VERSION, "j1", path, "mine", "k1", content)


async def collect(server: OpenAiServer, asked: RelayedJob) -> list[Event]:
    async with aclosing(server.answer(asked)) as batches:
        return [event async for events in batches for event in events]


async def test_its_models_and_slots_are_found(url: str) -> None:
    async with asking(url) as server:
        found = Survey({"tiny-llama": "tiny-llama"}, False, 2, is_llama_cpp=True)
        assert await server.survey() == found
    async with asking(url, "sk-other") as server:
        assert (await server.survey()).trouble == "refused_us"
        with pytest.raises(UpstreamBusy) as busy:
            await collect(server, job("chat/completions", messages=MESSAGES))
        assert busy.value.refused_us


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [TOOL], "logit_bias": CALL_BIAS},
        {"grammar": 'root ::= "<think>" "Hm" "</think>" "\u597d!"'},
        {"logprobs": True, "top_logprobs": 2},
    ],
)
async def test_tools_reasoning_and_logprobs_are_those_of_the_server_asked_directly(
    url: str, fields: dict[str, object]
) -> None:
    body = {"messages": MESSAGES, **FIXED, **fields}
    async with asking(url) as server:
        events = await collect(server, job("chat/completions", **body))
    streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(headers=headers, timeout=60) as client:
        direct = await client.post(f"{url}/v1/chat/completions", json=streamed)
    assert events[0] == Started("tiny-llama")
    assert isinstance(events[-1], Complete)
    relayed = [event.data for event in events if isinstance(event, Piece)] + [events[-1].usage]
    *sent, done = [event.data for event in EventParser().feed(direct.content)]
    assert done == b"[DONE]"
    assert list(map(comparable, relayed)) == list(map(comparable, sent))


def comparable(message: bytes) -> dict[str, object]:
    """A message without the members that differ from one request to the next."""
    members = msgspec.json.decode(message, type=dict[str, object])
    for name in ("id", "created", "model", "timings"):
        members.pop(name, None)
    text = json.dumps(members)
    for call in msgspec.json.decode(message).get("choices") or [{}]:
        for tool in call.get("delta", {}).get("tool_calls", []):
            text = text.replace(tool.get("id", "\0"), "")
    decoded: dict[str, object] = json.loads(text)
    return decoded


async def test_every_path_is_answered(url: str) -> None:
    paths: dict[ApiPath, dict[str, object]] = {
        "completions": {"prompt": "Hello", **FIXED},
        "responses": {"input": "Hello", "max_output_tokens": 20},
        "messages": {"messages": MESSAGES, "max_tokens": 20},
        "messages/count_tokens": {"messages": MESSAGES},
        "embeddings": {"input": ["a", "b"]},
    }
    async with asking(url) as server:
        for path, body in paths.items():
            events = await collect(server, job(path, **body))
            assert isinstance(events[0], Started), path
            assert isinstance(events[-1], Complete), path
        assert not server.anomalies


async def test_its_errors_are_judged(url: str) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    pictured = job("chat/completions", messages=[{"role": "user", "content": [image]}])
    long = job("chat/completions", messages=[{"role": "user", "content": "x" * 50_000}])
    async with asking(url) as server:
        with pytest.raises(UpstreamError) as caught:
            await collect(server, pictured)
        assert (caught.value.retries, caught.value.doubtful) == (1, True)
        with pytest.raises(UpstreamError) as caught:
            await collect(server, long)
        failed = caught.value.failed
        assert (failed.fault, failed.status) == ("bad_request", 400)
        assert failed.code == "context_length_exceeded"


async def test_an_answer_that_is_left_frees_its_slot_while_another_streams(url: str) -> None:
    endless = job(
        "chat/completions", messages=MESSAGES, max_tokens=100_000, logit_bias=ENDLESS_BIAS
    )
    headers = {"authorization": f"Bearer {KEY}"}
    async with asking(url) as server, httpx.AsyncClient(base_url=url, headers=headers) as client:

        async def busy() -> int:
            slots = (await client.get("/slots")).json()
            return sum(slot["is_processing"] for slot in slots)

        async with aclosing(server.answer(endless)) as staying:
            await anext(staying)
            async with aclosing(server.answer(endless)) as leaving:
                while not await anext(leaving):
                    pass
                assert await busy() == 2
            async with asyncio.timeout(5):
                while await busy() == 2:
                    await anext(staying)
            assert await busy() == 1
