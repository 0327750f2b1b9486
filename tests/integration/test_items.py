"""Output items of responses, stored in Redis for requests that refer to them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

import settings
from app.http.stream import ResponseStream
from app.items import Items
from app.openai.bounds import MOST_BYTES
from app.openai.errors import BodyTooLarge, LineUnavailable, UnsupportedParameter
from app.openai.requests import ChatMessage
from settings.redis_url import redis_url
from tests.support.line import LASTING
from tests.support.sanic_adapter import Client
from tests.support.scripted import ScriptedUpstream
from wire.events import Delta, Done, Started
from wire.items import MOST_AT_ONCE, StoredItems
from wire.jobs import Message
from wire.redis.client import Redis, connect
from wire.seal import Seal

RESPONSES = "/v1/responses"
BEARER = {"authorization": "Bearer somebody"}
CALL = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
TOOL = {"type": "function", "name": "f"}
KEEP = settings.Responses()


async def test_an_item_is_found_with_its_bearer_alone(redis: Redis, seal: Seal) -> None:
    stored = StoredItems(redis, seal, KEEP)
    await stored.put("bearer", {"msg_1": b"secret words", "fc_2": b"b"})
    asked = ("fc_2", "msg_1", "msg_3")
    assert await stored.get("bearer", asked, 100) == {"msg_1": b"secret words", "fc_2": b"b"}
    assert await stored.get("other", asked, 100) == {}
    stranger = StoredItems(redis, Seal(b"another secret of it"), KEEP)
    assert await stranger.get("bearer", asked, 100) == {}
    for key in await redis.keys("gateway:item:*"):
        assert 3590 < await redis.ttl(key) <= 3600
        held = await redis.get(key)
        assert held is not None
        assert not any(part in key + held for part in (b"msg_1", b"bearer", b"secret words"))


async def test_the_oldest_items_are_removed_first(redis: Redis, seal: Seal) -> None:
    one = 1000 + seal.OVERHEAD
    stored = StoredItems(redis, seal, settings.Responses(max_bytes=3 * one))
    for number in range(5):
        await stored.put("bearer", {f"msg_{number}": b"a" * 1000})
        await stored.put("bearer", {f"msg_{number}": b"a" * 1000})  # of a resumed answer
    everything = [f"msg_{number}" for number in range(5)]
    assert list(await stored.get("bearer", everything, 1 << 30)) == everything[2:]
    assert int(await redis.get(f"gateway:item-bytes:{seal.fingerprint}") or 0) == 3 * one


async def test_items_beyond_a_size_are_not_stored(redis: Redis, seal: Seal) -> None:
    stored = StoredItems(redis, seal, KEEP)
    await stored.put("bearer", {"msg_1": b"a", "fc_2": b"a" * MOST_AT_ONCE, "fc_3": b"a"})
    assert await stored.get("bearer", ["msg_1", "fc_2", "fc_3"], 1 << 30) == {"msg_1": b"a"}


async def test_items_that_have_expired_no_longer_count(redis: Redis, seal: Seal) -> None:
    brief = StoredItems(redis, seal, settings.Responses(keep=0.001))
    for number in range(20):
        await brief.put("bearer", {f"msg_{number}": b"a" * 1000})
    async with asyncio.timeout(30):
        while await redis.keys("gateway:item:*"):
            await asyncio.sleep(0.01)
    lasting = StoredItems(redis, seal, KEEP)
    await lasting.put("bearer", {"msg_x": b"b"})
    await lasting.put("bearer", {"msg_y": b"c"})
    counted = int(await redis.get(f"gateway:item-bytes:{seal.fingerprint}") or 0)
    assert counted == 2 * (1 + seal.OVERHEAD)


async def test_no_more_items_are_read_than_a_request_may_have(redis: Redis, seal: Seal) -> None:
    stored = StoredItems(redis, seal, KEEP)
    items = Items(stored)
    many = {f"msg_{n}": ChatMessage("assistant", "a" * (MOST_AT_ONCE - 100)) for n in range(20)}
    for id, message in many.items():
        await items.store("bearer", {id: message})
    some = {id: f"input[{n}]" for n, id in enumerate(list(many)[:3])}
    found = await items.find("bearer", some)
    assert (list(found.messages), found.messages["msg_0"]) == (list(some), many["msg_0"])
    with pytest.raises(BodyTooLarge):
        await items.find("bearer", dict.fromkeys(many, "input[0]"))
    assert len(await stored.get("bearer", many, MOST_BYTES)) < 20


async def test_items_need_neither_redis_nor_to_be_stored(seal: Seal) -> None:
    away = connect(redis_url("redis://127.0.0.1:1"))
    one = {"msg_1": ChatMessage("assistant", "a")}
    items = Items(StoredItems(away, seal, KEEP))
    await items.store("bearer", one)
    with pytest.raises(LineUnavailable):
        await items.find("bearer", {"msg_1": "input[0]"})
    off = Items(StoredItems(away, seal, settings.Responses(keep=0)))
    await off.store("bearer", one)
    with pytest.raises(UnsupportedParameter) as refused:
        await off.find("bearer", {"msg_1": "input[0]"})
    assert refused.value.param == "input[0]"
    await away.aclose()


@pytest.fixture
def config() -> settings.Settings:
    return settings.Settings(queue=LASTING)


def ask(input: object, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-4", "input": input, "tools": [TOOL], **more}


async def outputs(client: Client, *, stream: bool, **more: Any) -> list[dict[str, Any]]:
    """The output of a response."""
    response = await client.post(RESPONSES, json=ask("hi", stream=stream, **more), headers=BEARER)
    if not stream:
        assert response.status_code == 200
        body: dict[str, Any] = response.json()
        assert body["store"] is (more.get("store") is not False)
    else:
        last = response.text.rstrip().rpartition("data: ")[2]
        body = json.loads(last)["response"]
    found: list[dict[str, Any]] = body["output"]
    return found


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_refers_to_the_items_of_an_earlier_answer(
    client: Client, upstream: ScriptedUpstream, stream: bool
) -> None:
    upstream.script = ([Started("m"), Delta("Let me see."), Delta(CALL), Done("stop")],)
    message, call = await outputs(client, stream=stream)
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "c"}
    said = [{"type": "item_reference", "id": item["id"]} for item in (message, call)]
    again = await client.post(
        RESPONSES, json=ask([{"role": "user", "content": "hi"}, *said, result]), headers=BEARER
    )
    assert again.status_code == 200
    system, *conversation = upstream.asked[-1].messages
    assert system.role == "system"
    assert conversation == [
        Message("user", "hi"),
        Message(
            "assistant",
            'Let me see.\n\n<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>',
        ),
        Message("user", '<tool_result name="f">\nc\n</tool_result>'),
    ]
    other = {"authorization": "Bearer other"}
    refused = await client.post(RESPONSES, json=ask(said), headers=other)
    assert refused.status_code == 404
    error = refused.json()["error"]
    assert error["message"].startswith(f"Item with id '{message['id']}' not found.")
    assert error["param"] == "input[0]"


async def test_an_item_is_not_stored_for_a_client_that_does_not_want_it(
    client: Client, redis: Redis
) -> None:
    (message,) = await outputs(client, stream=False, store=False)
    reference = [{"type": "item_reference", "id": message["id"]}]
    refused = await client.post(RESPONSES, json=ask(reference), headers=BEARER)
    assert refused.status_code == 404
    assert not await redis.keys("gateway:item*")


async def test_an_item_is_stored_before_its_end_is_sent(
    client: Client, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[int] = []
    send = ResponseStream.send

    async def look_and_send(self: ResponseStream, data: bytes) -> None:
        if b"output_item.done" in data:
            stored.append(len(await redis.keys("gateway:item:*")))
        await send(self, data)

    monkeypatch.setattr(ResponseStream, "send", look_and_send)
    await outputs(client, stream=True)
    assert stored == [1]
