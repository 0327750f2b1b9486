"""Gateway keys on the accounts of the operator at Pandora-Next, some of which fail."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from settings.redis_url import redis_url
from simulator.content import png
from tests.support.chats import Chatting, chatting
from tests.support.gateway import Gateway, post, until
from wire.keyring import Keyring
from wire.redis.client import connect
from wire.seal import Seal

TOKENS = {name: f"pool-secret-{name}" for name in ("one", "two", "dead", "used-up", "busy")}
FRESH = "pool-secret-fresh"
HOUR = 3600


@pytest.fixture
async def chats(loop: asyncio.AbstractEventLoop) -> AsyncIterator[Chatting]:
    async with chatting() as chats:
        yield chats


def write(file: Path, tokens: dict[str, str]) -> None:
    file.write_text("".join(f"{token} {name}\n" for name, token in tokens.items()))


async def issue(gateway: Gateway, number: int) -> list[str]:
    client = connect(redis_url(gateway.redis.url))
    keyring = Keyring(client, Seal(b"the secret of the tests"))
    keys = [(await keyring.new(f"bot-{n}", {}))[0] for n in range(number)]
    await client.aclose()
    return keys


def says(model: str, content: object = "hi") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": content}]}


def draws() -> dict[str, Any]:
    url = f"data:image/png;base64,{base64.b64encode(png(64, 48, 1)).decode()}"
    text = {"type": "text", "text": "[[sim tool=dalle words=3 interval=0]]"}
    return says("gpt-4", [text, {"type": "image_url", "image_url": {"url": url}}])


def reasons(gateway: Gateway) -> str:
    with urllib.request.urlopen(f"{gateway.url}/readyz", timeout=30) as answer:
        return " ".join(json.load(answer)["reasons"])


async def test_three_keys_share_five_accounts_three_of_which_fail(
    tmp_path: Path, chats: Chatting
) -> None:
    file = tmp_path / "accounts"
    write(file, TOKENS)
    with Gateway(tmp_path, upstream__accounts_file=str(file)) as one:
        one.override(upstream__max_concurrency="8", upstream__retries="0")
        one.start(workers=2)
        keys = await issue(one, 3)
        one.reset(words=5, interval=0.01)
        for script in (
            {"bearer": TOKENS["dead"], "error": "token_expired"},
            {"bearer": TOKENS["used-up"], "error": "cap", "model": "gpt-4", "clears_in": HOUR},
            {"bearer": TOKENS["busy"], "error": "busy"},
        ):
            post(f"{one.simulator}/simulator/script", script)
        models = ["gpt-4", "gpt-4", "gpt-3.5-turbo"]
        asked = [chats.start(one.url, keys[n % 3], says(models[n // 3 % 3])) for n in range(24)]
        for _, task in asked:
            await task
        assert all(chat.is_whole for chat, _ in asked), [chat.endings for chat, _ in asked]
        counted = one.stats()
        assert (counted["peak_per_account"], counted["refused"]) == (1, 0)
        assert counted["accounts"] == 3, "the used-up account answered gpt-3.5"
        assert counted["started"] == counted["finished"] == 24
        assert re.search(
            r"4 of 5 accounts of upstream main are left: dead: token refused, again in \d+ s",
            reasons(one),
        )

        # Its account's token is that of uploads, downloads and of the end, too.
        one.reset()
        drawing, task = chats.start(one.url, keys[0], draws())
        await task
        assert drawing.is_whole
        assert "/images/" in drawing.text
        gone, task = chats.start(
            one.url, keys[0], says("gpt-4", "[[sim gate=1 account=websocket]]")
        )
        await asyncio.wait_for(gone.begun.wait(), 30)
        task.cancel()
        await asyncio.to_thread(one.wait_idle)
        counted = one.stats()
        assert [counted[of] for of in ("uploads", "downloads", "stopped")] == [1, 1, 1]

        # Of two accounts, the idle one goes first.
        write(file, {"one": TOKENS["one"], "dead": FRESH})
        until(lambda: "are left" not in reasons(one), 30, "the changed file was not read")
        one.reset(words=3, gate=1)
        pair = [chats.start(one.url, keys[n], says("gpt-4")) for n in range(2)]
        await asyncio.to_thread(until, lambda: one.stats()["active"] == 2, 30, "one waits")
        third = chats.start(one.url, keys[2], says("gpt-4"))
        one.open_gate()
        for chat, task in (*pair, third):
            await task
            assert chat.is_whole
        counted = one.stats()
        assert (counted["accounts"], counted["peak_per_account"]) == (2, 1)

        assert "pool-secret" not in await asyncio.to_thread(everything_shown, one, keys[0])


def everything_shown(gateway: Gateway, key: str) -> str:
    """All that the gateway prints, stores in Redis, and shows to operators and clients."""
    refusing = {"error": "deactivated", "bearer": FRESH}, {"error": "oops", "bearer": TOKENS["one"]}
    for script in refusing:
        post(f"{gateway.simulator}/simulator/script", script)
    shown = [gateway.printed(), *(log.read_text() for log in (gateway.directory / "log").iterdir())]
    request = urllib.request.Request(f"{gateway.url}/v1/chat/completions")
    request.add_header("authorization", f"Bearer {key}")
    request.data = json.dumps(says("gpt-4")).encode()
    with pytest.raises(urllib.error.HTTPError) as failed:
        urllib.request.urlopen(request, timeout=60)
    with failed.value as refused:
        shown.append(refused.read().decode())
    for path in ("readyz", "metrics"):
        with urllib.request.urlopen(f"{gateway.url}/{path}", timeout=30) as answer:
            shown.append(answer.read().decode())
    roles = [psutil.Process(each.pid) for each in (*gateway.workers, *gateway.fronts)]
    shown += [" ".join(role.cmdline()) for role in roles]
    with redis.Redis.from_url(gateway.redis.url) as client:
        shown += [repr((name, client.dump(name))) for name in client.keys("*")]
    stored = (path for path in gateway.redis.directory.rglob("*") if path.is_file())
    shown += [path.read_text(errors="replace") for path in stored]
    return "\n".join(shown)
