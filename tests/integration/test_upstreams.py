"""Several upstreams in one line, with accounts that all keys share, and a lane for each model."""

from __future__ import annotations

from collections import Counter

import pytest
from msgspec.structs import replace

from benchmarks.line import WholeLine
from tests.support.line import ENTRY, ids, new, serve, shared
from tests.support.shared_lanes import Clock, calm_line, enqueue, fill, finish, take
from wire import VERSION
from wire.jobs import lane_name, lane_of_any, lane_of_family
from wire.line.admission import Accepted, Refused
from wire.line.claims import Claim
from wire.line.offers import LiveUpstream, Offer
from wire.line.presence import Presence
from wire.redis.client import Redis
from wire.seal import Seal

PRESENCE = Presence("w", VERSION, "fingerprint", 100, ("main", "gpu"))


@pytest.fixture
async def queue(redis: Redis, seal: Seal) -> WholeLine:
    return await calm_line(redis, seal)


async def served(queue: WholeLine, jobs: int, *offers: Offer, length: float = 10.0) -> list[Claim]:
    """Run that many jobs of one length, in all slots of the upstreams; return them in order."""
    clock, done = Clock(queue), list[Claim]()
    names = [offer.upstream for offer in offers]
    while len(done) < jobs:
        claims = await take(queue, *names)
        assert claims
        done += claims
        await clock.advance(length)
        await finish(queue, *claims)
    return done


async def test_a_lone_key_fills_all_slots_and_none_more(queue: WholeLine) -> None:
    await serve(queue, shared("gpu", "chat:a", slots=3))
    await fill(queue, "chat:a", "lone", count=5)
    claims = await take(queue, "gpu")
    assert len(claims) == 3
    assert {(each.upstream, each.account, each.key) for each in claims} == {("gpu", "gpu", "lone")}
    assert await take(queue, "gpu") == []
    await finish(queue, claims[0])
    assert len(await take(queue, "gpu")) == 1


async def test_a_key_with_a_cap_holds_no_more_than_that_and_blocks_nobody(
    queue: WholeLine,
) -> None:
    await serve(queue, shared("gpu", "chat:a", "chat:b", slots=10))
    for n in range(5):
        await enqueue(queue, f"a-{n}", "capped", "chat:a", key_slots=2)
        await enqueue(queue, f"b-{n}", "capped", "chat:b", key_slots=2)
    await fill(queue, "chat:a", "other", count=3)
    held = Counter(each.key for each in await take(queue, "gpu"))
    assert held == {"capped": 2, "other": 3}


async def test_the_emptiest_account_gets_the_job_and_one_that_cools_down_gets_none(
    queue: WholeLine,
) -> None:
    await serve(queue, shared("relay", "chat:a", accounts=["first", "second"], slots=2))
    await fill(queue, "chat:a", "key", count=9)
    one, two = await take(queue, "relay", limit=2)
    assert {one.account, two.account} == {"first", "second"}
    assert await queue.cool_down(one, 30, 60) == "requeued"
    (again,) = await take(queue, "relay")
    assert (again.id, again.account) == (one.id, two.account)
    clock = Clock(queue)
    await clock.advance(31)
    (later,) = await take(queue, "relay")
    assert later.account == one.account, "with the half of its slots"
    assert await take(queue, "relay") == []


async def test_a_retry_time_of_the_upstream_is_kept_to_the_second(queue: WholeLine) -> None:
    await serve(queue, shared("api", "chat:a", slots=4))
    await fill(queue, "chat:a", "key", count=2)
    (claimed,) = await take(queue, "api", limit=1)
    assert await queue.cool_down(claimed, 5, 60, pause=7.0) == "requeued"
    clock = Clock(queue)
    await clock.advance(6.9)
    assert await take(queue, "api") == []
    await clock.advance(0.2)
    assert ids(await take(queue, "api"))[0] == claimed.id


async def test_an_upstream_that_is_slow_takes_no_place_of_another_on_a_worker(
    queue: WholeLine,
) -> None:
    await serve(queue, shared("slow", "chat:a", slots=4), shared("quick", "chat:b", slots=4))
    await fill(queue, "chat:a", "one", count=4)
    await fill(queue, "chat:b", "two", count=4)
    both = ("slow", "quick")
    claims = await queue.claim("w", 2, both)
    assert Counter(claim.upstream for claim in claims) == {"slow": 2, "quick": 2}
    claims = await queue.claim("w", 2, both, held={"slow": 2, "quick": 1})
    assert [claim.upstream for claim in claims] == ["quick"]
    assert await queue.claim("w", 2, both, held={"slow": 2, "quick": 2}) == []


async def test_a_parked_model_blocks_neither_other_models_nor_other_accounts(
    queue: WholeLine,
) -> None:
    offers = [shared("gpu", "chat:a", "chat:b"), shared("box", "chat:a")]
    await serve(queue, *offers)
    await fill(queue, "chat:a", "x", "y", count=2)
    await fill(queue, "chat:b", "z", count=2)
    parked = next(each for each in await take(queue, "gpu") if each.lane == "chat:a")
    assert await queue.park(parked, 600) == "requeued"
    (other,) = await take(queue, "gpu")
    assert other.lane == "chat:b"
    assert {each.lane for each in await take(queue, "box")} == {"chat:a"}


async def test_full_upstreams_and_parked_models_are_not_looked_at_job_by_job(
    queue: WholeLine, redis: Redis
) -> None:
    await serve(queue, shared("gpu", "chat:a", "chat:b", slots=2))
    await fill(queue, "chat:a", *(f"key-{n}" for n in range(200)), count=1)
    (first, *_) = await take(queue, "gpu")
    assert await queue.park(first, 600) == "requeued"
    await redis.config_resetstat()
    assert await take(queue, "gpu") == []
    calls = await redis.info("commandstats")
    assert sum(stat["calls"] for stat in calls.values()) < 60


async def test_keys_get_equal_shares_of_an_upstream_however_they_spread_over_its_models(
    queue: WholeLine,
) -> None:
    offer = shared("gpu", "chat:a", "chat:b", "chat:c")
    await serve(queue, offer)
    await fill(queue, "chat:a", "one", "two", "three")
    await fill(queue, "chat:b", "four")
    await fill(queue, "chat:c", "five", "one")
    got = Counter(each.key for each in await served(queue, 60, offer))
    assert max(got.values()) - min(got.values()) <= 2, got


async def test_a_model_that_was_idle_collects_no_credit(queue: WholeLine) -> None:
    offer = shared("gpu", "chat:a", "chat:b")
    await serve(queue, offer)
    await fill(queue, "chat:a", "one")
    await fill(queue, "chat:b", "other", count=1)
    await served(queue, 30, offer)
    await fill(queue, "chat:b", "two")
    got = Counter(each.key for each in await served(queue, 20, offer))
    assert abs(got["one"] - got["two"]) <= 2


async def test_a_key_is_charged_for_what_it_has_at_all_upstreams(queue: WholeLine) -> None:
    both = [shared("gpu", "chat:a", slots=1), shared("box", "chat:b", slots=1)]
    await serve(queue, *both)
    await fill(queue, "chat:a", "both", "one")
    await fill(queue, "chat:b", "both", "two")
    got = Counter(each.key for each in await served(queue, 60, *both))
    assert max(got.values()) - min(got.values()) <= 3, got


async def test_what_a_model_gets_elsewhere_does_not_starve_it_when_that_upstream_dies(
    queue: WholeLine,
) -> None:
    small, large = shared("gpu", "chat:a", "chat:b"), shared("farm", "chat:a", slots=30)
    await serve(queue, small, large)
    await fill(queue, "chat:a", "one", count=150)
    await fill(queue, "chat:b", "two", count=60)
    await served(queue, 96, small, large)
    got = Counter(each.key for each in await served(queue, 20, small))
    assert got["one"] >= 4, got


async def test_a_model_of_two_upstreams_runs_in_the_free_slots_of_both(queue: WholeLine) -> None:
    offers = [shared("gpu", "chat:a", slots=2), shared("box", "chat:a", "chat:b", slots=3)]
    await serve(queue, *offers)
    await fill(queue, "chat:a", "key", count=9)
    claims = await take(queue, "gpu", "box", limit=2)
    assert {each.upstream for each in claims} == {"gpu", "box"}
    claims += await take(queue, "gpu", "box")
    assert Counter(each.upstream for each in claims) == {"gpu": 2, "box": 3}
    assert await take(queue, "gpu", "box") == []


async def test_the_cap_of_an_upstream_holds_for_all_its_accounts(queue: WholeLine) -> None:
    relay = shared("relay", "chat:a", accounts=["first", "second"], slots=4, max_concurrency=3)
    await serve(queue, relay)
    await fill(queue, "chat:a", "key", count=9)
    assert len(await take(queue, "relay")) == 3


async def test_a_failed_job_is_tried_at_another_upstream_and_again_there_if_that_is_gone(
    queue: WholeLine, redis: Redis
) -> None:
    gpu, box = shared("gpu", "chat:a"), shared("box", "chat:a")
    await serve(queue, gpu, worker="one")
    await serve(queue, box, worker="two")
    await fill(queue, "chat:a", "key", count=1)
    clock = Clock(queue)
    (claimed,) = await take(queue, "gpu")
    assert await queue.retry(claimed, 1, 1, 5) == "requeued"
    await clock.advance(1.1)
    assert await take(queue, "gpu") == []
    (again,) = await take(queue, "box")
    assert again.id == claimed.id
    assert await queue.retry(again, 1, 1, 5) == "requeued"
    await clock.advance(1.1)
    assert await take(queue, "box") == []
    await queue.presences.remove_worker("one")
    assert ids(await take(queue, "box")) == [claimed.id]


async def test_a_failed_job_does_not_wait_for_another_upstream_that_is_blocked(
    queue: WholeLine,
) -> None:
    await serve(queue, shared("gpu", "chat:a"), shared("box", "chat:a", slots=1))
    await fill(queue, "chat:a", "key", count=2)
    (failed,) = await take(queue, "gpu", limit=1)
    (busy,) = await take(queue, "box")
    assert await queue.retry(failed, 1, 1, 5) == "requeued"
    assert await queue.cool_down(busy, 5, 60, pause=3600.0) == "requeued"
    clock = Clock(queue)
    await clock.advance(1.1)
    assert {*ids(await take(queue, "gpu"))} == {failed.id, busy.id}


async def test_jobs_that_avoid_an_upstream_hold_up_no_other_there(queue: WholeLine) -> None:
    await serve(queue, shared("gpu", "chat:a"), shared("box", "chat:a"))
    for n in range(3):
        await fill(queue, "chat:a", f"failed-{n}", count=1)
    clock = Clock(queue)
    for _ in range(3):
        (claimed,) = await take(queue, "gpu", limit=1)
        assert await queue.retry(claimed, 100, 100, 5, doubtful=True) == "requeued"
    await clock.advance(101)
    await fill(queue, "chat:a", "other", count=1)
    assert ids(await take(queue, "gpu")) == ["other-chat:a-0"]
    assert len(await take(queue, "box")) == 2


async def open_circuit(queue: WholeLine, upstream: str) -> None:
    for n in range(2):
        await enqueue(queue, f"fails-{upstream}-{n}", f"fails-{n}", "chat:a")
    for claimed in await take(queue, upstream):
        await queue.finish(claimed.id, claimed.attempt, "failed", ENTRY, {}, upstream_failed=True)


async def test_an_upstream_that_fails_takes_nothing_and_the_other_takes_all(
    queue: WholeLine,
) -> None:
    offers = [shared(name, "chat:a", circuit_failures=2) for name in ("gpu", "box")]
    await serve(queue, *offers)
    await open_circuit(queue, "gpu")
    await fill(queue, "chat:a", "key", count=5)
    assert await take(queue, "gpu") == []
    assert {each.open_for for each in await queue.upstreams()} == {5.0, None}
    assert (await queue.snapshot()).open_for is None
    claims = await take(queue, "gpu", "box")
    assert len(claims) == 2

    clock = Clock(queue)
    await clock.advance(5.1)
    (probe,) = await take(queue, "gpu")
    assert await take(queue, "gpu") == []
    await finish(queue, probe)
    assert len(await take(queue, "gpu")) == 2


async def test_jobs_are_refused_when_the_circuits_of_all_their_upstreams_are_open(
    queue: WholeLine,
) -> None:
    offers = [shared(name, "chat:a", circuit_failures=2) for name in ("gpu", "box")]
    await serve(queue, *offers, shared("else", "chat:b"))
    await open_circuit(queue, "gpu")
    await open_circuit(queue, "box")
    refused = await queue.enqueue(new("job", "key", lane="chat:a", own_slots=0), b"")
    assert refused == Refused("circuit_open", 5.0)
    await enqueue(queue, "other", "key", "chat:b")


async def test_four_failures_that_may_be_a_requests_own_count_as_one(queue: WholeLine) -> None:
    await serve(queue, shared("gpu", "chat:a", slots=1, circuit_failures=2))
    clock = Clock(queue)
    for n in range(8):
        job = f"key-{n}-chat:a-0"
        await fill(queue, "chat:a", f"key-{n}", count=1)
        assert ids(await doubted(queue, clock)) == [job]
        if n < 7:
            assert ids(await doubted(queue, clock)) == [job]  # each job counts once
            await queue.cancel(job)
    assert await take(queue, "gpu") == []


async def doubted(queue: WholeLine, clock: Clock) -> list[Claim]:
    """Claim the next job, and fail it in a way that may be its own fault."""
    claims = await take(queue, "gpu")
    for claim in claims:
        assert await queue.retry(claim, 1, 1, 5, doubtful=True) == "requeued"
    await clock.advance(1.1)
    return claims


async def test_leases_at_a_dead_upstream_are_reclaimed_and_go_elsewhere(
    queue: WholeLine, redis: Redis
) -> None:
    await serve(queue, shared("gpu", "chat:a"), worker="dies")
    await serve(queue, shared("box", "chat:a"))
    await fill(queue, "chat:a", "key", count=4)
    lost, kept = await take(queue, "gpu"), await take(queue, "box")
    for claimed in lost:
        await redis.zadd("gateway:leases:gpu:chat", {claimed.id: 1.0})
    assert await queue.reap() == (2, [])
    await finish(queue, *kept)
    assert {*ids(await take(queue, "box"))} == {*ids(lost)}
    assert await redis.exists("gateway:holds:gpu") == 0


async def test_a_lane_without_a_live_upstream_is_refused_and_one_that_left_it_is_forgotten(
    queue: WholeLine, redis: Redis
) -> None:
    job = new("job", "key", lane="chat:a", own_slots=0)
    assert isinstance(refused := await queue.enqueue(job, b""), Refused)
    assert refused.reason == "no_worker"
    await serve(queue, shared("gpu", "chat:a", "chat:b"))
    await serve(queue, shared("gpu", "chat:b"))
    assert await redis.exists("gateway:servers:chat:a") == 0
    assert (await queue.enqueue(job, b"")) == refused
    await redis.delete("gateway:upstream:gpu")
    await queue.reap()
    assert not [key async for key in redis.scan_iter("gateway:ser*")]
    assert await queue.upstreams() == []


async def test_a_lane_is_served_until_the_jobs_that_it_had_have_ended(
    queue: WholeLine, redis: Redis
) -> None:
    await serve(queue, shared("gpu", "chat:*", slots=1))
    await fill(queue, "chat:*", "key", count=2)
    later = shared("gpu", "chat:a", slots=1)
    await serve(queue, later)
    (offered,) = await queue.upstreams()
    assert offered.lanes == ["chat:a"], "front ends choose it no more"
    await fill(queue, "chat:a", "key", count=1)
    (claimed,) = await take(queue, "gpu")
    for _ in range(2):
        await queue.offer(later)
        await finish(queue, claimed)
        (claimed,) = await take(queue, "gpu")
    await queue.offer(later)
    lanes = await redis.smembers("gateway:serves:gpu")  # type: ignore[misc]  # redis-py: sync or async
    running = await redis.hget(f"gateway:job:{claimed.id}", "lane")  # type: ignore[misc]  # redis-py: sync or async
    assert lanes == {b"chat:a", running}, "a job that runs may have to be tried again"
    await finish(queue, claimed)
    await queue.offer(later)
    assert await redis.smembers("gateway:serves:gpu") == {b"chat:a"}  # type: ignore[misc]  # redis-py: sync or async
    assert await redis.exists("gateway:servers:chat:*") == 0


async def test_a_lane_that_another_upstream_serves_is_left_to_it(queue: WholeLine) -> None:
    await serve(queue, shared("gpu", "chat:a", "chat:b"), shared("box", "chat:a"))
    await fill(queue, "chat:a", "key", count=1)
    await queue.offer(shared("gpu", "chat:b"))
    assert await take(queue, "gpu") == []
    assert len(await take(queue, "box")) == 1


async def test_a_heartbeat_that_changes_nothing_touches_no_lane(
    queue: WholeLine, redis: Redis
) -> None:
    few, many = (shared("gpu", *(f"chat:{n}" for n in range(count))) for count in (1, 2000))
    calls = []
    for offer in (few, many):
        await queue.offer(offer)
        await redis.config_resetstat()
        await queue.offer(offer)
        calls.append(sum(each["calls"] for each in (await redis.info("commandstats")).values()))
    assert calls[0] == calls[1] < 20


async def test_front_ends_see_what_workers_say_of_their_upstreams(queue: WholeLine) -> None:
    lanes = [
        lane_name("chat", "a model: 7B"),
        lane_of_any("chat"),
        lane_of_family("chat", "gpt_3_5"),
    ]
    assert lanes == ["chat:a%20model%3A%207B", "chat:*", "chat:@gpt_3_5"]
    assert lane_name("chat", "*") == "chat:%2A", "a model of that name is not every model"
    assert lane_name("chat", "@gpt_3_5") == "chat:%40gpt_3_5"
    await serve(queue, shared("gpu", *lanes, max_concurrency=2))
    expected = LiveUpstream("gpu", 2, sorted(lanes), {"gpu": 2}, b"about", None, [])
    assert await queue.upstreams() == [expected]


async def test_a_batch_of_embeddings_never_holds_up_a_chat(queue: WholeLine) -> None:
    await serve(queue, shared("gpu", "chat:a", "embeddings:e", slots=4))
    await fill(queue, "embeddings:e", "batch", count=20)
    batch = await take(queue, "gpu")
    assert len(batch) == 3
    assert (await enqueue(queue, "chat", "key", "chat:a")).wait == 0
    assert ids(await take(queue, "gpu")) == ["chat"]
    await fill(queue, "chat:a", "key", count=9)
    await finish(queue, *batch)
    lanes = Counter(each.lane for each in await take(queue, "gpu"))
    assert lanes == {"chat:a": 2, "embeddings:e": 1}
    await serve(queue, shared("box", "embeddings:e", slots=4))
    assert len(await take(queue, "box")) == 4


async def test_a_forecast_counts_the_slots_of_all_upstreams_and_the_keys_of_all_models(
    queue: WholeLine, redis: Redis
) -> None:
    fields = {"n": 50, "mean": 10_000, "square": 1e8}
    kinds = ["chat:a", "chat:a a", "chat:b", "chat:b b"]
    known = {f"{kind} {name}": value for kind in kinds for name, value in fields.items()}
    await redis.hset("gateway:service", mapping=known)  # type: ignore[misc]  # redis-py: sync or async
    offers = [shared("gpu", "chat:a", "chat:b", slots=2), shared("box", "chat:a", slots=2)]
    await serve(queue, *offers)
    await fill(queue, "chat:a", *(f"a-{n}" for n in range(8)), count=1)
    await fill(queue, "chat:b", *(f"b-{n}" for n in range(8)), count=1)
    assert len(await take(queue, "gpu", "box")) == 4
    a = (await enqueue(queue, "a", "new", "chat:a")).wait
    b = (await enqueue(queue, "b", "newer", "chat:b")).wait
    # Three slots for one model, one for the other.
    assert 15 <= a <= 30
    assert 60 <= b <= 100


async def test_an_account_that_has_used_up_a_limit_gets_no_job_until_that_is_reset(
    queue: WholeLine,
) -> None:
    offer = shared("gpu", "chat:a", slots=2)
    await serve(queue, offer)
    await fill(queue, "chat:a", "key", count=3)
    first, second = await take(queue, "gpu")
    await queue.hold_account(first, 300.0)
    await finish(queue, first)
    assert await queue.claim("w", 10, ["gpu"]) == []
    assert 290 < (await enqueue(queue, "job-late", "other", "chat:a")).wait < 400
    await queue.hold_account(second, 100.0)  # the longer time counts
    assert (await enqueue(queue, "job-later", "another", "chat:a")).wait > 290


async def test_a_forecast_waits_for_the_first_account_that_takes_jobs_again(
    queue: WholeLine,
) -> None:
    await serve(queue, shared("gpu", "chat:a", slots=1), shared("box", "chat:a", slots=1))
    await fill(queue, "chat:a", "key", count=2)
    one, two = await take(queue, "gpu", "box")
    await queue.cool_down(one, 5, 60, pause=100.0)
    assert (await enqueue(queue, "job-1", "other", "chat:a")).wait < 90
    await queue.cool_down(two, 5, 60, pause=200.0)
    assert 100 <= (await enqueue(queue, "job-2", "another", "chat:a")).wait < 200


async def test_a_model_that_is_parked_everywhere_for_longer_than_a_job_may_wait_is_refused(
    queue: WholeLine,
) -> None:
    await serve(queue, shared("gpu", "chat:a", slots=1), shared("box", "chat:a", slots=1))
    await fill(queue, "chat:a", "key", count=2)
    one, two = await take(queue, "gpu", "box")
    await queue.park(one, 10_000)
    await enqueue(queue, "waits", "other", "chat:a")
    await queue.park(two, 20_000)
    job = new("job", "other", lane="chat:a", own_slots=0)
    assert await queue.enqueue(job, b"") == Refused("model_capped", 10_000.0)


async def test_a_job_that_takes_several_slots_gets_them_all_and_is_charged_for_them(
    queue: WholeLine, redis: Redis
) -> None:
    offer = shared("gpu", "chat:a", "chat:b", slots=4)
    await serve(queue, offer)
    await fill(queue, "chat:b", "small", count=2)
    small = await take(queue, "gpu")
    await enqueue(queue, "large", "two", "chat:a", slots=3)
    await fill(queue, "chat:b", "one", "three", count=5)
    assert await take(queue, "gpu") == [], "its slots are kept free"
    await finish(queue, small[0])
    (large,) = await take(queue, "gpu")
    assert large.id == "large"
    assert await redis.zcard("gateway:leases:gpu:chat") == 4
    await redis.zadd("gateway:leases:gpu:chat", {"large": 1.0, "large 2": 1.0, "large 3": 1.0})
    await queue.renew(replace(PRESENCE, upstreams=("gpu",)), [large])
    assert await queue.reap() == (0, [])

    await fill(queue, "chat:a", "two", count=9)
    clock = Clock(queue)
    await clock.advance(10)
    await finish(queue, large, small[1])
    assert await redis.zcard("gateway:leases:gpu:chat") == 0
    got = Counter(each.key for each in await served(queue, 11, offer))
    assert got["two"] <= 2, "it has paid for three slots"


async def test_a_job_that_takes_more_slots_than_there_are_by_now_runs_alone(
    queue: WholeLine, redis: Redis
) -> None:
    await serve(queue, shared("gpu", "chat:a", slots=2))
    await enqueue(queue, "small", "first", "chat:a")
    (small,) = await take(queue, "gpu")
    await enqueue(queue, "large", "key", "chat:a", slots=3)
    await fill(queue, "chat:a", "other", count=1)
    assert await take(queue, "gpu") == []
    await finish(queue, small)
    assert ids(await take(queue, "gpu")) == ["large"]
    assert await redis.zcard("gateway:leases:gpu:chat") == 3
    await redis.zadd("gateway:leases:gpu:chat", {"large": 1.0, "large 2": 1.0, "large 3": 1.0})
    assert await queue.reap() == (1, [])
    assert ids(await take(queue, "gpu")) == ["large"]


async def test_names_that_clients_choose_neither_break_the_line_nor_fill_redis(
    queue: WholeLine, redis: Redis
) -> None:
    lane = lane_of_any("chat")
    await serve(queue, shared("gpu", lane))
    for n, family in enumerate(["a model: 7B", "\n", "x" * 10_000, "own chat", "*", ""]):
        await enqueue(queue, f"job-{n}", "key", lane, family=family)
    for _ in range(3):
        await finish(queue, *await take(queue, "gpu"))
    known = {name.decode() for name in await redis.hkeys("gateway:service")}  # type: ignore[misc]  # redis-py: sync or async
    assert {name.rpartition(" ")[0] for name in known} == {"chat:*", "chat:* *"}
    assert not [key async for key in redis.scan_iter("gateway:line*")]


async def test_own_accounts_and_shared_ones_do_not_gate_each_other(queue: WholeLine) -> None:
    await queue.offer_main()
    await serve(queue, shared("gpu", "chat:a", slots=1))
    await queue.renew(PRESENCE, [])
    for n in range(2):
        admission = await queue.enqueue(new(f"own-{n}", "key"), b"body")
        assert isinstance(admission, Accepted)
    await fill(queue, "chat:a", "key", count=2)
    claims = await take(queue, "main", "gpu")
    assert {each.id: each.account for each in claims} == {
        "own-0": "key",
        "key-chat:a-0": "gpu",
    }
    own = next(each for each in claims if each.account == "key")
    assert await queue.cool_down(own, 30, 60) == "requeued"
    assert await queue.waiting_jobs("gpu") == []
    assert {id for id, _ in await queue.waiting_jobs("key")} == {"own-0", "own-1"}
    await finish(queue, *(each for each in claims if each is not own))
    assert ids(await take(queue, "main", "gpu")) == ["key-chat:a-1"]
