"""The simulator of an OpenAI-compatible server: its dialects, slots, errors and faults."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from openai import AsyncOpenAI

from simulator.openai.errors import ERRORS, ErrorName
from tests.support.openai import FAST, OpenAiCaller, asks, calling_openai, chunks, data, said

CHAT = "/v1/chat/completions"
WEATHER = {
    "name": "get_weather",
    "description": "x",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CALL = f'[[sim call=get_weather args={{"city":"Paris"}} {FAST}]]'


@pytest.fixture
async def caller(loop: asyncio.AbstractEventLoop) -> AsyncIterator[OpenAiCaller]:
    async with calling_openai() as caller:
        yield caller


@pytest.fixture
async def client(caller: OpenAiCaller) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{caller.url}/v1", api_key="k", max_retries=0) as client:
        yield client


async def test_a_chat_streams_reasoning_text_logprobs_and_usage(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": f"[[sim words=2 reasoning=1 {FAST}]]"}],
        n=2,
        logprobs=True,
        stream=True,
        stream_options={"include_usage": True},
    )
    seen = [chunk async for chunk in stream]
    choices = [choice for chunk in seen for choice in chunk.choices]
    for index in (0, 1):
        mine = [choice for choice in choices if choice.index == index]
        assert "".join(c.delta.content or "" for c in mine) == "w0 w1"
        assert [c.finish_reason for c in mine if c.finish_reason] == ["stop"]
        tokens = [t.token for c in mine if c.logprobs for t in c.logprobs.content or ()]
        assert tokens == ["w0", " w1"]
    assert seen[-1].choices == []
    assert seen[-1].usage is not None
    assert seen[-1].usage.completion_tokens == 6


@pytest.mark.parametrize("limit", [1, None])
async def test_a_whole_chat_says_the_same_as_the_streamed_one(
    caller: OpenAiCaller, limit: int | None
) -> None:
    text = f"[[sim words=3 reasoning=2 {FAST}]]"
    more = {"max_tokens": limit} if limit else {}
    streamed = chunks(await caller.stream(text, **more))
    _, whole = await caller.post(CHAT, asks(text[6:-2], stream=False, **more))
    (choice,) = whole["choices"]
    finish = [c["finish_reason"] for chunk in streamed for c in chunk["choices"]][-1]
    assert finish == choice["finish_reason"] == ("length" if limit else "stop")
    for key in ("content", "reasoning_content"):
        deltas = [c["delta"].get(key) or "" for chunk in streamed for c in chunk["choices"]]
        assert "".join(deltas) == (choice["message"].get(key) or "")


async def test_functions_are_called_and_their_results_repeated_in_every_dialect(
    caller: OpenAiCaller, client: AsyncOpenAI
) -> None:
    tool: Any = {"type": "function", "function": WEATHER}
    asked: Any = [{"role": "user", "content": CALL}]
    answer = await client.chat.completions.create(model="m", messages=asked, tools=[tool])
    assert answer.choices[0].message.tool_calls
    (call,) = answer.choices[0].message.tool_calls
    assert call.type == "function"
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    asked += [
        answer.choices[0].message,
        {"role": "tool", "tool_call_id": call.id, "content": "rain"},
    ]
    answer = await client.chat.completions.create(model="m", messages=asked, tools=[tool])
    assert answer.choices[0].message.content == "The result is: rain"

    function: Any = {"type": "function", "strict": False, **WEATHER}
    async with client.responses.stream(model="m", input=CALL, tools=[function]) as stream:
        async for _ in stream:
            pass
        response = await stream.get_final_response()
    (item,) = response.output
    assert item.type == "function_call"
    output: Any = {"type": "function_call_output", "call_id": item.call_id, "output": "rain"}
    given: Any = [{"role": "user", "content": CALL}, item.model_dump(), output]
    repeated = await client.responses.create(model="m", input=given, tools=[function])
    assert repeated.output_text == "The result is: rain"

    block = {"name": "get_weather", "input_schema": WEATHER["parameters"]}
    more = {"model": "m", "max_tokens": 99, "tools": [block]}
    messages: Any = [{"role": "user", "content": CALL}]
    _, message = await caller.post("/v1/messages", {**more, "messages": messages})
    (used,) = message["content"]
    assert (used["name"], used["input"]) == ("get_weather", {"city": "Paris"})
    assert message["stop_reason"] == "tool_use"
    result = {"type": "tool_result", "tool_use_id": used["id"], "content": "rain"}
    messages += [
        {"role": "assistant", "content": message["content"]},
        {"role": "user", "content": [result]},
    ]
    _, message = await caller.post("/v1/messages", {**more, "messages": messages})
    assert message["content"] == [{"type": "text", "text": "The result is: rain"}]


async def test_json_is_valid_against_the_schema_that_was_given(caller: OpenAiCaller) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    async with caller.chat("How many?", response_format=form) as response:
        answer = await response.json()
    assert json.loads(answer["choices"][0]["message"]["content"]) == {"a": 1}


async def test_messages_stream_blocks_and_end_with_message_stop(caller: OpenAiCaller) -> None:
    body = asks(f"words=2 reasoning=1 {FAST}", max_tokens=99)
    async with caller.http.post(f"{caller.url}/v1/messages", json=body) as response:
        events = chunks(await response.read())
    kinds = [event["type"] for event in events]
    assert kinds == [
        "message_start",
        *("content_block_start", "content_block_delta", "content_block_stop"),
        *("content_block_start", *["content_block_delta"] * 2, "content_block_stop"),
        "message_delta",
        "message_stop",
    ]
    assert [e["delta"].get("text") for e in events if "index" in e and "delta" in e][1:] == [
        "w0",
        " w1",
    ]


async def test_completions_embeddings_and_counts_are_answered(
    caller: OpenAiCaller, client: AsyncOpenAI
) -> None:
    prompt = f"[[sim words=2 {FAST}]]"
    completion = await client.completions.create(model="m", prompt=[prompt, prompt])
    assert [choice.text for choice in completion.choices] == ["w0 w1", "w0 w1"]
    stream = await client.completions.create(model="m", prompt=prompt, stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == "w0 w1"
    vectors = await client.embeddings.create(model="m", input=["a", "b", "a"])
    first, second, third = (item.embedding for item in vectors.data)
    assert first == third != second
    body = {"model": "m", "system": "Be brief.", "messages": [{"role": "user", "content": "Hi"}]}
    assert await caller.post("/v1/messages/count_tokens", body) == (200, {"input_tokens": 7})


async def test_requests_beyond_the_slots_wait_in_order_without_a_byte(
    caller: OpenAiCaller,
) -> None:
    running = [asyncio.ensure_future(caller.stream("[[sim words=2 gate=1]]")) for _ in range(2)]
    await caller.until(lambda stats: stats["active"] == 2)
    ended: list[int] = []

    async def until_deferred(number: int) -> None:
        await caller.until(lambda stats: stats["deferred"] == number)

    async def wait_in_line(number: int) -> None:
        await caller.stream(f"[[sim words=1 {FAST}]]")
        ended.append(number)

    async with caller.connected() as leaver:
        await leaver.send(CHAT, asks("words=1"))
        await caller.until(lambda stats: stats["deferred"] == 1)
        waiting = []
        for number in range(3):
            waiting.append(asyncio.ensure_future(wait_in_line(number)))
            await until_deferred(2 + number)
        assert (await caller.get("/slots"))[1][1] == {"id": 1, "is_processing": True}
        assert (await caller.get("/slots?fail_on_no_slot=1"))[0] == 503
        async with caller.http.get(f"{caller.url}/metrics") as response:
            assert "llamacpp:requests_deferred 4\n" in await response.text()
        leaver.writer.close()
        await caller.until(lambda stats: stats["deferred"] == 3)
    assert not leaver.reader._buffer  # type: ignore[attr-defined]
    await caller.post("/simulator/gate", {})
    await asyncio.gather(*running, *waiting)
    assert ended == [0, 1, 2]
    stats = await caller.stats()
    assert (stats["peak"], stats["peak_deferred"], stats["started"]) == (2, 4, 5)


async def test_a_client_that_leaves_frees_its_slots(caller: OpenAiCaller) -> None:
    async with caller.connected() as leaver:
        await leaver.send(CHAT, asks("words=1000", n=2))
        await leaver.reader.readuntil(b"w0")
        assert (await caller.stats())["peak"] == 2
    stats = await caller.until(lambda stats: stats["active"] == 0)
    assert stats["aborted"] == 1
    async with caller.chat("Hi", n=3) as response:
        assert response.status == 503


async def test_a_server_may_refuse_who_would_wait(loop: asyncio.AbstractEventLoop) -> None:
    async with calling_openai(slots=1, may_wait=0) as caller, caller.connected() as first:
        await first.send(CHAT, asks("words=1000"))
        await first.reader.readuntil(b"w0")
        async with caller.chat("Hi") as response:
            assert response.status == 503


@pytest.mark.parametrize("like", ["vllm", "llama"])
async def test_only_some_servers_send_the_head_before_there_is_a_slot(
    loop: asyncio.AbstractEventLoop, like: str
) -> None:
    async with calling_openai(slots=1, like=like) as caller, caller.connected() as first:
        await first.send(CHAT, asks("words=1000"))
        await first.reader.readuntil(b"w0")
        async with caller.connected() as second:
            await second.send(CHAT, asks(f"words=1 {FAST}"))
            if like == "vllm":
                await second.reader.readuntil(b"\r\n\r\n")
            await caller.until(lambda stats: stats["deferred"] == 1)
            first.writer.close()
            assert b"w0" in await second.reader.readuntil(b"[DONE]")


ENDINGS = {
    "error at_word=1": ["w0", "ERROR"],
    "error at_word=0": ["ERROR"],
    "error_done at_word=1": ["w0", "ERROR", "[DONE]"],
    "error_choice at_word=1": ["w0", "ERROR", "[DONE]"],
    "no_done": ["w0", " w1", "stop"],
    "no_finish": ["w0", " w1", "[DONE]"],
    "only_done": ["[DONE]"],
    "broken_off": ["w0", " w1"],
    "garbage at_word=1": ["w0", "GARBAGE"],
}


@pytest.mark.parametrize("fault", ENDINGS)
async def test_a_broken_answer_ends_as_its_fault_says(caller: OpenAiCaller, fault: str) -> None:
    body = await caller.stream(f"[[sim words=2 fault={fault} {FAST}]]")
    seen = []
    for each in data(body):
        try:
            chunk = json.loads(each)
        except ValueError:
            seen.append(each if each == "[DONE]" else "GARBAGE")
            continue
        if "error" in chunk:
            seen.append("ERROR")
            continue
        (choice,) = chunk["choices"]
        said = choice["finish_reason"] or choice["delta"]["content"]
        seen += [said] if said else []
    assert seen == ENDINGS[fault]


async def test_bodies_break_off_where_the_fault_says(caller: OpenAiCaller) -> None:
    for fault, end in (("cut at=300", b"\r\n"), ("cut_after_finish", b'"stop"')):
        async with caller.connected() as connection:
            await connection.send(CHAT, asks(f"words=2 fault={fault} {FAST}"))
            body = await connection.rest()
            assert end in body
            assert not body.endswith(b"0\r\n\r\n")


async def test_a_silent_answer_sends_comments_alone(caller: OpenAiCaller) -> None:
    async with caller.connected() as connection:
        await connection.send(CHAT, asks(f"fault=silence at_word=1 ping=0.01 {FAST}"))
        await connection.reader.readuntil(b"w0")
        for _ in range(3):
            await connection.reader.readuntil(b"\r\n:\n\n\r\n")
    await caller.until(lambda stats: stats["aborted"] == 1)


async def test_requests_can_stay_unanswered(caller: OpenAiCaller) -> None:
    async with caller.connected() as hung, caller.connected() as torn:
        await hung.send(CHAT, asks("fault=hang"))
        await caller.until(lambda stats: stats["active"] == 1)
        await torn.send(CHAT, asks("fault=reset"))
        with pytest.raises(ConnectionError):
            await torn.rest()
    await caller.until(lambda stats: stats["active"] == 0)


async def test_a_stale_connection_serves_one_request(caller: OpenAiCaller) -> None:
    body = asks(f"words=1 fault=stale {FAST}", stream=False)
    for _ in range(2):
        async with caller.connected() as kept:
            await kept.send(CHAT, body)
            assert b"w0" in await kept.reader.readuntil(b'"usage":')
            await kept.reader.readuntil(b"}}")
            await kept.send(CHAT, body)
            assert await kept.rest() == b""


@pytest.mark.parametrize("name", ERRORS)
async def test_an_error_is_answered_as_it_was_seen(caller: OpenAiCaller, name: ErrorName) -> None:
    async with caller.chat(f"[[sim error={name}]]", stream=True) as response:
        assert response.status == ERRORS[name].status
        assert await response.read() == ERRORS[name].body
        is_json = response.content_type == "application/json"
    assert is_json == isinstance(ERRORS[name].content, dict)
    assert (await caller.stats())["errors"] == 1


async def test_an_error_can_pass_after_some_requests(caller: OpenAiCaller) -> None:
    statuses = []
    for prompt in ("a", "a", "b"):
        async with caller.chat(f"[[sim error=server times=1]] {prompt}") as response:
            statuses.append(response.status)
    assert statuses == [500, 200, 500]
    await caller.post("/simulator/script", {"error": "loading", "times": 2})
    assert (await caller.get("/health"))[0] == 503
    for status in (503, 503, 200):
        async with caller.chat("Hi") as response:
            assert response.status == status
    await caller.post("/simulator/script", {"error": "unauthorized"})
    assert [(await caller.get(path))[0] for path in ("/health", "/v1/models")] == [200, 401]
    status, refused = await caller.post("/simulator/script", {"fault": "nonsense"})
    assert status == 400
    assert "fault" in refused["error"]["message"]


async def test_an_image_is_refused_as_by_a_model_of_text(caller: OpenAiCaller) -> None:
    async with caller.chat([{"type": "image_url", "image_url": {"url": "data:,"}}]) as response:
        assert response.status == 500
        assert (await response.json())["error"]["type"] == "server_error"


async def test_only_the_health_is_told_without_the_key(loop: asyncio.AbstractEventLoop) -> None:
    async with calling_openai(api_key="K") as caller:
        for path, status in (("/health", 200), ("/v1/models", 401), ("/props", 401)):
            assert (await caller.get(path))[0] == status
        for headers in ({"Authorization": "Bearer K"}, {"X-Api-Key": "K"}):
            async with caller.http.get(f"{caller.url}/props", headers=headers) as response:
                assert (await response.json())["total_slots"] == 2
        async with caller.chat("Hi") as response:
            assert response.status == 401
        assert (await caller.stats())["refused"] == 3


@pytest.mark.parametrize(
    ("like", "path"), [("llama", "/props"), ("sglang", "/server_info"), ("tabby", "/v1/model")]
)
async def test_each_server_tells_its_slots_in_its_own_words(
    loop: asyncio.AbstractEventLoop, like: str, path: str
) -> None:
    async with calling_openai(slots=7, like=like, models=("a", "b")) as caller:
        told = {p: await caller.get(p) for p in ("/props", "/server_info", "/v1/model")}
        assert [p for p, (status, _) in told.items() if status == 200] == [path]
        assert "7" in json.dumps(told[path][1])
        assert [model["id"] for model in (await caller.get("/v1/models"))[1]["data"]] == ["a", "b"]
        async with caller.chat("Hi", model="unknown") as response:
            assert response.status == (200 if like == "llama" else 404)


async def test_a_path_can_be_missing_and_requests_are_kept(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with calling_openai(without=("responses",)) as caller:
        assert (await caller.post("/v1/responses", {"input": "Hi"}))[0] == 404
        await caller.stream(f"[[sim words=1 {FAST}]]", seed=7)
        _, (seen,) = await caller.get("/simulator/requests")
        assert (seen["path"], seen["body"]["seed"]) == (CHAT, 7)


async def test_an_answer_over_http_1_0_ends_with_its_connection(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with calling_openai(like="mlx", models=("tiny",)) as caller:
        for fault, done in (("", True), ("fault=cut at=400", False)):
            async with caller.connected() as connection:
                await connection.send(CHAT, asks(f"words=3 {fault} {FAST}"))
                answer = await connection.rest()
            assert answer.startswith(b"HTTP/1.0 200 OK\r\n")
            assert answer.endswith(b"data: [DONE]\n\n") == done
        assert said(await caller.stream(f"[[sim words=2 {FAST}]]")) == "w0 w1"


async def test_likenesses_differ_in_what_matters(caller: OpenAiCaller) -> None:
    async def deltas(like: str, **more: object) -> list[dict[str, Any]]:
        text = f"[[sim words=2 like={like} {FAST}]]"
        usage = {"include_usage": True}
        return chunks(await caller.stream(text, stream_options=usage, **more))

    vllm, tabby = await deltas("vllm"), await deltas("tabby")
    assert vllm[-2]["choices"][0] == {
        "finish_reason": "stop",
        "index": 0,
        "delta": {"content": " w1"},
    }
    assert not any("role" in c["delta"] for chunk in tabby for c in chunk["choices"])
    assert [chunk["choices"][0]["finish_reason"] for chunk in tabby[-2:]] == ["stop", "stop"]
    plain = await deltas("transformers")
    assert ["finish_reason" in chunk["choices"][0] for chunk in plain] == [False] * 3 + [True]
    assert "usage" in plain[-1]
    text, tool = f"[[sim call=get_weather like=ollama {FAST}]]", {"function": WEATHER}
    called = chunks(await caller.stream(text, tools=[tool]))
    (call,) = called[0]["choices"][0]["delta"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"city": "text"}


async def test_a_wrong_request_or_directive_is_refused(caller: OpenAiCaller) -> None:
    for body in ({"messages": "Hi"}, {}, asks("nonsense=1")):
        status, refused = await caller.post(CHAT, body)
        assert status == 400
        assert refused["error"]["type"] == "invalid_request_error"
    with pytest.raises(aiohttp.ClientResponseError):
        async with caller.http.post(caller.url + CHAT, data=b"{", raise_for_status=True):
            pass
