"""Bots that stream answers, and predicates on what they received."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import msgspec


class Told(msgspec.Struct):
    """Everything that a streaming client has received."""

    text: str = ""
    done: bool = False
    error: str | None = None
    status: int = 0

    @property
    def ended(self) -> bool:
        return self.done or self.error is not None


class Client:
    """A bot that streams one answer in a thread of its own."""

    def __init__(self, pool: ThreadPoolExecutor, url: str, prompt: str, bearer: str) -> None:
        self.told = Told()
        self.begun = threading.Event()
        self._left = threading.Event()
        self._future: Future[None] = pool.submit(self._stream, url, prompt, bearer)

    def result(self, timeout: float = 60.0) -> Told:
        self._future.result(timeout)
        return self.told

    def leave(self) -> None:
        """Read no further than the next line."""
        self._left.set()

    def _stream(self, url: str, prompt: str, bearer: str) -> None:
        body = {
            "model": "gpt-4-s",
            "stream": True,
            "messages": [{"role": "user", "content": prompt}],
        }
        headers = {"authorization": f"Bearer {bearer}"}
        with httpx.stream(
            "POST", f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60
        ) as answer:
            self.told.status = answer.status_code
            if answer.status_code != 200:
                self.told.error = json.loads(answer.read())["error"]["code"]
                return
            for line in answer.iter_lines():
                if self._left.is_set():
                    return
                self._take(line)

    def _take(self, line: str) -> None:
        if not line.startswith("data: "):
            return
        assert not self.told.ended, "something came after the ending"
        if line == "data: [DONE]":
            self.told.done = True
            return
        message = json.loads(line.removeprefix("data: "))
        if "error" in message:
            self.told.error = message["error"]["code"]
            return
        for choice in message["choices"]:
            self.told.text += choice["delta"].get("content", "")
        if self.told.text:
            self.begun.set()


Ask = Callable[..., Client]


def words(count: int) -> str:
    return " ".join(f"w{n}" for n in range(count))


def is_whole(told: Told, count: int) -> bool:
    return told.done and told.error is None and told.text == words(count)


def is_torn_and_says_so(told: Told, count: int) -> bool:
    return bool(not told.done and told.error and words(count).startswith(told.text))
