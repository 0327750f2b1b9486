"""Successful answers through the official client."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionChunk

from tests.support.gateway import Gateway, serving

HELLO = "hello [[sim words=20 interval=0.005]]"
WORDS = " ".join(f"w{n}" for n in range(20))


def ask(client: OpenAI, prompt: str, model: str = "gpt-4-s") -> str | None:
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": prompt}]
    )
    return answer.choices[0].message.content


def test_a_whole_answer_is_a_completion_as_openai_makes_them(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="gpt-4-s",
        messages=[
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": HELLO}]},
        ],
        temperature=0.3,
    )
    (choice,) = answer.choices
    assert choice.message.content == WORDS
    assert (choice.message.role, choice.finish_reason) == ("assistant", "stop")
    assert answer.id.startswith("chatcmpl-")
    assert answer.object == "chat.completion"
    assert answer.model == "gpt-4-s"
    assert answer.system_fingerprint is not None
    assert answer.system_fingerprint.startswith("fp_")
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 20
    total = answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.total_tokens == total


def test_a_streamed_answer_has_the_role_first_and_one_id_throughout(client: OpenAI) -> None:
    chunks: list[ChatCompletionChunk] = list(
        client.chat.completions.create(
            model="gpt-4",
            messages=[{"role": "user", "content": HELLO}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    *said, last, usage = chunks
    assert said[0].choices[0].delta.role == "assistant"
    assert said[0].choices[0].delta.content == ""
    assert "".join(c.choices[0].delta.content or "" for c in said) == WORDS
    assert all(c.choices[0].finish_reason is None for c in said)
    assert last.choices[0].finish_reason == "stop"
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.completion_tokens > 20
    assert len({c.id for c in chunks}) == 1
    assert chunks[0].system_fingerprint is None  # the upstream has not named its model yet
    assert len({c.system_fingerprint for c in chunks[1:]}) == 1
    assert {c.model for c in chunks} == {"gpt-4"}


def test_usage_is_not_streamed_unasked(client: OpenAI) -> None:
    chunks = client.chat.completions.create(
        model="gpt-3.5-turbo", messages=[{"role": "user", "content": HELLO}], stream=True
    )
    for chunk in chunks:
        assert "usage" not in chunk.model_fields_set
        assert chunk.choices


@pytest.mark.parametrize("model", ["gpt-4-s", "gpt-4", "gpt-4-mobile", "gpt-3.5-turbo"])
def test_every_configured_name_answers(client: OpenAI, model: str) -> None:
    assert ask(client, HELLO, model) == WORDS


@pytest.mark.parametrize(
    "text",
    [
        "你好，世界！这是一个测试。",
        "emoji 👩‍👩‍👧‍👦 and \u2028 line separators \u2029 and \x85 and\ttabs\nand lines",
        "العربية עברית हिन्दी ไทย",
        'quotes " \\ / \b \f and data: [DONE]\n\ndata: x',
        "\ufeffBOM, \u0000 NUL and \U0010ffff",
    ],
)
def test_text_in_any_language_is_unchanged(client: OpenAI, text: str) -> None:
    prompt = f"[[sim echo=1 interval=0.001 step=1]]{text}"
    assert ask(client, prompt) == text.strip()
    stream = client.chat.completions.create(
        model="gpt-4-s", messages=[{"role": "user", "content": prompt}], stream=True
    )
    assert "".join(c.choices[0].delta.content or "" for c in stream) == text.strip()


@pytest.mark.parametrize(
    ("directive", "reason"),
    [
        ("finish=stop", "stop"),
        ("finish=max_tokens", "length"),
        ("block=completion", "content_filter"),
    ],
)
def test_the_finish_reason_is_the_upstreams_own(
    client: OpenAI, directive: str, reason: str
) -> None:
    answer = client.chat.completions.create(
        model="gpt-4-s",
        messages=[{"role": "user", "content": f"[[sim words=3 {directive}]]"}],
    )
    assert answer.choices[0].finish_reason == reason


def test_models_are_listed_and_shown_one_by_one(client: OpenAI) -> None:
    names = {model.id for model in client.models.list()}
    assert names == {"gpt-4-s", "gpt-4", "gpt-4-mobile", "gpt-3.5-turbo"}
    assert client.models.retrieve("gpt-4-s").object == "model"


def test_the_async_client_streams_several_answers_at_once(gateway: Gateway) -> None:
    async def one(number: int) -> str:
        async with AsyncOpenAI(
            base_url=f"{gateway.url}/v1", api_key=f"bearer-{number}", max_retries=0
        ) as client:
            stream = await client.chat.completions.create(
                model="gpt-4-s", messages=[{"role": "user", "content": HELLO}], stream=True
            )
            return "".join([c.choices[0].delta.content or "" async for c in stream])

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*(one(n) for n in range(4)))

    assert asyncio.run(all_of_them()) == [WORDS] * 4


def test_a_waiting_stream_gets_chunks_with_its_position(gateway: Gateway) -> None:
    headers = {"authorization": "Bearer one-account"}

    def body(words: int) -> dict[str, object]:
        prompt = f"[[sim words={words} interval=0.02]]"
        messages = [{"role": "user", "content": prompt}]
        return {"model": "gpt-4-s", "stream": True, "messages": messages}

    url = f"{gateway.url}/v1/chat/completions"
    with (
        httpx.Client(headers=headers, timeout=20) as http,
        http.stream("POST", url, json=body(60)) as first,
    ):
        running = first.iter_raw()  # kept: httpx closes the response with its iterator
        next(running)
        text = http.post(url, json=body(2)).text
        assert b"".join(running).endswith(b"data: [DONE]\n\n")
    *lines, done, end = text.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    assert all(line.startswith("data: {") and "\n" not in line for line in lines)
    waiting = [one for one in map(_chunk, lines) if "queue" in one]
    assert [one["queue"]["position"] for one in waiting] == [1] * len(waiting)
    assert len(waiting) >= 2


def _chunk(line: str) -> dict[str, Any]:
    chunk: dict[str, Any] = json.loads(line.removeprefix("data: "))
    return chunk


def test_200_streams_50_at_once_are_whole_and_within_the_cap(gateway: Gateway) -> None:
    text = " ".join(f"w{n}" for n in range(30))

    async def one(http: httpx.AsyncClient, gate: asyncio.Semaphore, number: int) -> None:
        body = {
            "model": "gpt-4-s",
            "stream": True,
            "messages": [{"role": "user", "content": "[[sim words=30 interval=0.002 delay=0.01]]"}],
        }
        headers = {"authorization": f"Bearer bot-{number % 67}"}
        async with (
            gate,
            http.stream(
                "POST", f"{gateway.url}/v1/chat/completions", json=body, headers=headers
            ) as answer,
        ):
            assert answer.status_code == 200
            raw = (await answer.aread()).decode()
        blocks = [m.partition("\n")[0] for m in raw.split("\n\n")]
        messages = [b.removeprefix("data: ") for b in blocks if b.startswith("data: ")]
        assert messages.pop() == "[DONE]"
        chunks = [ChatCompletionChunk.model_validate_json(m) for m in messages]
        assert "".join(c.choices[0].delta.content or "" for c in chunks) == text

    async def all_of_them() -> None:
        gate = asyncio.Semaphore(50)
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(limits=limits, timeout=60) as http:
            await asyncio.gather(*(one(http, gate, n) for n in range(200)))

    asyncio.run(all_of_them())
    stats = gateway.stats()
    assert stats["finished"] == 200
    assert stats["peak"] <= 4
    assert stats["peak_per_account"] == 1
    assert stats["refused"] == 0


def test_all_roles_write_one_log_file_together(gateway: Gateway) -> None:
    written = (gateway.directory / "log" / "access.log").read_text()
    pids = {int(pid) for pid in re.findall(r"^\S+ \S+ \w+ +\[(\d+)\] ", written, re.MULTILINE)}
    serves = {process.pid for process in serving(gateway.fronts[0])}
    assert {process.pid for process in gateway.fronts + gateway.workers} | serves <= pids
    assert " DEBUG " not in written
