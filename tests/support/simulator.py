"""A simulator in the test's own loop, a client of it, and the reading of its streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from simulator.accounts import Limits
from simulator.server import serve

RECORDED = Path(__file__).parents[3] / "shared" / "recorded" / "simatwa-20231215-resp.sse"
FAST = "interval=0 delay=0"


class Caller:
    """Speaks to one simulator."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self.http = http
        self.url = url

    def say(
        self, text: str, bearer: str | None = "alice", **more: object
    ) -> Any:  # aiohttp's own request context, used as `async with`
        message = {
            "id": "user-1",
            "author": {"role": "user"},
            "content": {"content_type": "text", "parts": [text]},
            "metadata": {},
        }
        payload = {"action": "next", "messages": [message], "model": "gpt-4"} | more
        return self.http.post(
            f"{self.url}/backend-api/conversation",
            json=payload,
            headers={"Authorization": f"Bearer {bearer}"} if bearer else {},
        )

    async def read(self, text: str, bearer: str = "alice") -> bytes:
        async with self.say(text, bearer) as response:
            assert response.status == 200
            body: bytes = await response.read()
            return body

    async def stats(self) -> dict[str, int]:
        async with self.http.get(f"{self.url}/simulator/stats") as response:
            stats: dict[str, int] = await response.json()
            return stats

    async def control(self, path: str, body: object) -> tuple[int, dict[str, Any]]:
        async with self.http.post(f"{self.url}/simulator/{path}", json=body) as response:
            return response.status, await response.json()

    async def until(self, fits: Callable[[dict[str, int]], bool]) -> dict[str, int]:
        """Ask for the counters until they fit."""
        async with asyncio.timeout(30):
            while not fits(stats := await self.stats()):
                await asyncio.sleep(0.01)
            return stats


@asynccontextmanager
async def calling(limits: Limits | None = None, prefix: str = "") -> AsyncIterator[Caller]:
    async with serve(limits, prefix=prefix) as url, aiohttp.ClientSession() as http:
        yield Caller(http, url + (f"/{prefix}" if prefix else ""))


def blocks(body: bytes) -> list[str]:
    return [block.removeprefix("data: ") for block in body.decode().split("\n\n") if block]


def events(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(block) for block in blocks(body) if block.startswith("{")]


def texts(body: bytes, status: str = "in_progress") -> list[str]:
    messages = [e["message"] for e in events(body) if e.get("message")]
    parts = [m["content"]["parts"] for m in messages if m["status"] == status]
    return [part[0] for part in parts if part]


def shape(value: Any) -> Any:
    """The keys in their order and the kinds of values; words that carry meaning stay."""
    match value:
        case dict():
            kept = {"role", "content_type", "status", "recipient", "type", "timestamp_"}
            return [(k, v if k in kept else shape(v)) for k, v in value.items()]
        case list():
            return [shape(item) for item in value]
        case bool() | None:
            return value
        case _:
            return type(value).__name__


def messages(body: bytes) -> list[dict[str, Any]]:
    return [event["message"] for event in events(body) if event.get("message")]


def finals(body: bytes) -> list[dict[str, Any]]:
    """The last event of each message, in the order in which the messages began."""
    return settled(messages(body))


def settled(every: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({message["id"]: message for message in every}.values())


def text(message: dict[str, Any]) -> str:
    content = message["content"]
    return str(content["parts"][0] if "parts" in content else content["text"])


def gizmo_mode(gizmo_id: str = "g-abc", **more: object) -> dict[str, Any]:
    whole = {"gizmo": {"id": gizmo_id}, "tools": [], "files": []}
    mode = {"kind": "gizmo_interaction", "gizmo_id": gizmo_id, "gizmo": whole} | more
    return {"model": "gpt-4-gizmo", "conversation_mode": mode}


def confirm(caller: Caller, asked: dict[str, Any], choice: str, **changed: object) -> Any:
    """The POST of the client that answers an action's question."""
    message = asked["message"]
    (action,) = [
        a
        for a in message["metadata"]["jit_plugin_data"]["from_server"]["body"]["actions"]
        if a["type"] == choice
    ] or [{choice: {"target_message_id": message["id"]}}]
    given = action[choice] | changed
    target = given.pop("target_message_id")
    answer = {"data": {"type": choice, **given}, "target_message_id": target}
    tool = {
        "id": "tool-1",
        "author": {"role": "tool", "name": message["author"]["name"].partition(".")[0]},
        "content": {"content_type": "text", "parts": [""]},
        "recipient": "all",
        "metadata": {"jit_plugin_data": {"from_client": {"user_action": answer}}},
    }
    return caller.say(
        "",
        messages=[tool],
        conversation_id=asked["conversation_id"],
        parent_message_id=message["id"],
        **gizmo_mode(gizmo={}),
    )
