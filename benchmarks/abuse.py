"""Delay of a polite key's first token: idle, and while another key floods the gateway."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from statistics import median
from urllib.parse import urlsplit

import aiohttp
import uvloop

from benchmarks.first_token import INTERVAL, WORDS, time_first_token
from benchmarks.gateway import Gateway, gateway
from benchmarks.question import RELAYED, directive, headers
from settings.redis_url import redis_url
from wire.keyring import Keyring
from wire.redis.client import connect
from wire.seal import Seal

CONNECTIONS = 1000
"""Of the abusive key. Each asks again `PAUSE` seconds after a refusal."""

PAUSE = 1.0
QUESTIONS = 50
WARM_UP = 10
SETTLED = 15.0
"""Seconds from the beginning of the flood until the first question: by then it is even."""

TARGET = 2.0
SECRET = "a secret of the benchmarks"
SETTINGS: Mapping[str, str] = {"GATEWAY__AUTH__MODE": "keys", "GATEWAY_SECRET": SECRET}
LIMITS: Mapping[str, Mapping[str, object]] = {
    "60 requests a minute": {"requests_per_minute": 60},
    "10 waiting requests, 1 running": {"max_waiting": 10, "max_running": 1},
}
"""Those that the abusive key meets."""


def main() -> None:
    """Measure with each limit, and print the results."""
    print(f"first token of a polite key in ms, median of {QUESTIONS}, while {CONNECTIONS}")
    print(f"connections of an abusive key ask again {PAUSE:g} s after each refusal")
    for name, limits in LIMITS.items():
        with gateway(slots=4, kind="openai", settings=SETTINGS) as running:
            uvloop.run(_measure(running, name, limits))


async def _measure(running: Gateway, name: str, limits: Mapping[str, object]) -> None:
    redis = connect(redis_url(running.redis))
    keyring = Keyring(redis, Seal(SECRET.encode()))
    polite, _ = await keyring.new("polite", {})
    abusive, _ = await keyring.new("abusive", limits)
    await redis.aclose()
    idle = await _first_tokens(running, polite)
    async with _flood(running, abusive) as answers:
        await asyncio.sleep(SETTLED)
        began, before = time.monotonic(), answers.total()
        flooded = await _first_tokens(running, polite)
        rate = (answers.total() - before) / (time.monotonic() - began)
    statuses = ", ".join(f"{number} x {status}" for status, number in answers.most_common())
    print(f"  limit of {name}: {rate:.0f} answers/s to the abusive key, in all {statuses}")
    print(f"    idle {idle:.2f}, under the flood {flooded:.2f}:", end=" ")
    print(f"{flooded / idle:.2f} times (target: at most {TARGET:g})", flush=True)


async def _first_tokens(running: Gateway, key: str) -> float:
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        times = [
            await time_first_token(session, running.chat, RELAYED, key)
            for _ in range(WARM_UP + QUESTIONS)
        ]
    return median(times[WARM_UP:])


@asynccontextmanager
async def _flood(running: Gateway, key: str) -> AsyncIterator[Counter[int]]:
    """Flood the gateway for as long as the context lasts; yields the number of each status."""
    answers: Counter[int] = Counter()
    tasks = [asyncio.create_task(_keep_asking(running, key, answers)) for _ in range(CONNECTIONS)]
    try:
        yield answers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _keep_asking(running: Gateway, key: str, answers: Counter[int]) -> None:
    body = RELAYED.body(directive(WORDS, INTERVAL))
    fields = {"Host": "bench", **headers(key), "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    request = f"POST {urlsplit(running.chat).path} HTTP/1.1\r\n{head}\r\n".encode() + body
    while True:
        with suppress(ConnectionError):
            answers[await _ask(running, request)] += 1
        await asyncio.sleep(PAUSE)


async def _ask(running: Gateway, request: bytes) -> int:
    """Send a request on a connection of its own, as refusals close theirs; return the status."""
    where = urlsplit(running.chat)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        writer.write(request)
        status = await reader.readline()
        answer = status + await reader.readuntil(b"\r\n\r\n")
        if b" 200 " in status:
            while not answer.endswith(b"0\r\n\r\n"):
                answer = answer[-10:] + await reader.read(65536)
        return int(status.split()[1])
    finally:
        writer.close()
