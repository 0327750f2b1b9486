"""Operators pause the intake, upstreams and accounts, and wake accounts, step by step."""

from __future__ import annotations

import pytest

from benchmarks.line import WholeLine
from tests.support.line import enqueue as enqueue_own
from tests.support.line import ids, new, present, serve, shared
from tests.support.operators import operator_line
from tests.support.shared_lanes import Clock, calm_line, enqueue, fill, finish, take
from wire.line.admission import Refused
from wire.line.operator import OperatorLine
from wire.redis.client import Redis
from wire.seal import Seal
from wire.upkeep.reconciler import reconcile

BY = "Anna"
UNTIL_RESUMED = 30.0
"""Retry time, in seconds, in a pause without an end."""
LONG = 3600.0
"""Forecast of a job, in seconds, that waits for the end of such a pause."""


@pytest.fixture
async def queue(redis: Redis, seal: Seal) -> WholeLine:
    return await calm_line(redis, seal)


@pytest.fixture
def operator(queue: WholeLine) -> OperatorLine:
    return operator_line(queue)


async def refusal(queue: WholeLine, key: str = "key", lane: str = "chat:a") -> Refused:
    own_slots = 0 if ":" in lane else 1
    refused = await queue.enqueue(new("refused", key, lane=lane, own_slots=own_slots), b"")
    assert isinstance(refused, Refused), refused
    return refused


async def wait_of(queue: WholeLine, id: str) -> float:
    """The forecast of a job."""
    (place,) = await queue.places([id])
    assert place is not None
    return place.wait


async def test_a_paused_intake_refuses_new_jobs_and_those_that_wait_are_served(
    queue: WholeLine, operator: OperatorLine
) -> None:
    await serve(queue, shared("gpu", "chat:a", slots=1))
    await fill(queue, "chat:a", "key", count=3)
    assert (await operator.pause("all", "", BY))[0] == "paused"
    assert await refusal(queue) == Refused("paused", UNTIL_RESUMED)
    for _ in range(3):
        (running,) = await take(queue, "gpu")
        await finish(queue, running)
    assert await operator.resume("all", "")
    assert not await operator.resume("all", "")
    await enqueue(queue, "again", "key", "chat:a")


async def test_a_job_that_was_accepted_before_the_pause_is_enqueued_again(
    queue: WholeLine, operator: OperatorLine
) -> None:
    await serve(queue, shared("gpu", "chat:a"))
    await operator.pause("all", "", BY)
    await enqueue(queue, "lost-by-redis", "key", "chat:a", accepted=True)


async def test_the_intake_of_one_key_is_paused(queue: WholeLine, operator: OperatorLine) -> None:
    await serve(queue, shared("gpu", "chat:a"))
    await operator.pause("key", "key", BY, 5)
    assert await refusal(queue, "key") == Refused("paused", 5.0)
    await enqueue(queue, "other", "another", "chat:a")


async def test_a_pause_with_an_end_is_over_by_itself_and_may_get_another_end(
    queue: WholeLine, operator: OperatorLine, redis: Redis
) -> None:
    await serve(queue, shared("gpu", "chat:a"))
    clock = Clock(queue)
    _, first = await operator.pause("all", "", BY, 5)
    assert first is not None
    assert first.until == first.since + 5
    assert (await operator.pause("all", "", "Ben", 20))[0] == "paused"
    assert (await operator.pause("upstream", "gpu", BY, 20))[0] == "paused"
    (whole, of_gpu) = await operator.pauses()
    assert (whole.by, whole.what, of_gpu.name) == ("Ben", "all", "gpu")
    await clock.advance(6)
    assert await refusal(queue) == Refused("paused", 14.0)
    await clock.advance(15)
    await enqueue(queue, "job", "key", "chat:a")
    assert ids(await take(queue, "gpu")) == ["job"]
    assert await operator.pauses() == []
    assert not await redis.exists("gateway:pauses", "gateway:later")


async def test_a_pause_whose_end_a_process_of_an_older_release_has_dropped_is_over_all_the_same(
    queue: WholeLine, operator: OperatorLine, redis: Redis
) -> None:
    await serve(queue, shared("relay", "chat:a", accounts=["one"]))
    await operator.pause("account", "one", BY, 5)
    await operator.pause("all", "", BY)
    await redis.zrem("gateway:later", "pause account one")
    assert await reconcile(queue, 0.1) == 0
    await Clock(queue).advance(5.1)
    assert await take(queue, "relay") == []
    assert [each.what for each in await operator.pauses()] == ["all"]
    assert await redis.zcard("gateway:later") == 0


async def test_a_pause_loses_its_end_and_a_second_one_without_an_end_changes_nothing(
    queue: WholeLine, operator: OperatorLine
) -> None:
    await serve(queue, shared("gpu", "chat:a"))
    await operator.pause("all", "", BY, 5)
    assert (await operator.pause("all", "", "Ben"))[0] == "paused"
    result, pause = await operator.pause("all", "", BY)
    assert result == "already"
    assert pause is not None
    assert (pause.by, pause.until) == ("Ben", None)
    await Clock(queue).advance(3600 * 24)
    assert await queue.reap() == (0, [])
    await serve(queue, shared("gpu", "chat:a"))
    assert (await refusal(queue)).reason == "paused"


async def test_a_paused_upstream_gets_no_jobs_and_those_that_run_there_end(
    queue: WholeLine, operator: OperatorLine
) -> None:
    await serve(queue, shared("gpu", "chat:a", slots=1), shared("box", "chat:a", slots=1))
    await fill(queue, "chat:a", "key", count=4)
    (running,) = await take(queue, "gpu")
    await operator.pause("upstream", "gpu", BY)
    await finish(queue, running)
    assert await take(queue, "gpu") == []
    assert [each.upstream for each in await take(queue, "gpu", "box")] == ["box"]
    await enqueue(queue, "for-box", "key", "chat:a")
    assert await operator.resume("upstream", "gpu")
    assert len(await take(queue, "gpu")) == 1


async def test_a_lane_is_refused_while_all_its_upstreams_are_paused_and_its_jobs_have_a_forecast(
    queue: WholeLine, operator: OperatorLine
) -> None:
    await serve(queue, shared("gpu", "chat:a"), shared("box", "chat:a"), shared("else", "chat:b"))
    await fill(queue, "chat:a", "key", count=3)
    await operator.pause("upstream", "gpu", BY)
    assert await wait_of(queue, "key-chat:a-2") < LONG
    await operator.pause("upstream", "box", BY, 50)
    assert await refusal(queue) == Refused("paused", 50.0)
    for n in range(3):
        assert await wait_of(queue, f"key-chat:a-{n}") == 50
    await enqueue(queue, "other", "key", "chat:b")
    await operator.pause("upstream", "box", BY)
    assert await refusal(queue) == Refused("paused", UNTIL_RESUMED)
    assert await wait_of(queue, "key-chat:a-0") == LONG


async def test_a_paused_account_gets_no_job_whatever_its_upstream_answers_until_it_is_resumed(
    queue: WholeLine, operator: OperatorLine
) -> None:
    offer = shared("relay", "chat:a", accounts=["one", "two"], slots=1, tokens={"one": "a"})
    await serve(queue, offer)
    await fill(queue, "chat:a", "key", count=6)
    running = {claim.account: claim for claim in await take(queue, "relay")}
    await operator.pause("account", "one", BY)
    assert await queue.begin(running["one"], b"", {})  # an answer does not end the pause
    new_token = shared("relay", "chat:a", accounts=["one", "two"], slots=1, tokens={"one": "b"})
    await serve(queue, new_token)  # nor does another token
    # The job that still runs there takes no slot from the other account.
    await finish(queue, running["two"])
    (again,) = await take(queue, "relay")
    assert again.account == "two"
    await finish(queue, running["one"], again)
    (again,) = await take(queue, "relay")
    assert again.account == "two"
    assert (await queue.snapshot()).shared["relay"]["paused"] == 1
    await operator.resume("account", "one")
    (last,) = await take(queue, "relay")
    assert last.account == "one"


async def test_jobs_wait_and_new_ones_are_refused_while_all_accounts_are_paused(
    queue: WholeLine, operator: OperatorLine
) -> None:
    await serve(queue, shared("relay", "chat:a", accounts=["one", "two"], slots=1))
    await fill(queue, "chat:a", "key", count=2)
    await operator.pause("account", "one", BY)
    await operator.pause("account", "two", BY)
    assert await take(queue, "relay") == []
    assert await refusal(queue) == Refused("paused", UNTIL_RESUMED)
    assert await wait_of(queue, "key-chat:a-1") == LONG
    assert await queue.spent_jobs("chat:a", 0, 100) == (0, [])  # none is given up for that
    await operator.resume("account", "two")
    assert len(await take(queue, "relay")) == 1


async def test_a_job_that_needs_several_slots_does_not_wait_for_a_paused_account(
    queue: WholeLine, operator: OperatorLine
) -> None:
    offer = shared("relay", "chat:a", accounts=["large", "small"], slots=2)
    offer.accounts["large"] = 4
    await serve(queue, offer)
    await operator.pause("account", "large", BY)
    await enqueue(queue, "wide", "key", "chat:a", slots=4)
    (wide,) = await take(queue, "relay")
    assert wide.account == "small"


async def test_a_paused_account_of_a_keys_own_has_no_seats_until_it_is_resumed(
    queue: WholeLine, operator: OperatorLine
) -> None:
    await serve(queue, shared("gpu", "chat:a"), worker="of-gpu")
    await present(queue)
    await enqueue_own(queue, "own")
    await enqueue_own(queue, "other", "another")
    assert (await operator.pause("account", "key", BY))[0] == "paused"
    assert (await operator.pause("account", "nobody", BY))[0] == "unknown"
    assert ids(await take(queue, "main")) == ["other"]
    assert await wait_of(queue, "own") == LONG
    assert await refusal(queue, "key", "chat") == Refused("paused", UNTIL_RESUMED)
    await enqueue(queue, "shared", "key", "chat:a")  # its jobs run on other accounts
    assert ids(await take(queue, "gpu")) == ["shared"]
    assert await operator.resume("account", "key")
    assert ids(await take(queue, "main")) == ["own"]


async def test_a_pause_of_a_keys_own_account_with_an_end_is_over_by_itself(
    queue: WholeLine, operator: OperatorLine
) -> None:
    await present(queue)
    await enqueue_own(queue, "own")
    await operator.pause("account", "key", BY, 5)
    clock = Clock(queue)
    assert await take(queue, "main") == []
    assert await wait_of(queue, "own") == 5
    await clock.advance(5.1)
    assert ids(await take(queue, "main")) == ["own"]


async def test_a_paused_account_of_which_nothing_else_is_known_any_more_can_be_woken(
    queue: WholeLine, operator: OperatorLine, redis: Redis
) -> None:
    await present(queue)
    await enqueue_own(queue, "own")
    await operator.pause("account", "key", BY)
    await redis.delete("gateway:account:key")
    assert (await operator.pause("account", "key", BY, 5))[0] == "paused"
    assert await operator.wake("key") is True
    assert await operator.wake("key") is None


async def test_an_account_that_is_woken_is_used_at_once_for_all_models(
    queue: WholeLine, operator: OperatorLine
) -> None:
    await serve(queue, shared("relay", "chat:a", "chat:b", accounts=["one"], slots=4))
    for lane in ("chat:a", "chat:b"):
        await fill(queue, lane, "key", count=2)
    assert await operator.wake("one") is False
    assert await operator.wake("nobody") is None
    first, second, third, fourth = await take(queue, "relay")
    await queue.set_aside(first, "token_refused", "")
    await queue.park(second, 1000)
    await queue.cool_down(third, 30, 60)
    await finish(queue, fourth)
    await operator.pause("account", "one", BY)
    assert await take(queue, "relay") == []
    assert await operator.wake("one") is True
    assert len(await take(queue, "relay")) == 3
    assert await operator.wake("one") is False
    assert await operator.pauses() == []


async def test_the_number_of_pauses_is_limited(
    queue: WholeLine, operator: OperatorLine, redis: Redis
) -> None:
    pauses = {f"key {n}": '{"since":1,"by":"x","until":null}' for n in range(1000)}
    await redis.hset("gateway:pauses", mapping=pauses)  # type: ignore[misc]  # redis-py: sync or async
    assert await operator.pause("all", "", BY) == ("too_many", None)
    assert (await operator.pause("key", "7", BY, 5))[0] == "paused"
    assert (await queue.snapshot()).paused == {"all": 0, "key": 1000, "upstream": 0, "account": 0}


async def test_a_pause_of_a_kind_that_only_a_newer_release_knows_is_passed_over(
    queue: WholeLine, operator: OperatorLine, redis: Redis
) -> None:
    hold = '{"since":1,"by":"x","until":null}'
    await redis.hset("gateway:pauses", mapping={"lane chat": hold, "key 7": hold})  # type: ignore[misc]  # redis-py: sync or async
    assert [pause.what for pause in await operator.pauses()] == ["key"]
    assert (await queue.snapshot()).paused["key"] == 1


async def test_while_nothing_is_paused_an_enqueue_and_a_claim_ask_once_about_pauses(
    queue: WholeLine, operator: OperatorLine, redis: Redis
) -> None:
    await serve(queue, shared("gpu", "chat:a", accounts=[f"account-{n}" for n in range(20)]))
    asked: list[str] = []
    async with redis.monitor() as monitor:
        await enqueue(queue, "job", "key", "chat:a")
        assert ids(await take(queue, "gpu")) == ["job"]
        await redis.echo("over")
        async for command in monitor.listen():
            if "over" in command["command"]:
                break
            if "gateway:pauses" in command["command"] and "EVALSHA" not in command["command"]:
                asked.append(command["command"])
    assert asked == ["EXISTS gateway:pauses"] * 2
