"""Delay of the first token: through the idle gateway, compared with the upstream itself."""

from __future__ import annotations

import asyncio
import time
from statistics import median, quantiles

import aiohttp
import uvloop

from benchmarks.gateway import gateway
from benchmarks.question import OPENAI, RELAYED, UPSTREAM, Dialect, answer, directive, headers

PAIRS = 100
WARM_UP = 10
WORDS = 5
INTERVAL = 0.01
TARGETS = {"pandora": 8.0, "openai": 6.0}
"""Milliseconds, by kind of upstream."""


def main() -> None:
    """Measure with each kind of upstream and print the results."""
    _measure("pandora", OPENAI, UPSTREAM)
    _measure("openai", RELAYED, RELAYED)


def _measure(kind: str, dialect: Dialect, upstreams: Dialect) -> None:
    with gateway(slots=4, kind=kind) as running:
        sides = (running.chat, dialect), (running.direct(upstreams), upstreams)
        through, direct = uvloop.run(_times(*sides))
    print(f"time to the first token, {PAIRS} pairs, in milliseconds, upstream of kind {kind}")
    print(f"  {'':12}{'median':>8}{'p95':>8}")
    for name, times in (("gateway", through), ("upstream", direct)):
        print(f"  {name:12}{median(times):8.2f}{quantiles(times, n=20)[-1]:8.2f}")
    later = median(through) - median(direct)
    print(f"  the gateway adds {later:.2f} (target: at most {TARGETS[kind]:.0f})")


async def _times(*sides: tuple[str, Dialect]) -> list[list[float]]:
    times: list[list[float]] = [[] for _ in sides]
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for n in range(WARM_UP + PAIRS):
            pair = [await time_first_token(session, url, dialect) for url, dialect in sides]
            if n >= WARM_UP:
                for all_, one in zip(times, pair, strict=True):
                    all_.append(one)
    return times


async def time_first_token(
    session: aiohttp.ClientSession, url: str, dialect: Dialect, bearer: str = "bench"
) -> float:
    """Return the milliseconds from the question to the first word, and check the whole answer."""
    body = dialect.body(directive(WORDS, INTERVAL))
    stream, first = b"", None
    asked = time.perf_counter()
    async with session.post(url, data=body, headers=headers(bearer)) as response:
        assert response.status == 200, await response.text()
        async for data in response.content.iter_any():
            stream += data
            if first is None and dialect.first_word in stream:
                first = time.perf_counter()
    assert first is not None
    assert dialect.text(stream) == answer(WORDS)
    # The next question finds the gateway idle, and is not in step with anything periodic.
    await asyncio.sleep(0.01)
    return (first - asked) * 1000
