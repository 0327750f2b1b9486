"""Costs of one job and of one stream, which docs/scaling.md multiplies: memory and CPU time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping

import aiohttp
import psutil
from redis.asyncio import Redis

from benchmarks.cpu import Cpu
from benchmarks.gateway import Gateway, gateway
from benchmarks.question import OPENAI, directive, headers
from benchmarks.waiting import BUSY, SETTINGS, SLOTS, ask, connections, join

WAITING = 2_000
STREAMS, RATE = 300, 20
"""Streams at once, and the tokens per second of each: few for one write, as models answer."""

SETTLE, SECONDS = 2.0, 10.0
SHORT, JOBS, AT_ONCE = 5, 1_000, 50
"""Words of a short answer, the number of them, and of the slots that they share."""

DEADLINE = 300.0


def main() -> None:
    """Measure each, and print the results."""
    print("Costs of one job and of one stream; prompts of a few words")
    for slots, measure in ((SLOTS, _wait), (STREAMS, _stream), (AT_ONCE, _serve)):
        with gateway(slots, settings=SETTINGS) as running:
            asyncio.run(_as_deployed(running, measure))


async def _as_deployed(
    running: Gateway, measure: Callable[[Gateway], Coroutine[None, None, None]]
) -> None:
    """Measure with a Redis that writes to its disk each second, as the files of deploy/ set it."""
    async with Redis.from_url(running.redis) as redis:
        await redis.config_set("appendfsync", "everysec")
    await measure(running)


async def _wait(running: Gateway) -> None:
    async with Redis.from_url(running.redis) as redis, connections() as connect:
        await asyncio.gather(*(ask(connect, running, f"busy-{n}", BUSY) for n in range(SLOTS)))
        before, held = _memory(running), await _used(redis)
        _print("an idle process", "MB", {name: used / 2**20 for name, used in before.items()})
        await join(connect, running, WAITING)
        grown = _grown(running, before, WAITING)
        stored = (await _used(redis) - held) / WAITING / 1024
    _print(f"a job that waits, of {WAITING}", "KB", {**grown, "Redis": stored})


async def _used(redis: Redis) -> float:
    return float((await redis.info("memory"))["used_memory"])


async def _stream(running: Gateway) -> None:
    async with connections() as connect:
        await ask(connect, running, "the-first", directive(SHORT, 0.01))
        before = _memory(running)
        prompt = directive(600, 1 / RATE)
        await asyncio.gather(*(ask(connect, running, f"bot-{n}", prompt) for n in range(STREAMS)))
        await asyncio.sleep(SETTLE)
        cpu, began = Cpu(running.parts), time.monotonic()
        await asyncio.sleep(SECONDS)
        tokens = STREAMS * RATE * (time.monotonic() - began)
        used = {name: 1e6 * spent / tokens for name, spent in cpu.used().items()}
        grown = _grown(running, before, STREAMS)
    del grown["Redis"]  # where a stream takes the bytes of its text
    _print(f"a stream of {RATE} tokens per second, of {STREAMS}", "KB", grown)
    _print("a token of theirs", "us of CPU", used)


async def _serve(running: Gateway) -> None:
    limit = asyncio.Semaphore(2 * AT_ONCE)
    timeout = aiohttp.ClientTimeout(total=DEADLINE)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def serve(number: int) -> None:
            async with limit:
                body = OPENAI.body(directive(SHORT, 0.01))
                key = headers(f"key-{number % 100}")
                async with session.post(running.chat, data=body, headers=key) as response:
                    assert (await response.read()).endswith(b"data: [DONE]\n\n")

        await asyncio.gather(*(serve(n) for n in range(AT_ONCE)))
        cpu = Cpu(running.parts)
        await asyncio.gather(*(serve(n) for n in range(JOBS)))
        used = {name: 1000 * spent / JOBS for name, spent in cpu.used().items()}
    _print(f"a whole job of {SHORT} tokens, of {JOBS}", "ms of CPU", used)


def _memory(running: Gateway) -> dict[str, int]:
    return {name: _resident(part) for name, part in running.parts.items()}


def _resident(part: psutil.Process) -> int:
    return int(part.memory_info().rss)


def _grown(running: Gateway, before: Mapping[str, int], number: int) -> dict[str, float]:
    now = _memory(running)
    return {name: (now[name] - was) / number / 1024 for name, was in before.items()}


def _print(what: str, unit: str, values: Mapping[str, float]) -> None:
    print(f"  {what}, {unit}")
    for name, value in values.items():
        print(f"    {name:12}{value:9.2f}", flush=True)
