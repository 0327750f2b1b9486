"""`python -m tests.browser.screenshots`: pictures of the page, for the documentation.

They show a real gateway with a made-up load and a made-up history, in `docs/images`.
"""

from __future__ import annotations

import asyncio
import io
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import msgspec
import redis
from PIL import Image
from playwright.sync_api import Browser, Page

from settings.redis_url import redis_url
from tests.support import boards
from tests.support.browser import PASSWORD, Visit, chromium
from tests.support.gateway import Gateway
from wire.keyring import Keyring
from wire.line import keys
from wire.redis.client import connect
from wire.seal import Seal

IMAGES = Path(__file__).parents[2] / "docs" / "images"

LARGEST = 150_000
"""Bytes of a picture."""

GPT, MINI, LLAMA = "gpt-4o", "gpt-4o-mini", "llama-3.1-8b-instruct"

NAMES: dict[str, dict[str, object]] = {
    "telegram-bot": {"weight": 2.0, "max_running": 4},
    "翻译机器人": {"budget_unit": "tokens", "budget_day": 50_000.0},
    "customer-support": {"requests_per_minute": 600, "priority": "priority"},
    "nightly-batch": {"weight": 0.5, "priority": "flex", "models": (MINI, LLAMA)},
    "discord-bot": {},
    "old-website": {},
}
"""Gateway keys, with their limits."""


class Shot(NamedTuple):
    """A picture of a view."""

    name: str
    path: str
    theme: str = "light"
    language: str = "en"
    width: int = 1280
    height: int = 860
    scale: float = 1.0


SHOTS = (
    Shot("page-overview", ""),
    Shot("page-overview-dark", "", "dark"),
    Shot("page-overview-zh", "", "light", "zh"),
    Shot("page-line", "/line", height=940),
    Shot("page-line-zh-dark", "/line", "dark", "zh", height=940),
    Shot("page-keys", "/keys", height=560),
    Shot("page-upstreams-dark", "/upstreams", "dark", height=620),
    Shot("page-processes", "/processes", height=440),
    Shot("page-job", "/jobs/{job}", height=620),
    Shot("page-audit-zh", "/audit", "light", "zh", height=480),
    Shot("page-phone", "", width=360, height=780, scale=2),
    Shot("page-phone-line-zh-dark", "/line#waiting", "dark", "zh", 360, 780, 2),
)


@contextmanager
def busy_gateway(directory: Path) -> Iterator[Gateway]:
    """A gateway with two upstreams, one of which has several accounts, and a day's history."""
    accounts = ", ".join(f'"secret-of-{name} {name} 2"' for name in ("alice", "bob", "carol"))
    with Gateway(
        directory,
        simulator=("--kind", "openai", "--models", f"{GPT},{MINI}"),
        upstream__kind="openai",
        upstream__accounts=f"[{accounts}]",
        upstream__max_concurrency="6",
        auth__mode="keys",
        admin__password=PASSWORD,
    ) as gateway:
        _, gpu = gateway.start_simulator("--kind", "openai", "--models", LLAMA)
        gateway.override(upstreams__gpu__base_url=gpu, upstreams__gpu__kind="openai")
        write_history(gateway)
        yield gateway.start(workers=2, processes=2)


def write_history(gateway: Gateway) -> None:
    """Write the figures of the last day."""
    shift = int(time.time()) // 60 * 60 - int(boards.NOW)
    with redis.Redis.from_url(gateway.redis.url) as client:
        for minute in boards.history():
            at = minute.at + shift
            moved = msgspec.structs.replace(minute, at=at)
            client.hset(keys.history, f"minute {at // 60 % 1440}", msgspec.msgpack.encode(moved))


async def issue(gateway: Gateway) -> dict[str, str]:
    """Issue the keys, and return them by their names."""
    client = connect(redis_url(gateway.redis.url))
    keyring = Keyring(client, Seal(b"the secret of the tests"))
    issued = {name: await keyring.new(name, fields) for name, fields in NAMES.items()}
    await keyring.revoke(issued["old-website"][1].id)
    await client.aclose()
    return {name: key for name, (key, _) in issued.items()}


class Load:
    """Clients that ask, each in a thread of its own."""

    def __init__(self, gateway: Gateway, keys: dict[str, str]) -> None:
        self._url = f"{gateway.url}/v1/chat/completions"
        self._keys = keys
        self._pool = ThreadPoolExecutor(80)

    def ask(self, name: str, model: str, script: str, times: int = 1) -> None:
        """Ask several times with a key."""
        for _ in range(times):
            self._pool.submit(self._ask, name, model, script)

    def _ask(self, name: str, model: str, script: str) -> None:
        body = {
            "model": model,
            "stream": True,
            "messages": [{"role": "user", "content": f"[[sim {script}]]"}],
        }
        headers = {"authorization": f"Bearer {self._keys[name]}"}
        with httpx.stream("POST", self._url, json=body, headers=headers, timeout=600) as answer:
            for _ in answer.iter_lines():
                pass

    def close(self) -> None:
        """Stop asking."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def fill(load: Load) -> None:
    """Ask what the pictures show."""
    for name in ("telegram-bot", "翻译机器人", "customer-support", "discord-bot"):
        load.ask(name, MINI, "words=60 interval=0.01", 6)
    time.sleep(4)
    load.ask("discord-bot", GPT, "error=rate")
    time.sleep(1)
    slow = "words=3000 interval=0.05"
    load.ask("telegram-bot", GPT, slow, 7)
    load.ask("翻译机器人", LLAMA, slow, 4)
    load.ask("customer-support", MINI, slow, 5)
    load.ask("nightly-batch", LLAMA, slow, 6)
    load.ask("discord-bot", GPT, slow, 3)


def act(page: Page, visit: Visit) -> None:
    """Do what the audit log shows."""
    page = visit.open("/upstreams")
    page.get_by_label("Park main/carol").click()
    page.click("main button")
    page = visit.open("/keys")
    page.get_by_label("Pause nightly-batch").click()
    page.select_option("#seconds", "3600")
    page.click("main button")


def take(browser: Browser, visit: Visit, shot: Shot) -> None:
    """Take a picture, and store it with few colours."""
    page = visit.page
    page.set_viewport_size({"width": shot.width, "height": shot.height})
    page.goto(visit.url)
    page.click(".menu summary")
    page.click(f"button[value={shot.theme}]")
    page.click(".menu summary")
    page.click(f"button[value={shot.language}]")
    job = ""
    if "{job}" in shot.path:
        page = visit.open("/line")
        job = page.locator("#running tr[data-key]").first.get_attribute("data-key") or ""
    page = visit.open(shot.path.format(job=job))
    page.wait_for_timeout(1500)
    small = next(
        data
        for colours in (256, 128, 64, 32, 16)
        if len(data := reduced(page.screenshot(), colours)) <= LARGEST
    )
    (IMAGES / f"{shot.name}.png").write_bytes(small)
    print(f"{shot.name}.png {len(small) // 1000} KB")


def reduced(picture: bytes, colours: int) -> bytes:
    """Return a PNG with few colours."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    file = io.BytesIO()
    image.quantize(colours, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()


def main(shots: Sequence[Shot] = SHOTS) -> None:
    """Take all pictures."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, busy_gateway(Path(folder)) as gateway:
        load = Load(gateway, asyncio.run(issue(gateway)))
        fill(load)
        with chromium() as browser:
            for scale in sorted({shot.scale for shot in shots}):
                visit = Visit(
                    browser, gateway.url, device_scale_factor=scale, reduced_motion="reduce"
                )
                visit.sign_in()
                if scale == 1:
                    act(visit.page, visit)
                for shot in shots:
                    if shot.scale == scale:
                        take(browser, visit, shot)
                visit.close()
        load.close()


if __name__ == "__main__":
    main()
