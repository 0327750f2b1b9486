"""Made-up keys that the upstream refuses, from outside."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import redis

from tests.support.gateway import Gateway

CHAT = "/v1/chat/completions"
SLOTS = 4
MADE_UP = 150


async def test_made_up_keys_neither_delay_a_good_one_nor_reach_the_upstream_twice(
    gateway: Gateway,
) -> None:
    """All slots are held until everybody waits; then claims are counted, not seconds."""
    held: Any = redis.Redis.from_url(gateway.redis.url)  # redis-py: sync or async
    async with httpx.AsyncClient(
        base_url=gateway.url, timeout=120, limits=httpx.Limits(max_connections=None)
    ) as client:

        async def ask(bearer: str, directive: str = "words=2") -> int:
            prompt = f"[[sim {directive}]]"
            body = {"model": "gpt-4-s", "messages": [{"role": "user", "content": prompt}]}
            headers = {"authorization": f"Bearer {bearer}"}
            return (await client.post(CHAT, json=body, headers=headers)).status_code

        async def flood() -> list[int]:
            return await asyncio.gather(
                *(ask(f"made-up-{n}", "error=no_token") for n in range(MADE_UP))
            )

        async def waiting(count: int) -> None:
            async with asyncio.timeout(60):
                while held.zcard("gateway:waiting:chat") < count:
                    await asyncio.sleep(0.02)

        assert await ask("good") == 200
        holders = [ask(f"holder-{n}", "words=2 gate=1") for n in range(SLOTS)]
        answers = asyncio.gather(*holders)
        async with asyncio.timeout(60):
            while (await asyncio.to_thread(gateway.stats))["active"] < SLOTS:
                await asyncio.sleep(0.02)
        made_up = asyncio.create_task(flood())
        await waiting(MADE_UP)
        good = asyncio.create_task(ask("good"))
        await waiting(MADE_UP + 1)
        seconds, micros = held.time()
        opened = seconds * 1000 + micros // 1000
        await asyncio.to_thread(gateway.open_gate)
        assert await good == 200
        assert await answers == [200] * SLOTS
        assert await made_up == [401] * MADE_UP

        claims = [
            held.hmget(key, "claimed", "state")
            for key in held.scan_iter("gateway:job:*")
            if int(held.hget(key, "claimed") or 0) >= opened
        ]
        [turn] = [int(claimed) for claimed, state in claims if state == b"done"]
        before = [claimed for claimed, _ in claims if int(claimed) < turn]
        assert len(before) <= 4 * SLOTS

        asked = (await asyncio.to_thread(gateway.stats))["errors"]
        assert asked == MADE_UP
        assert await flood() == [401] * MADE_UP
        assert (await asyncio.to_thread(gateway.stats))["errors"] == asked
    held.close()
