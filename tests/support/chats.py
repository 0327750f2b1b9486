"""Clients of a gateway that stream an answer, many of them in one loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass
class Chat:
    """One streamed answer, as far as its client has received it."""

    status: int = 0
    messages: list[dict[str, Any]] = field(default_factory=list)
    endings: list[str] = field(default_factory=list)
    """`[DONE]`, the codes of errors, and `broken off` if the connection ended in the middle."""
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def text(self) -> str:
        """The text of the first choice."""
        return self.said(0)

    @property
    def is_whole(self) -> bool:
        """True after one ending, which is that of a complete answer."""
        return self.endings == ["[DONE]"]

    def said(self, index: int) -> str:
        """Return the text of a choice."""
        choices = [choice for message in self.messages for choice in message.get("choices", ())]
        deltas = [choice["delta"] for choice in choices if choice["index"] == index]
        return "".join(delta.get("content") or "" for delta in deltas)

    def take(self, line: str) -> None:
        """Take a line of the stream."""
        if not line.startswith("data: "):
            return
        if line == "data: [DONE]":
            self.endings.append("[DONE]")
            return
        message = json.loads(line.removeprefix("data: "))
        if "error" in message:
            self.endings.append(str(message["error"]["code"]))
            return
        self.messages.append(message)
        if not self.begun.is_set() and self.text:  # once: a client that is slow loses its slot
            self.begun.set()


class Chatting:
    """Starts chats at a gateway."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    def start(self, url: str, key: str, body: dict[str, Any]) -> tuple[Chat, asyncio.Task[None]]:
        """Start a chat. Cancelling its task closes the connection."""
        chat = Chat()
        return chat, asyncio.create_task(self._stream(chat, url, key, body))

    async def _stream(self, chat: Chat, url: str, key: str, body: dict[str, Any]) -> None:
        headers = {"authorization": f"Bearer {key}"}
        request = {"model": "tiny-llama", "stream": True, **body}
        path = f"{url}/v1/chat/completions"
        try:
            async with self._http.stream("POST", path, json=request, headers=headers) as answer:
                chat.status = answer.status_code
                if answer.status_code != 200:
                    chat.endings.append(json.loads(await answer.aread())["error"]["code"])
                async for line in answer.aiter_lines():
                    chat.take(line)
        except httpx.TransportError:
            chat.endings.append("broken off")
        if not chat.endings:
            chat.endings.append("no ending")


@asynccontextmanager
async def chatting() -> AsyncIterator[Chatting]:
    """Start chats for as long as the context lasts; then those still open are left."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=120, limits=limits) as http:
        yield Chatting(http)
