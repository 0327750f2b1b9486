"""Limits of gateway keys, with real processes."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import aiohttp
import msgspec

from settings.redis_url import redis_url
from tests.support.gateway import Gateway, serving
from wire.jobs import Sort
from wire.keyring import Keyring
from wire.line import keys, metrics
from wire.redis.client import Redis, connect
from wire.seal import Seal

REQUESTS = 1000
LIMIT = 60
FRONTS = 3
MINUTE = 60_000
LOST = "lost"
"""Outcome of a request whose front end was killed."""


BODY = b'{"model":"tiny","messages":[{"role":"user","content":"[[sim words=3]]"}]}'


async def ask(session: aiohttp.ClientSession, url: str) -> str:
    """Return the outcome of one request: its status, or the code of its error."""
    try:
        async with session.post(f"{url}/v1/chat/completions", data=BODY) as answer:
            received = await answer.read()
    except aiohttp.ClientError:
        return LOST
    return "200" if answer.status == 200 else str(msgspec.json.decode(received)["error"]["code"])


async def accepted(redis: Redis) -> int:
    """Number of jobs that Redis has counted as accepted."""
    return sum((await metrics.read(redis)).counters["gateway_jobs_total"].values())


async def endings(redis: Redis) -> Counter[str]:
    """Number of endings of jobs, by reason."""
    chat: Sort = "chat"
    counted = (await metrics.read(redis)).counters["gateway_endings_total"]
    return Counter({reason: number for (lane, reason), number in counted.items() if lane == chat})


async def most_accepted(redis: Redis, id: str) -> int:
    """Number of requests that the limit allows until now, in any one window."""
    [(_, first)] = await redis.zrange(keys.recent(id), 0, 0, withscores=True)
    seconds, micros = await redis.time()
    return LIMIT * (1 + int(seconds * 1000 + micros // 1000 - first) // MINUTE)


async def flood(gateway: Gateway, redis: Redis, key: str) -> Counter[str]:
    """Outcomes of all requests at once; a front end is killed in between."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=120),
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
    ) as session:
        asked = [
            asyncio.ensure_future(ask(session, gateway.urls[n % FRONTS])) for n in range(REQUESTS)
        ]
        async with asyncio.timeout(60):
            while await accepted(redis) < LIMIT // 3:
                await asyncio.sleep(0.01)
        for process in serving(gateway.fronts[0]):
            process.kill()
        return Counter(await asyncio.gather(*asked))


async def test_a_thousand_requests_over_three_front_ends_are_sixty_jobs_though_one_is_killed(
    tmp_path: Path,
) -> None:
    with Gateway(
        tmp_path,
        simulator=("--kind", "openai", "--slots", "8"),
        upstream__kind="openai",
        auth__mode="keys",
        queue__lease="3",
        queue__heartbeat="0.75",
    ) as gateway:
        gateway.start(fronts=FRONTS)
        redis = connect(redis_url(gateway.redis.url))
        keyring = Keyring(redis, Seal(gateway.environ["GATEWAY_SECRET"].encode()))
        key, record = await keyring.new("bot", {"requests_per_minute": LIMIT})
        outcomes = await flood(gateway, redis, key)
        number = await accepted(redis)
        assert LIMIT <= number <= await most_accepted(redis, record.id)
        assert set(outcomes) <= {"200", "rate_limit_exceeded", LOST}
        assert number - outcomes[LOST] <= outcomes["200"] <= number
        async with asyncio.timeout(60):  # those of the dead front end end too
            while (ended := await endings(redis)).total() < number:
                await asyncio.sleep(0.1)
        assert ended.total() == number
        assert gateway.stats()["started"] == ended["done"]
        await redis.aclose()
