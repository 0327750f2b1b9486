"""The clients: each asks once, over real HTTP, and records exactly the response that it gets.

They retry nothing. Each has a deadline of its own, far beyond the time of any answer: a
request that reaches it was lost by the gateway.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import dataclass, field

import aiohttp

from tests.chaos.plan import Request

MODEL = "gpt-4-s"

DEADLINE = 120.0
"""Seconds after which the gateway has certainly lost a request."""


@dataclass
class Front:
    """One front end from its start to its end. A restarted one is another."""

    url: str
    struck: float | None = None
    """Time (monotonic) at which it was stopped or killed."""


@dataclass
class Told:
    """Everything that one client received, in the words of `verdicts.py`. Times are monotonic."""

    request: Request
    front: Front
    began: float
    ended: float = 0.0
    status: int = 0
    job: str = ""
    """The job's id, as soon as the client gets it."""
    text: str = ""
    arrivals: list[float] = field(default_factory=list)
    """Times at which text arrived."""
    done: bool = False
    error: str | None = None
    broken: str | None = None
    """Error of a connection that broke before the end of the answer."""
    reached: bool = True
    """A connection was established."""
    left: bool = False
    hung: bool = False
    nonsense: str | None = None
    """A response that no client should ever get."""

    @property
    def ending(self) -> str:
        """One word for the ending."""
        if self.left:
            return "left"
        if self.hung:
            return "hung"
        if self.done:
            return "whole"
        if self.error is not None:
            return f"error {self.error}" if self.status == 200 else f"{self.status} {self.error}"
        if self.broken is None:
            return "ended without a word"
        return "broken" if self.reached else "not reached"


class Crowd:
    """Makes all requests, at most `at_once` at the same time, in a thread with a loop of its own.

    `up` are the front ends that they may turn to; the storm changes it.
    """

    def __init__(self, requests: list[Request], at_once: int, simulator: str) -> None:
        self.up: list[Front] = []
        self.told: list[Told] = []
        self.open = 0
        self._requests = iter(requests)
        self._at_once = at_once
        self._simulator = simulator
        self._thread = threading.Thread(target=self._run, name="crowd")
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def finished(self) -> bool:
        """Return whether every client has been served or has disconnected.

        Raises failures of the test itself.
        """
        if self._thread.is_alive():
            return False
        if self._failure is not None:
            raise self._failure
        return True

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failure = error

    async def _serve(self) -> None:
        # A connection for each request, to know the requests that the end of a front end breaks.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        timeout = aiohttp.ClientTimeout(total=None)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as http,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(self._at_once):
                group.create_task(self._one_after_another(http))

    async def _one_after_another(self, http: aiohttp.ClientSession) -> None:
        for request in self._requests:
            if request.kind.busy:
                await self._make_busy(http, request)
            while not (up := self.up):
                await asyncio.sleep(0.02)
            told = Told(request, up[request.front % len(up)], time.monotonic())
            self.open += 1
            await ask(http, told)
            self.open -= 1
            self.told.append(told)

    async def _make_busy(self, http: aiohttp.ClientSession, request: Request) -> None:
        script = {"error": "busy", "bearer": request.bearer, "times": 1}
        async with http.post(f"{self._simulator}/simulator/script", json=script) as answer:
            answer.raise_for_status()


async def ask(http: aiohttp.ClientSession, told: Told) -> None:
    """Make one request and follow it to its end."""
    request = told.request
    patience = DEADLINE if request.leave_after is None else request.leave_after
    try:
        async with asyncio.timeout(patience):
            await _ask(http, told)
    except TimeoutError:
        told.left = request.leave_after is not None
        told.hung = not told.left
    except (aiohttp.ClientError, ConnectionError) as error:
        told.broken = f"{type(error).__name__}: {error}"
        told.reached = not isinstance(error, aiohttp.ClientConnectorError)
    told.ended = time.monotonic()


async def _ask(http: aiohttp.ClientSession, told: Told) -> None:
    request = told.request
    body = {
        "model": MODEL,
        "stream": request.stream,
        "messages": [{"role": "user", "content": request.prompt}],
    }
    headers = {"authorization": f"Bearer {request.bearer}"}
    url = f"{told.front.url}/v1/chat/completions"
    async with http.post(url, json=body, headers=headers) as answer:
        told.status = answer.status
        told.job = answer.headers.get("x-queue-id", "")
        if answer.status != 200:
            _take_refusal(told, await answer.read())
        elif request.stream:
            async for line in answer.content:
                _take_line(told, line.decode().strip())
        else:
            told.text = json.loads(await answer.read())["choices"][0]["message"]["content"]
            told.done = True


def _take_refusal(told: Told, body: bytes) -> None:
    try:
        told.error = str(json.loads(body)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        told.nonsense = f"a refusal without an error object: {body[:200]!r}"


def _take_line(told: Told, line: str) -> None:
    if not line.startswith("data: "):
        if line and not line.startswith((":", "id: ")):
            told.nonsense = f"a line that is no SSE of ours: {line[:200]!r}"
        return
    if told.done or told.error is not None:
        told.nonsense = f"after the ending came {line[:200]!r}"
        return
    if line == "data: [DONE]":
        told.done = True
        return
    message = json.loads(line.removeprefix("data: "))
    if "error" in message:
        told.error = str(message["error"]["code"])
        return
    text = "".join(choice["delta"].get("content") or "" for choice in message["choices"])
    if text:
        told.text += text
        told.arrivals.append(time.monotonic())
