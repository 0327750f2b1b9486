"""Accounts that all keys share, some of which fail, and an upstream that also serves keys' own."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from msgspec.structs import replace

from benchmarks.line import WholeLine
from tests.support.line import ids, new, serve, shared
from tests.support.shared_lanes import CALM, Clock, calm_line, enqueue, fill, finish, take
from wire.jobs import lane_of_family
from wire.line.admission import Accepted, Refused
from wire.line.claims import Claim
from wire.line.offers import Aside, Offer
from wire.redis.client import Redis
from wire.seal import Seal

CHAT = lane_of_family("chat", "gpt_4_s")
SMALL = lane_of_family("chat", "gpt_3_5")
IMAGES = lane_of_family("images", "gpt_4_s")
THREE = ["main/a", "main/b", "main/c"]


@pytest.fixture
async def queue(redis: Redis, seal: Seal) -> WholeLine:
    return await calm_line(redis, seal)


def pool(*accounts: str, slots: int = 1, own: bool = False, most: int = 8) -> Offer:
    lanes = [CHAT, SMALL, IMAGES, *(("chat", "images") if own else ())]
    return shared("main", *lanes, accounts=accounts or THREE, slots=slots, max_concurrency=most)


async def own(queue: WholeLine, id: str, key: str, lane: str = "chat") -> None:
    assert isinstance(await queue.enqueue(new(id, key, lane=lane), b"body"), Accepted)


async def refused(queue: WholeLine, lane: str = CHAT) -> Refused:
    found = await queue.enqueue(new("new", "newcomer", lane=lane, own_slots=0), b"body")
    assert isinstance(found, Refused), found
    return found


async def set_aside(queue: WholeLine, *claims: Claim, pause: float = 0.0) -> None:
    for claim in claims:
        assert await queue.set_aside(claim, "token_refused", "", pause) == "requeued"


# One upstream for keys' own accounts and for shared ones


async def test_an_upstream_serves_own_and_shared_accounts_within_one_cap(
    queue: WholeLine,
) -> None:
    await serve(queue, pool(own=True, most=4))
    for n in range(4):
        await own(queue, f"own-{n}", f"key-{n}")
    await fill(queue, CHAT, *(f"gw-{n}" for n in range(4)), count=2)
    claims = await take(queue, "main")
    assert len(claims) == 4
    held = Counter(claim.on_own_account for claim in claims)
    assert held == {True: 2, False: 2}, "their keys have equal shares"
    assert {claim.account for claim in claims if not claim.on_own_account} < set(THREE)
    await finish(queue, *(claim for claim in claims if claim.on_own_account))
    more = await take(queue, "main")
    assert Counter(claim.on_own_account for claim in more) == {True: 1, False: 1}


async def test_shared_accounts_that_are_full_leave_the_other_slots_to_own_ones(
    queue: WholeLine,
) -> None:
    await serve(queue, pool("main/a", own=True, most=4))
    await fill(queue, CHAT, "gw", count=5)
    assert len(await take(queue, "main")) == 1
    for n in range(5):
        await own(queue, f"own-{n}", f"key-{n}")
    assert len(await take(queue, "main")) == 3, "and its one account is full"


async def test_an_own_account_that_is_busy_delays_no_shared_job_and_the_other_way_round(
    queue: WholeLine,
) -> None:
    await serve(queue, pool("main/a", own=True))
    await own(queue, "own", "key")
    await fill(queue, CHAT, "gw", count=1)
    mine, shared_one = sorted(await take(queue, "main"), key=lambda each: not each.on_own_account)
    assert await queue.cool_down(mine, 30, 60) == "requeued"
    await finish(queue, shared_one)
    await fill(queue, CHAT, "other", count=1)
    (again,) = await take(queue, "main")
    assert again.account == "main/a"
    await set_aside(queue, again)
    await own(queue, "second", "another")
    assert ids(await take(queue, "main")) == ["second"]


async def test_the_forecast_of_a_shared_lane_counts_the_slots_of_its_accounts_alone(
    queue: WholeLine, redis: Redis
) -> None:
    fields = {"n": 50, "mean": 10_000, "square": 1e8}
    kinds = [CHAT, f"{CHAT} gpt_4_s", "chat", "chat gpt_4_s"]
    known = {f"{kind} {name}": value for kind in kinds for name, value in fields.items()}
    await redis.hset("gateway:service", mapping=known)  # type: ignore[misc]  # redis-py: sync or async
    await serve(queue, pool("main/a", "main/b", own=True, most=20))
    await fill(queue, CHAT, *(f"gw-{n}" for n in range(12)), count=1)
    first, second = await take(queue, "main")
    assert 45 <= (await enqueue(queue, "job", "gw", CHAT)).wait <= 75, "two slots"
    await own(queue, "own", "key")
    (place,) = await queue.places(["own"])
    assert place is not None
    assert place.wait == 0, "a slot is free for it"
    await queue.cancel("own")
    await set_aside(queue, first)
    assert 90 <= (await enqueue(queue, "late", "gx", CHAT)).wait <= 160, "one slot"
    await finish(queue, second)


# Accounts that fail


async def test_a_job_of_an_account_that_fails_goes_to_another_one_in_its_old_place(
    queue: WholeLine, redis: Redis
) -> None:
    await serve(queue, pool())
    await fill(queue, CHAT, "one", "two", count=3)
    (first,) = await take(queue, "main", limit=1)
    await set_aside(queue, first)
    claims = await take(queue, "main")
    assert claims[0].id == first.id
    assert {claim.account for claim in claims} == set(THREE) - {first.account}
    (offered,) = await queue.upstreams()
    assert offered.aside == [Aside(first.account, "token_refused", 60.0)]
    assert offered.accounts == dict.fromkeys(THREE, 1)


async def test_an_account_is_set_aside_for_twice_as_long_each_time_until_an_answer_begins(
    queue: WholeLine,
) -> None:
    await serve(queue, pool("main/a", slots=3))
    await fill(queue, CHAT, *"abcde", count=2)
    clock = Clock(queue)
    claims = await take(queue, "main")
    assert len(claims) == 3
    await set_aside(queue, *claims)
    for minutes in (1, 2, 4, 8, 16, 32, 60, 60):
        await clock.advance(60 * minutes - 0.1)
        assert await take(queue, "main") == []
        await clock.advance(0.2)
        (probe,) = await take(queue, "main")
        (tried,) = (await queue.upstreams())[0].aside
        assert tried == Aside("main/a", "token_refused", 0.0)
        if minutes < 60:
            await set_aside(queue, probe)
        else:
            await queue.begin(probe, b"entry", {})
            break
    assert len(await take(queue, "main")) == 2, "all its slots"
    assert (await queue.upstreams())[0].aside == []


async def test_a_time_of_the_upstream_holds_and_failures_at_the_same_time_count_once(
    queue: WholeLine,
) -> None:
    await serve(queue, pool("main/a", slots=3))
    await fill(queue, CHAT, *"abc", count=1)
    claims = await take(queue, "main")
    await set_aside(queue, claims[0], pause=600)
    await set_aside(queue, claims[1])
    assert await queue.cool_down(claims[2], 5, 60) == "requeued"
    assert (await queue.upstreams())[0].aside == [Aside("main/a", "token_refused", 600.0)]


async def test_another_token_wakes_its_account_and_a_refusal_of_the_old_one_means_little(
    queue: WholeLine,
) -> None:
    old, changed = (dict.fromkeys(THREE, token) for token in ("old", "new"))
    offer = replace(pool(slots=2), tokens=old)
    await serve(queue, offer)
    await fill(queue, CHAT, *"abcdefgh", count=1)
    claims = await take(queue, "main", limit=4)
    one, other = [claim for claim in claims if claim.account == claims[0].account][:2]
    assert await queue.set_aside(one, "deactivated", "old") == "requeued"
    assert await queue.park(claims[1], 600) == "requeued"
    await queue.offer(offer)
    assert len((await queue.upstreams())[0].aside) == 1
    await queue.offer(replace(offer, tokens=changed))
    assert (await queue.upstreams())[0].aside == []
    assert await queue.set_aside(other, "deactivated", "old") == "requeued"
    assert (await queue.upstreams())[0].aside == []
    await Clock(queue).advance(1.1)
    held = Counter(claim.account for claim in [*await take(queue, "main"), *claims[2:3]])
    assert held == dict.fromkeys(THREE, 2)


async def test_an_account_that_left_the_list_takes_no_job_and_finishes_those_that_it_has(
    queue: WholeLine, redis: Redis
) -> None:
    await serve(queue, pool("main/a", "main/b"))
    await fill(queue, CHAT, *"abcd", count=1)
    claims = await take(queue, "main")
    gone = next(claim for claim in claims if claim.account == "main/b")
    await queue.offer(pool("main/a"))
    await finish(queue, gone)
    assert await take(queue, "main") == []
    assert await redis.exists("gateway:holds:main/b") == 0


async def test_newcomers_are_refused_until_the_first_account_is_tried_again(
    queue: WholeLine,
) -> None:
    await serve(queue, pool("main/a", "main/b", own=True))
    await fill(queue, CHAT, *"ab", count=1)
    first, second = await take(queue, "main")
    await set_aside(queue, first, pause=40.0)
    await enqueue(queue, "job", "key", CHAT)
    await set_aside(queue, second, pause=90.0)
    assert await refused(queue) == Refused("no_account", 40.0)
    assert await refused(queue, IMAGES) == Refused("no_account", 40.0)
    await own(queue, "own", "another")
    clock = Clock(queue)
    await clock.advance(39.9)
    assert (await refused(queue)).retry_after == pytest.approx(0.1)
    assert ids(await take(queue, "main")) == ["own"]
    await clock.advance(0.2)
    assert len(await take(queue, "main")) == 1
    await enqueue(queue, "returned", "newcomer", CHAT)


async def test_a_used_up_family_is_used_up_for_chats_and_images_of_that_account_alone(
    queue: WholeLine,
) -> None:
    await serve(queue, pool("main/a", "main/b"))
    await enqueue(queue, "image", "one", IMAGES)
    (image,) = await take(queue, "main")
    assert await queue.park(image, 600) == "requeued"
    await queue.cancel("image")
    await fill(queue, CHAT, *"abc", count=1)
    (chat,) = await take(queue, "main")
    assert chat.account != image.account
    await fill(queue, SMALL, *"abc", count=1)
    (small,) = await take(queue, "main")
    assert small.account == image.account


async def test_jobs_whose_time_is_over_before_an_account_has_their_model_again_are_found(
    queue: WholeLine,
) -> None:
    await serve(queue, pool("main/a", "main/b"))
    await fill(queue, CHAT, *"abcd", count=1)
    await fill(queue, SMALL, *"xy", count=1)
    one, other = await take(queue, "main")
    assert {one.lane, other.lane} == {CHAT, SMALL}, "they take turns"
    chat, small = (one, other) if one.lane == CHAT else (other, one)
    assert await queue.park(chat, 10_000) == "requeued"
    assert await queue.spent_jobs(CHAT, 0, 100) == (0, [])
    await finish(queue, small)
    (chat,) = (claim for claim in await take(queue, "main") if claim.lane == CHAT)
    assert await queue.park(chat, 20_000) == "requeued"
    seen, found = await queue.spent_jobs(CHAT, 0, 100)
    assert {id for id, _ in found} == {f"{key}-{CHAT}-0" for key in "abcd"}
    assert seen >= 4
    assert await queue.spent_jobs(CHAT, seen, 100) == (0, [])
    assert await refused(queue) == Refused("model_capped", 10_000.0)


# Jobs that take several slots


async def test_a_job_that_takes_several_slots_gets_them_on_one_account(
    queue: WholeLine,
) -> None:
    offer = replace(pool(most=0), accounts={"main/s": 2, "main/m": 4, "main/l": 10})
    await serve(queue, offer)
    await fill(queue, CHAT, *"abcdefg", count=1)
    held = Counter(claim.account for claim in await take(queue, "main", limit=7))
    assert held == {"main/s": 1, "main/m": 2, "main/l": 4}
    await enqueue(queue, "large", "key", CHAT, slots=5)
    (large,) = await take(queue, "main", limit=5)
    assert large.account == "main/l", "the only one with as many"
    await enqueue(queue, "larger", "key", CHAT, slots=3)
    assert await take(queue, "main") == [], "no part of it runs on another account"
    await finish(queue, large)
    (larger,) = await take(queue, "main")
    assert larger.account == "main/l"
    assert await queue.park(larger, 600) == "requeued"
    assert await take(queue, "main") == [], "it waits for the account that is left to it"


async def test_claims_cost_the_same_however_many_jobs_wait_for_the_accounts(
    queue: WholeLine, redis: Redis
) -> None:
    await serve(queue, pool(own=True, most=4))
    calls = []
    for count in (10, 400):
        await fill(queue, CHAT, *(f"key-{count}-{n}" for n in range(count)), count=1)
        await redis.config_resetstat()
        claims = await take(queue, "main")
        stats = await redis.info("commandstats")
        calls.append(sum(stat["calls"] for stat in stats.values()))
        assert len(claims) == 3
        await finish(queue, *claims)
    assert calls[1] <= calls[0]
    assert CALM.max_waiting > 400


async def test_an_upstream_that_an_older_release_described_is_served_until_it_is_described_again(
    queue: WholeLine, redis: Redis
) -> None:
    """Its records say whether its accounts are keys' own, and nothing of tokens."""
    gpu = shared("gpu", "chat:a", slots=2)
    await serve(queue, pool(own=True, most=4), gpu)
    for name, own_accounts in (("main", 1), ("gpu", 0)):
        said = {"own": bool(own_accounts), "lanes": ["chat:a"], "accounts": {"gpu": 2}}
        record = {"own": own_accounts, "described": msgspec.msgpack.encode(said)}
        await redis.hset(f"gateway:upstream:{name}", mapping=record)  # type: ignore[misc]  # redis-py: sync or async
        await redis.hdel("gateway:account:gpu", "token")  # type: ignore[misc]  # redis-py: sync or async
    await redis.zadd("gateway:later", {"family gpu chat:a": 1.8e12})
    await own(queue, "own", "key")
    await fill(queue, "chat:a", "key", count=1)
    assert len(await queue.upstreams()) == 2
    claims = await take(queue, "main", "gpu")
    assert {claim.account for claim in claims} == {"key", "gpu"}
    await queue.offer(gpu)
    await finish(queue, *claims)
    await fill(queue, "chat:a", "other", count=1)
    assert len(await take(queue, "gpu")) == 1
