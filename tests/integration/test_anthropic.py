"""`/v1/messages` and `/v1/messages/count_tokens` in front of Pandora-Next."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import Any

import httpx
import pytest

import settings
from tests.support.line import LASTING
from tests.support.sanic_adapter import Client
from tests.support.scripted import ScriptedUpstream
from wire.events import Delta, Done, Failed, Started
from wire.jobs import Message

MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
KEY = {"x-api-key": "somebody", "anthropic-version": "2023-06-01"}
TOOL = {"name": "f", "input_schema": {"type": "object"}}
CALL = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'


@pytest.fixture
def config() -> settings.Settings:
    return settings.Settings(
        queue=LASTING, stream=settings.Stream(grace=0.0, keepalive_interval=0.05)
    )


def body(content: object = "hi", **fields: Any) -> dict[str, Any]:
    asked = {"model": "claude-opus-4", "max_tokens": 100, "tools": [TOOL]}
    return asked | {"messages": [{"role": "user", "content": content}]} | fields


async def test_a_message_is_a_chat_of_the_key_with_an_answer_and_its_usage(
    client: Client, upstream: ScriptedUpstream
) -> None:
    upstream.script = ([Started("m"), Delta("Let me see."), Delta(CALL), Done("stop")],)
    answer = await client.post(MESSAGES, json=body(system="Be brief."), headers=KEY)
    message = answer.json()
    assert [block["type"] for block in message["content"]] == ["text", "tool_use"]
    assert (message["id"], message["model"]) == (answer.headers["x-queue-id"], "claude-opus-4")
    (job,) = upstream.asked
    assert (job.bearer, job.family) == ("somebody", "gpt_4_s")
    assert job.messages[0] == Message("system", "Be brief.")
    assert job.messages[-1] == Message("user", "hi")
    counted = await client.post(COUNT, json=body(system="Be brief."), headers=KEY)
    assert counted.json() == {"input_tokens": message["usage"]["input_tokens"]}


async def test_a_client_that_waits_gets_pings_with_its_place(
    client: Client, upstream: ScriptedUpstream
) -> None:
    gate = asyncio.Event()
    upstream.script = (gate, [Started("m"), Delta("a"), Done("stop")])
    first = asyncio.create_task(client.post(MESSAGES, json=body(), headers=KEY))
    async with asyncio.timeout(20):
        while not upstream.active:
            await asyncio.sleep(0.01)
    pinged = asyncio.Event()
    waiting = asyncio.create_task(streamed(client, pinged))
    await asyncio.wait_for(pinged.wait(), 20)
    gate.set()
    await first
    *_, end, stop = await waiting
    assert end["delta"]["stop_reason"] == "end_turn"
    assert stop == {"type": "message_stop"}


async def streamed(client: Client, pinged: asyncio.Event) -> list[Any]:
    """The events of a stream; `pinged` is set by a ping with a place in line."""
    found = []
    url = client.make_url(MESSAGES)
    async with (
        httpx.AsyncClient(timeout=30) as http,
        http.stream("POST", url, json=body(stream=True), headers=KEY) as response,
    ):
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line.removeprefix("data: ")))
                if found[-1]["type"] == "ping" and "position" in found[-1].get("queue", {}):
                    pinged.set()
    return found


async def test_errors_have_the_form_of_anthropic(
    client: Client, upstream: ScriptedUpstream
) -> None:
    gone = {"type": "image", "source": {"type": "url", "url": "http://127.0.0.1/x"}}
    for path, asked, headers, status, kind, words in (
        (MESSAGES, body(), {}, 401, "authentication_error", "bearer"),
        (MESSAGES, body([gone]), KEY, 400, "invalid_request_error", "messages.0.content.0.source"),
        (COUNT, body(messages=[]), KEY, 400, "invalid_request_error", "`messages`"),
        ("/v1/messages/batches", {}, KEY, 404, "not_found_error", "`/v1/messages`"),
    ):
        refused = await client.post(path, json=asked, headers=headers)
        error = refused.json()["error"]
        assert (refused.status_code, error["type"]) == (status, kind)
        assert words in error["message"]
    upstream.script = ([Started("m"), Delta("a"), Failed("upstream_error", "Oops.")],)
    broken = await client.post(MESSAGES, json=body(stream=True), headers=KEY)
    assert "event: error\n" in broken.text
    assert json.loads(broken.text.rstrip().rpartition("data: ")[2])["error"] == {
        "type": "api_error",
        "message": "Oops.",
    }


async def test_the_text_of_pictures_is_not_counted_and_none_is_fetched(front: Client) -> None:
    picture = {"type": "image", "source": {"type": "url", "url": "http://127.0.0.1/x"}}
    text = {"type": "text", "text": "hi"}
    counts = [
        (await front.post(COUNT, json=body([text, *more]), headers=KEY)).json()["input_tokens"]
        for more in ([], [picture])
    ]
    assert counts[0] == counts[1] > 2
    ignored = await front.post(COUNT, json=body([text], thinking={"type": "adaptive"}), headers=KEY)
    assert ignored.json()["input_tokens"] == counts[0]


@pytest.mark.parametrize(
    "headers",
    [KEY, {"x-api-key": "somebody"}, {"authorization": "Bearer a", "anthropic-version": "1"}],
    ids=["the SDK", "its key alone", "Claude Code"],
)
async def test_clients_of_anthropic_get_the_models_in_their_own_form(
    front: Client, headers: dict[str, str]
) -> None:
    page = (await front.get("/v1/models", headers=headers)).json()
    ids = [model["id"] for model in page["data"]]
    assert "gpt-4-s" in ids
    assert (page["first_id"], page["last_id"], page["has_more"]) == (ids[0], ids[-1], False)
    one = (await front.get("/v1/models/gpt-4-s", headers=headers)).json()
    assert one == page["data"][ids.index("gpt-4-s")]
    assert (one["type"], one["display_name"]) == ("model", "gpt-4-s")
    assert datetime.fromisoformat(one["created_at"]).tzinfo
    missing = await front.get("/v1/models/", headers=headers)
    assert missing.json() == page


async def test_all_other_clients_get_the_models_in_the_form_of_openai(front: Client) -> None:
    for headers in ({}, {"authorization": "Bearer a"}, {"authorization": "Bearer a", **_X}):
        assert (await front.get("/v1/models", headers=headers)).json()["object"] == "list"


_X = {"x-api-key": "somebody"}
