"""Keys that have had no answer yet: they starve no others, and are not starved themselves."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import pytest
from msgspec.structs import replace

import settings
from benchmarks.line import WholeLine
from benchmarks.virtual import Job, Kind, World, world
from tests.support.line import ENTRY, LASTING, claim, enqueue, field, finish, has_worker, new
from tests.support.requests import BODY, CHAT
from tests.support.sanic_adapter import Client
from tests.support.scripted import HELLO, ScriptedUpstream
from wire.events import Event, Failed
from wire.jobs import ChatJob
from wire.line.admission import Refused
from wire.line.claims import Claim
from wire.redis.client import Redis
from wire.seal import Seal
from wire.upkeep.reconciler import reconcile
from workers.upstream import UpstreamError

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


async def line(redis: Redis, seal: Seal, slots: int = 1, max_waiting: int = 10_000) -> WholeLine:
    config = replace(LASTING, max_waiting=max_waiting, max_wait=36_000.0)
    queue = WholeLine(redis, seal, config, settings.Upstream(max_concurrency=slots))
    await queue.presences.show_front_end("front")
    await has_worker(redis, seal, settings.Upstream(max_concurrency=slots))
    return queue


async def answered(queue: WholeLine, *keys: str) -> None:
    """Let the keys have an answer each."""
    for name in keys:
        await enqueue(queue, f"first-of-{name}", name)
        (first,) = await claim(queue, 1)
        assert await queue.begin(first, ENTRY, {})
        await finish(queue, first)


async def fail(queue: WholeLine, claimed: Claim) -> None:
    await queue.finish(claimed.id, claimed.attempt, "failed", ENTRY, {}, reason="unauthorized")


async def made_up(queue: WholeLine, count: int) -> None:
    for n in range(count):
        await enqueue(queue, f"made-up-{n}", f"made-up-{n}")


async def order(queue: WholeLine, count: int) -> list[str]:
    """The next jobs, one after the other. Those with made-up keys are refused, the others end."""
    came = []
    for _ in range(count):
        (claimed,) = await claim(queue, 1)
        came.append(claimed.id.rpartition("-")[0])
        if claimed.id.startswith("made-up"):
            await fail(queue, claimed)
        else:
            await queue.begin(claimed, ENTRY, {})
            await finish(queue, claimed)
    return came


# The order


async def test_made_up_keys_get_every_fourth_slot_once_the_first_of_them_was_refused(
    redis: Redis, seal: Seal
) -> None:
    queue = await line(redis, seal)
    await answered(queue, "good")
    await made_up(queue, 300)
    for n in range(9):
        await enqueue(queue, f"good-{n}", "good")
    came = await order(queue, 12)
    assert came[0] == "made-up", "they arrived first"
    assert came[1:] == [*["good"] * 3, "made-up"] * 2 + ["good"] * 3
    assert await order(queue, 5) == ["made-up"] * 5, "nobody else waits"


async def test_a_newcomer_among_made_up_keys_gets_its_turn_and_is_a_stranger_no_more(
    redis: Redis, seal: Seal
) -> None:
    queue = await line(redis, seal)
    await answered(queue, "good")
    await made_up(queue, 2)
    for n in range(3):
        await enqueue(queue, f"new-{n}", "new", own_slots=2)
    for n in range(20):
        await enqueue(queue, f"good-{n}", "good", own_slots=3)
    await enqueue(queue, "made-up-late", "late")
    came = await order(queue, 20)
    assert came.index("new") <= 2 * 4, "two strangers were there before it"
    first = came.index("new")
    assert came[first:].count("new") == 3, "its other jobs are not a stranger's"


async def test_a_newcomer_does_not_wait_for_all_keys_that_are_known(
    redis: Redis, seal: Seal
) -> None:
    queue = await line(redis, seal)
    names = [f"known-{n}" for n in range(20)]
    await answered(queue, *names)
    for name in names:
        await enqueue(queue, f"{name}-0", name)
    await enqueue(queue, "new-0", "new")
    assert (await order(queue, 5)).index("new") == 3


async def test_while_no_key_is_refused_strangers_wait_like_all_others(
    redis: Redis, seal: Seal
) -> None:
    queue = await line(redis, seal)
    await answered(queue, "known")
    for n in range(8):
        await enqueue(queue, f"new-{n}", f"new-{n}")
    await enqueue(queue, "known-0", "known")
    assert await order(queue, 9) == [*["new"] * 8, "known"]


async def test_an_idle_slot_is_never_kept_from_strangers(redis: Redis, seal: Seal) -> None:
    queue = await line(redis, seal, slots=8)
    await answered(queue, "good")
    await made_up(queue, 10)
    await fail(queue, (await claim(queue, 1))[0])
    await enqueue(queue, "good-0", "good")
    assert len(await claim(queue, 8)) == 8


async def test_a_stranger_that_goes_before_its_turn_leaves_the_clock_to_the_others(
    redis: Redis, seal: Seal
) -> None:
    queue = await line(redis, seal)
    await answered(queue, "good")
    await enqueue(queue, "new-0", "new")
    for key in (queue.queue_key("chat"), f"gateway:strangers:chat:{seal.fingerprint}"):
        await redis.zadd(key, {"new-0": 1e9})
    for n in range(5):
        await enqueue(queue, f"good-{n}", "good")
    assert await order(queue, 4) == [*["good"] * 3, "new"]
    assert float(await field(redis, "gateway:lane:chat", "now") or 0) < 1e9


async def test_damage_to_the_order_of_strangers_delays_nobody(redis: Redis, seal: Seal) -> None:
    queue = await line(redis, seal)
    await answered(queue, "good")
    await made_up(queue, 3)
    await enqueue(queue, "good-0", "good")
    await redis.delete(f"gateway:strangers:chat:{seal.fingerprint}")
    assert await reconcile(queue, 1) == 1
    await redis.delete(f"gateway:regulars:chat:{seal.fingerprint}")
    assert sorted(await order(queue, 4)) == ["good", *["made-up"] * 3]


# Admission and forecasts


async def test_strangers_in_doubt_fill_half_of_the_line_and_others_the_rest(
    redis: Redis, seal: Seal
) -> None:
    queue = await line(redis, seal, max_waiting=8)
    await answered(queue, "good")
    await made_up(queue, 6)
    for _ in range(2):
        await fail(queue, (await claim(queue, 1))[0])
    assert len(await claim(queue, 1)) == 1
    await enqueue(queue, "made-up", "made-up")
    refused = await queue.enqueue(new("late", "late"), b"body")
    assert isinstance(refused, Refused)
    assert refused.reason == "queue_full"
    for n in range(4):
        await enqueue(queue, f"good-{n}", "good")


class Attack:
    """Three keys that have had answers, two of them with many jobs; and made-up keys, which are
    refused after half a second."""

    def __init__(self, made: World) -> None:
        self.made = made
        self.good = Kind("good", lambda: 10.0, cap=2)
        self.other = Kind("other", lambda: 10.0, cap=2)
        self.light = Kind("light", lambda: 10.0)

    async def begin(self, made_up: int) -> None:
        for kind in (self.good, self.other):
            self.made.closed(kind, 4)
        assert isinstance(await self.made.send(self.light), Job)
        await self.made.run(100)
        for n in range(made_up):
            kind = Kind(f"made-up-{n}", lambda: 0.5, refused=True)
            assert isinstance(await self.made.send(kind), Job)
            if n == 0:
                await self.made.run(30)  # until the first is refused


async def test_a_good_key_is_neither_delayed_nor_refused_because_of_made_up_ones(
    redis: Redis,
) -> None:
    made = await world(redis, 1, slots=4, max_wait=300.0)
    attack = Attack(made)
    await attack.begin(200)
    newly = made.now
    light = made.one_by_one(attack.light, 10, think=1.0)
    await made.run(300)
    assert len(light) == 10
    assert all(job.waited <= 15.0 for job in light), light
    for job in made.started:
        if job.kind.key == "good" and job.arrived > newly:
            assert job.waited <= 30.0
            assert job.predicted <= 40.0, "500 s, if those before it were like others"


async def test_the_forecast_of_a_newcomer_counts_every_fourth_slot(redis: Redis) -> None:
    made = await world(redis, 1, slots=4, max_wait=300.0)
    attack = Attack(made)
    await attack.begin(40)
    newcomer = await made.send(Kind("newcomer", lambda: 10.0))
    assert isinstance(newcomer, Job)
    await made.run_while(lambda: newcomer.started < 0)
    assert newcomer.predicted == pytest.approx(newcomer.waited, rel=0.5)


async def test_a_newcomer_is_not_refused_because_of_a_wait_that_may_end_soon(redis: Redis) -> None:
    """As soon as the good keys have no more jobs, the made-up ones are refused at once."""
    made = await world(redis, 1, slots=4, max_wait=300.0)
    await Attack(made).begin(200)
    assert isinstance(await made.send(Kind("newcomer", lambda: 10.0), max_wait=300.0), Job)


# Keys that the upstream has refused


class Picky(ScriptedUpstream):
    """Upstream that refuses bearers with `bad` in their names."""

    def __init__(self) -> None:
        super().__init__()
        self.refusal = Failed("unauthorized", "No such key.")

    async def answer(self, job: ChatJob) -> AsyncGenerator[Sequence[Event], None]:
        self.script = (UpstreamError(self.refusal),) if "bad" in job.bearer else (HELLO,)
        async for events in super().answer(job):
            yield events


@pytest.fixture
def upstream() -> Picky:
    return Picky()


async def ask(client: Client, bearer: str) -> tuple[int, str | None]:
    """Status and code of the answer."""
    headers = {"authorization": f"Bearer {bearer}"}
    answer = await client.post(CHAT, json=BODY, headers=headers)
    return answer.status_code, answer.json().get("error", {}).get("code")


async def test_a_refused_key_is_refused_at_the_door_for_a_minute(
    client: Client, redis: Redis, upstream: Picky
) -> None:
    for _ in range(3):
        assert await ask(client, "bad") == (401, "invalid_api_key")
    assert len(upstream.asked) == 1
    assert await ask(client, "good") == (200, None)
    (remembered,) = await redis.keys("gateway:refused:*")
    assert b"bad" not in remembered
    assert await redis.get(remembered) == b""
    assert 0 < await redis.pttl(remembered) <= MINUTE
    await redis.delete(remembered)
    assert await ask(client, "bad") == (401, "invalid_api_key")
    assert len(upstream.asked) == 3


@pytest.mark.parametrize(
    ("code", "asked"), [("account_deactivated", 2), ("token_expired", 2), (None, 1)]
)
async def test_one_account_of_a_pool_that_is_refused_does_not_lock_out_the_pool(
    client: Client, upstream: Picky, code: str | None, asked: int
) -> None:
    upstream.refusal = Failed("unauthorized", "No.", code)
    for _ in range(2):
        assert (await ask(client, "pk-bad"))[0] == 401
    assert len(upstream.asked) == asked


# Lifetimes


async def lifetimes(redis: Redis, key: str) -> list[int]:
    """Times to live of everything that is known of a key."""
    found = [name async for name in redis.scan_iter(match=f"gateway:*:{key}*")]
    assert found
    return [await redis.pttl(name) for name in found]


async def test_nothing_of_a_stranger_outlives_its_refusal_by_more_than_a_minute(
    redis: Redis, seal: Seal
) -> None:
    queue = await line(redis, seal, slots=50)
    await made_up(queue, 50)
    record = await redis.pttl("gateway:key:made-up-0")
    assert record <= 2 * 36_000_000 + 10 * MINUTE
    for claimed in await claim(queue, 50):
        await queue.refuse(claimed)
        await fail(queue, claimed)
    for n in range(50):
        assert all(0 < left <= MINUTE for left in await lifetimes(redis, f"made-up-{n}"))


async def test_a_stranger_with_another_job_is_known_until_that_ends(
    redis: Redis, seal: Seal
) -> None:
    queue = await line(redis, seal)
    for n in range(2):
        await enqueue(queue, f"made-up-{n}", "stranger")
    for expected in (False, True):
        (claimed,) = await claim(queue)
        await fail(queue, claimed)
        left = await redis.pttl("gateway:key:stranger")
        assert (left <= MINUTE) is expected


async def test_a_key_that_came_once_is_known_for_an_hour_and_one_that_returns_for_a_day(
    redis: Redis, seal: Seal
) -> None:
    queue = await line(redis, seal)
    await answered(queue, "key")
    once = await redis.pttl("gateway:key:key")
    await enqueue(queue, "next", "key")
    again = await redis.pttl("gateway:key:key")
    assert MINUTE < once <= 72_000_000 + 10 * MINUTE
    assert HOUR < again <= DAY
