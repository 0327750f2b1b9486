"""Information about GPTs from the upstream, kept in Redis, and used in conversations."""

from __future__ import annotations

import asyncio

import pytest

from runtime.tasks import background
from tests.support.pandora import code, collect, job, new_pandora, simulated, text
from wire.gpts import EVERYBODY, KEPT, GptInfos
from wire.redis.client import Redis
from wire.seal import Seal
from workers.pandora.backend import Backend
from workers.pandora.gpts import Gpts
from workers.upstream import UpstreamError

ASK = "[[sim words=2 interval=0 delay=0]]"
GPT = job(ASK, "gpt_4_gizmo", gpt="g-abc")


@pytest.fixture
def infos(redis: Redis, seal: Seal) -> GptInfos:
    return GptInfos(redis, seal, refresh=3600)


@pytest.mark.parametrize(("key", "whose"), [("", "alice"), ("key-for-info", EVERYBODY)])
async def test_the_info_about_a_gpt_is_fetched_once_and_sent_back_whole(
    infos: GptInfos, key: str, whose: str
) -> None:
    """The simulator refuses a GPT's model that comes without its info."""
    async with simulated() as (caller, session):
        pandora = new_pandora(
            session, caller.url, gpts=Gpts(Backend(session, caller.url), infos, key)
        )
        for _ in range(2):
            assert text(await collect(pandora, GPT)) == "w0 w1"
        assert (await caller.stats())["gizmos"] == 1
        known = await infos.get(whose, "g-abc")
        assert known is not None
        assert b'"short_url"' in known[0]
        assert await infos.get("bob" if whose else "alice", "g-abc") is None


async def test_the_info_about_a_gpt_is_refreshed_and_used_further_if_the_upstream_fails(
    redis: Redis, seal: Seal
) -> None:
    infos = GptInfos(redis, seal, refresh=3600)

    async def refresh_is_due() -> None:
        """Age the info by the time that it may be used without asking again."""
        (key,) = await redis.keys("gateway:gpt:*")
        await redis.pexpire(key, round(KEPT * 1000))

    async with simulated() as (caller, session):
        gpts = Gpts(Backend(session, caller.url), infos)
        await gpts.find("g-abc", "alice")
        await refresh_is_due()
        await gpts.find("g-abc", "alice")
        assert (await caller.stats())["gizmos"] == 2
        await refresh_is_due()
        elsewhere = Gpts(Backend(session, "http://127.0.0.1:1"), infos)
        assert (await elsewhere.find("g-abc", "alice")).id == "g-abc"
        assert await infos.missed("alice", ["g-abc"]) == set()


@pytest.mark.parametrize("fault", ["404", "html"])
async def test_an_unreachable_gpt_fails_its_job_and_is_marked_until_it_is_reachable_again(
    infos: GptInfos, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    async with simulated() as (caller, session):
        gpts = Gpts(Backend(session, caller.url), infos)
        pandora = new_pandora(session, caller.url, gpts=gpts)
        await caller.control("script", {"bearer": "alice", "gizmo": fault})
        events = await collect(pandora, GPT)
        assert (len(events), code(events)) == (1, "gpt_unreachable")
        assert "g-abc" in [vars(record).get("gpt") for record in caplog.records]
        assert await infos.missed("alice", ["g-abc", "g-other"]) == {"g-abc"}
        assert await infos.missed("bob", ["g-abc"]) == set()
        assert (await caller.stats())["started"] == 0
        await caller.control("reset", {})
        assert text(await collect(pandora, GPT)) == "w0 w1"
        assert await infos.missed("alice", ["g-abc"]) == set()


@pytest.mark.parametrize("key", ["", "key-for-info"])
async def test_an_unreachable_upstream_is_a_passing_failure_of_a_gpt_job(
    infos: GptInfos, key: str
) -> None:
    """It was taken for a GPT that is gone, and the job was not retried."""
    async with simulated() as (_, session):
        gpts = Gpts(Backend(session, "http://127.0.0.1:1"), infos, key)
        with pytest.raises(UpstreamError) as caught:
            await gpts.find("g-abc", "alice")
    assert caught.value.passing
    assert caught.value.failed.fault == "upstream_down"


async def test_with_key_for_info_a_worker_fetches_every_gpt_and_retries_the_missing_ones(
    infos: GptInfos,
) -> None:
    async with simulated() as (caller, session), asyncio.timeout(30):
        await caller.control("script", {"bearer": "key-for-info", "gizmo": "404"})
        gpts = Gpts(Backend(session, caller.url), infos, "key-for-info")
        async with background(gpts.keep_asking(["g-abc", "g-other"], retry=0.05)):
            while await infos.missed("any bearer", ["g-abc", "g-other"]) != {"g-abc", "g-other"}:
                await asyncio.sleep(0.01)
            await caller.control("reset", {})
            while await infos.get(EVERYBODY, "g-other") is None:
                await asyncio.sleep(0.01)
        assert await infos.missed("any bearer", ["g-abc", "g-other"]) == set()
        assert (await caller.stats())["gizmos"] == 2


async def test_the_info_about_a_gpt_is_sealed_in_redis(infos: GptInfos, redis: Redis) -> None:
    await infos.put("fk-secret", "g-abc", b'{"gizmo": {"id": "g-abc"}}')
    (key,) = await redis.keys("*")
    value = await redis.get(key)
    assert b"g-abc" not in key + value
    assert b"secret" not in key
