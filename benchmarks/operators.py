"""First token of a client while operators watch a long line, and the time of their page's updates.

Jobs wait for accounts of their own that are parked, so that slots are free. The page is open in a
real Chromium, whose own work costs time of this machine, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from statistics import median, quantiles

import aiohttp
from playwright.async_api import Browser, async_playwright

import settings
from benchmarks.first_token import time_first_token
from benchmarks.gateway import Gateway, gateway
from benchmarks.question import OPENAI
from benchmarks.waiting import BUSY, KEYS, SETTINGS, ask, connections, join
from settings.redis_url import redis_url
from wire.line.operator import OperatorLine
from wire.line.scripts import Scripts
from wire.redis.client import connect
from wire.seal import Seal

WAITING = 5_000
SLOTS = 4
READERS = 9
TURNS = 5
QUESTIONS = 10
"""Of each turn, without the page and with it."""

SETTLED = 3.0
"""Seconds for which the page and its readers are open before the first question."""

TARGET, UPDATE_TARGET = 1.1, 100.0
PASSWORD, TOKEN, SECRET = "a long password", "token-of-the-benchmarks", "a secret of the benchmarks"
CHROMIUM = "/usr/bin/chromium"
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

# Time from an event's arrival until the page has been laid out and painted, in ms.
_NOTE_UPDATES = """
window.updates = [];
const listen = EventSource.prototype.addEventListener;
EventSource.prototype.addEventListener = function (name, handler, options) {
    listen.call(this, name, (event) => {
        const began = performance.now();
        handler.call(this, event);
        const end = () => window.updates.push(performance.now() - began);
        requestAnimationFrame(() => setTimeout(end));
    }, options);
};
"""


def main() -> None:
    """Measure and print the results."""
    environ = {
        **SETTINGS,
        "GATEWAY_SECRET": SECRET,
        "GATEWAY__ADMIN__PASSWORD": PASSWORD,
        "GATEWAY__ADMIN__TOKEN": TOKEN,
    }
    with gateway(SLOTS, settings=environ) as running:
        asyncio.run(_measure(running))


async def _measure(running: Gateway) -> None:
    without: list[float] = []
    watched: list[float] = []
    updates: list[float] = []
    async with connections() as connect_client, _browser() as browser:
        busy = [await ask(connect_client, running, f"busy-{n}", BUSY) for n in range(SLOTS)]
        await join(connect_client, running, WAITING)
        await _park(running)
        for client in busy:
            client.leave()
        await _first_tokens(running, QUESTIONS)  # the first ones are slower
        for _ in range(TURNS):
            without += await _first_tokens(running, QUESTIONS)
            async with _watched(running, browser, updates):
                watched += await _first_tokens(running, QUESTIONS)
    print(f"first token in ms, {WAITING} jobs wait for parked accounts, {SLOTS} slots are free")
    for name, times in (("without a page", without), (f"page and {READERS} readers", watched)):
        print(f"  {name:22} median {median(times):7.2f}   p95 {quantiles(times, n=20)[-1]:7.2f}")
    print(f"  {median(watched) / median(without):.2f} times (target: at most {TARGET:g})")
    print(f"  updates of the page: {len(updates)}, ", end="")
    print(f"median {median(updates):.1f} ms, longest {max(updates):.1f} ms", end=" ")
    print(f"(target: at most {UPDATE_TARGET:g})", flush=True)


async def _park(running: Gateway) -> None:
    seal = Seal(SECRET.encode())
    redis = connect(redis_url(running.redis))
    line = OperatorLine(Scripts(redis, seal.fingerprint), settings.Queue())
    for number in range(KEYS):
        await line.pause("account", seal.name("account", f"key-{number}"), "the benchmark")
    await redis.aclose()


async def _first_tokens(running: Gateway, number: int) -> list[float]:
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        return [await time_first_token(session, running.chat, OPENAI) for _ in range(number)]


@asynccontextmanager
async def _browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        await browser.close()


@asynccontextmanager
async def _watched(running: Gateway, browser: Browser, updates: list[float]) -> AsyncIterator[None]:
    """Have the page open, and the other readers, while the context lasts."""
    async with AsyncExitStack() as stack:
        for _ in range(READERS):
            await stack.enter_async_context(_reader(running))
        page = await browser.new_page()
        await page.add_init_script(_NOTE_UPDATES)
        await page.goto(f"{running.url}/admin/line")
        if await page.locator("input[type=password]").count():
            await page.fill("input[name=name]", "the benchmark")
            await page.fill("input[type=password]", PASSWORD)
            async with page.expect_navigation():
                await page.keyboard.press("Enter")
            await page.goto(f"{running.url}/admin/line")
        await asyncio.sleep(SETTLED)
        yield
        updates += await page.evaluate("window.updates")
        await page.close()


@asynccontextmanager
async def _reader(running: Gateway) -> AsyncIterator[None]:
    headers: Mapping[str, str] = {"Authorization": f"Bearer {TOKEN}"}
    timeout = aiohttp.ClientTimeout(total=None)

    async def read() -> None:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{running.url}/admin/api/events", headers=headers) as response,
        ):
            assert response.status == 200, await response.text()
            async for _ in response.content.iter_any():
                pass

    reading = asyncio.create_task(read())
    try:
        yield
        assert not reading.done(), "the events ended"
    finally:
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
