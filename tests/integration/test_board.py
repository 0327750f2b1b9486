"""The board and the stories of jobs, as operators read them from a real Redis."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from benchmarks.line import WholeLine
from tests.support.line import ENTRY, new, serve, shared
from tests.support.operators import operator_line
from tests.support.shared_lanes import CALM, START, Clock, calm_line, enqueue, fill, finish, take
from wire import VERSION
from wire.line import inspection, keys
from wire.line.admission import Accepted
from wire.line.board import BoardJob, Requeue, Why
from wire.line.claims import Claim
from wire.line.operator import OperatorLine
from wire.line.presence import Presence
from wire.line.processes import Processes, ProcessFigures
from wire.line.usage import Tokens
from wire.redis.client import Redis
from wire.seal import Seal


@pytest.fixture
async def queue(redis: Redis, seal: Seal) -> WholeLine:
    return await calm_line(redis, seal)


@pytest.fixture
def operator(queue: WholeLine) -> OperatorLine:
    return OperatorLine(queue.scripts, CALM)


async def enqueue_own(queue: WholeLine, id: str, key: str) -> None:
    """Enqueue a job that runs on the own account of its key."""
    assert isinstance(await queue.enqueue(new(id, key), b"body"), Accepted)


class Waits(NamedTuple):
    """The job that waits in a scene, and until when it does, in seconds from now."""

    id: str
    until: float | None = None


async def for_a_slot(queue: WholeLine) -> Waits:
    await serve(queue, shared("gpu", "chat:a", slots=1))
    await fill(queue, "chat:a", "one", "two", count=1)
    await take(queue, "gpu")
    return Waits("two-chat:a-0")


async def for_its_key(queue: WholeLine) -> Waits:
    await serve(queue, shared("gpu", "chat:a", slots=9))
    for id in ("runs", "waits"):
        await enqueue(queue, id, "capped", "chat:a", key_slots=1)
    await take(queue, "gpu")
    return Waits("waits")


async def for_another_job_of_its_key(queue: WholeLine) -> Waits:
    await serve(queue, shared("gpu", "chat:a", slots=9))
    await fill(queue, "chat:a", "one", count=2)
    return Waits("one-chat:a-1")


async def full_account(queue: WholeLine) -> Claim:
    """Let a job run on the own account of its key, and another one wait."""
    await queue.offer_main()
    await queue.renew(Presence("w", VERSION, "fingerprint", 100), [])
    for id in ("runs", "waits"):
        await enqueue_own(queue, id, "own")
    [claim] = await take(queue, "main")
    return claim


async def for_its_account(queue: WholeLine) -> Waits:
    await full_account(queue)
    return Waits("waits")


async def while_its_account_cools_down(queue: WholeLine) -> Waits:
    await queue.cool_down(await full_account(queue), 5, 60, pause=7.0)
    return Waits("waits", 7.0)


async def while_its_account_has_used_up_its_model(queue: WholeLine) -> Waits:
    await queue.park(await full_account(queue), 90.0)
    return Waits("runs", 90.0)


async def while_shared_accounts_cool_down(queue: WholeLine) -> Waits:
    await serve(queue, shared("gpu", "chat:a", slots=1, accounts=["gpu/a", "gpu/b"]))
    await fill(queue, "chat:a", "one", "two", count=1)
    for claim, pause in zip(await take(queue, "gpu"), (30.0, 20.0), strict=True):
        await queue.set_aside(claim, "token_refused", "", pause)
    return Waits("one-chat:a-0", 20.0)


async def while_shared_accounts_have_used_up_its_model(queue: WholeLine) -> Waits:
    await serve(queue, shared("gpu", "chat:a", slots=1))
    await fill(queue, "chat:a", "one", count=1)
    [claim] = await take(queue, "gpu")
    await queue.park(claim, 60.0)
    return Waits(claim.id, 60.0)


async def until_it_is_tried_again(queue: WholeLine) -> Waits:
    await serve(queue, shared("gpu", "chat:a"))
    await fill(queue, "chat:a", "one", count=1)
    [claim] = await take(queue, "gpu")
    await queue.retry(claim, 4.0, 10.0, 5)
    return Waits(claim.id, 4.0)


async def while_the_circuit_is_open(queue: WholeLine) -> Waits:
    await serve(queue, shared("gpu", "chat:a", slots=1, circuit_failures=1))
    await fill(queue, "chat:a", "one", "two", count=1)
    [claim] = await take(queue, "gpu")
    await queue.finish(claim.id, claim.attempt, "failed", ENTRY, {}, upstream_failed=True)
    return Waits("two-chat:a-0", 5.0)


async def while_no_worker_is_alive(queue: WholeLine) -> Waits:
    await serve(queue, shared("gpu", "chat:a"))
    await fill(queue, "chat:a", "one", count=1)
    await queue.presences.remove_worker("w")
    return Waits("one-chat:a-0")


async def while_the_line_settles(queue: WholeLine) -> Waits:
    await serve(queue, shared("gpu", "chat:a"))
    await fill(queue, "chat:a", "one", count=1)
    since = START * 1000 - queue.settling + 3000
    await queue.redis.hset("gateway:pulse", "since", str(since))  # type: ignore[misc]  # redis-py: sync or async
    return Waits("one-chat:a-0", 3.0)


async def while_its_account_is_paused(queue: WholeLine) -> Waits:
    await full_account(queue)
    await operator_line(queue).pause("account", "own", "Anna")
    return Waits("waits")


async def while_shared_accounts_are_paused_or_parked(queue: WholeLine) -> Waits:
    waits = await while_shared_accounts_have_used_up_its_model(queue)
    await operator_line(queue).pause("account", "gpu", "Anna", 80.0)
    return Waits(waits.id, 80.0)


async def while_its_upstream_is_paused(queue: WholeLine) -> Waits:
    await serve(queue, shared("gpu", "chat:a"))
    await fill(queue, "chat:a", "one", count=1)
    await operator_line(queue).pause("upstream", "gpu", "Anna")
    return Waits("one-chat:a-0")


async def until_the_first_of_its_upstreams_takes_jobs(queue: WholeLine) -> Waits:
    waits = await while_the_circuit_is_open(queue)
    await queue.offer(shared("box", "chat:a"))
    await queue.renew(Presence("w", VERSION, "fingerprint", 100, ("gpu", "box")), [])
    await operator_line(queue).pause("upstream", "box", "Anna", 60.0)
    return waits


SCENES: dict[Callable[[WholeLine], Awaitable[Waits]], Why] = {
    for_a_slot: "slot",
    for_its_key: "key",
    for_another_job_of_its_key: "key",
    for_its_account: "account",
    while_its_account_cools_down: "cooling",
    while_its_account_has_used_up_its_model: "parked",
    while_shared_accounts_cool_down: "cooling",
    while_shared_accounts_have_used_up_its_model: "parked",
    until_it_is_tried_again: "retry",
    while_the_circuit_is_open: "circuit",
    while_no_worker_is_alive: "no_worker",
    while_the_line_settles: "settling",
    while_its_account_is_paused: "paused",
    while_shared_accounts_are_paused_or_parked: "paused",
    while_its_upstream_is_paused: "paused",
    until_the_first_of_its_upstreams_takes_jobs: "circuit",
}


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
async def test_operators_see_why_a_job_waits_and_until_when(
    queue: WholeLine,
    operator: OperatorLine,
    scene: Callable[[WholeLine], Awaitable[Waits]],
) -> None:
    waits = await scene(queue)
    job = next(job for job in await operator.jobs(0, 10) if job.id == waits.id)
    assert (job.why, job.until) == (SCENES[scene], waits.until and START + waits.until)
    assert job.place is not None
    assert job.wait is not None
    board = await operator.board()
    assert job in board.waiting
    assert board.waiting_total == len(board.waiting)


async def test_the_story_of_a_job_goes_from_its_arrival_to_its_ending(
    queue: WholeLine, operator: OperatorLine, redis: Redis
) -> None:
    clock = Clock(queue)
    offer = shared("gpu", "chat:a")
    await serve(queue, offer)
    await enqueue(queue, "job", "key", "chat:a", book="0123456789abcdef", model="gpt 4/o")
    await clock.advance(1)
    [claim] = await take(queue, "gpu")
    await clock.advance(1)
    await queue.cool_down(claim, 5, 60, pause=3.0)
    await clock.advance(3)
    [claim] = await take(queue, "gpu")
    await clock.advance(2)
    await queue.begin(claim, ENTRY, {})
    await clock.advance(2)
    await queue.renew(Presence("w", VERSION, "fingerprint", 100, ("gpu",)), [claim], {"job": 42})

    [running] = (await operator.board()).running
    assert (running.state, running.worker, running.upstream, running.account, running.tokens) == (
        *("running", "w", "gpu", "gpu", 42),
    )
    assert (running.book, running.model, running.key) == ("0123456789abcdef", "gpt 4/o", "key")
    assert (running.arrived, running.claimed, running.first_token) == (
        *(START, START + 5, START + 7),
    )
    assert running.requeues == [
        Requeue(
            at=START + 2, reason="account_busy", claimed=START + 1, upstream="gpu", account="gpu"
        )
    ]
    assert (running.place, running.why) == (None, None)

    await clock.advance(1)
    await queue.finish("job", claim.attempt, "done", ENTRY, {}, tokens=Tokens(5, 60))
    story = await operator.story("job")
    assert story
    assert (story.state, story.reason, story.ended) == ("done", "done", START + 10)
    assert (story.input_tokens, story.output_tokens, story.slot_ms) == (5, 60, 6000)
    for name in BoardJob.__struct_fields__:
        if name != "state":
            assert getattr(story, name) == getattr(running, name), name

    await redis.delete(keys.job("job"))
    told = await operator.story("job")
    assert told == replace(story, tokens=0), "the number that was counted is better"


async def test_the_latest_endings_are_told_and_only_the_last_requeues(
    queue: WholeLine, operator: OperatorLine
) -> None:
    await serve(queue, shared("gpu", "chat:a"))
    await enqueue(queue, "unlucky", "key", "chat:a")
    for _ in range(7):
        [claim] = await take(queue, "gpu")
        assert await queue.requeue(claim) == "requeued"
    await queue.cancel("unlucky")
    await enqueue(queue, "last", "key", "chat:a")
    await finish(queue, *await take(queue, "gpu"))
    last, unlucky = await operator.endings(10)
    assert (last.id, last.state) == ("last", "done")
    assert (unlucky.id, unlucky.state, unlucky.reason) == ("unlucky", "cancelled", "cancelled")
    assert [each.reason for each in unlucky.requeues] == ["handed_back"] * 5
    assert [story.id for story in await operator.endings(1)] == ["last"]
    assert await operator.story("unknown") is None


async def test_a_job_of_an_older_release_has_a_story_without_what_it_does_not_note(
    queue: WholeLine, operator: OperatorLine, redis: Redis
) -> None:
    await serve(queue, shared("gpu", "chat:a"))
    await enqueue(queue, "old", "key", "chat:a")
    [claim] = await take(queue, "gpu")
    await queue.begin(claim, ENTRY, {})
    await redis.hset(keys.job("old"), "published", "1")  # type: ignore[misc]  # redis-py: sync or async
    await redis.hdel(keys.job("old"), "predicted", "book", "model")  # type: ignore[misc]  # redis-py: sync or async
    [running] = (await operator.board()).running
    assert (running.first_token, running.book, running.model) == (None, "passthrough", "")
    await redis.hset(keys.job("kept-out"), "state", "cancelled")  # type: ignore[misc]  # redis-py: sync or async
    assert await operator.story("kept-out") is None


async def test_pages_of_jobs_are_in_the_order_of_arrival_and_of_a_key_in_its_own(
    queue: WholeLine, operator: OperatorLine
) -> None:
    clock = Clock(queue)
    await serve(queue, shared("gpu", "chat:a", "images:b", "chat:c"))
    lanes = ("chat:a", "images:b", "chat:c")
    arrived = [f"job-{n}" for n in range(20)]
    for n, id in enumerate(arrived):
        if n % 3:  # some arrive in the same millisecond
            await clock.advance(0.5)
        await enqueue(queue, id, f"key-{n % 2}", lanes[n % 3])

    async def paged(size: int, key: str = "") -> list[str]:
        pages = [await operator.jobs(at, size, key) for at in range(0, 24, size)]
        assert all(len(page) <= size for page in pages)
        return [job.id for page in pages for job in page]

    for size in (1, 3, 7, 24):
        ids = await paged(size)
        assert sorted(ids) == sorted(arrived)
        times = [arrived.index(id) for id in ids]
        assert all(abs(at - n) <= 1 for n, at in enumerate(times)), times
        for key in ("key-0", "key-1"):
            own = await paged(size, key)
            assert sorted(own) == sorted(arrived[int(key[-1]) :: 2])
            queued = 3  # one of each lane
            assert [arrived.index(id) for id in own[queued:]] == sorted(
                arrived.index(id) for id in own[queued:]
            )


async def test_a_board_lists_no_more_than_its_bounds_and_counts_the_others(
    queue: WholeLine, operator: OperatorLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LANES", "FLOWS", "OWN_ACCOUNTS", "RUNNING", "WAITING", "OF_UPSTREAM"):
        monkeypatch.setattr(inspection, name, 2)
    for name in ("LEASES_AT_ONCE", "LATER_AT_ONCE", "LANES_AT_ONCE", "KEYS_AT_ONCE"):
        monkeypatch.setattr(inspection, name, 1)
    lanes = [f"chat:{n}" for n in range(4)]
    accounts = [f"gpu/{n}" for n in range(3)]
    await queue.offer_main()
    await serve(queue, shared("gpu", *lanes, accounts=accounts, slots=1))
    for lane in lanes:
        await fill(queue, lane, "heavy", "light", count=1)
        await fill(queue, lane, "heaviest", count=3)
    assert len(await take(queue, "gpu")) == 3
    await queue.renew(Presence("w", VERSION, "fingerprint", 100, ("main", "gpu")), [])
    for n in range(4):
        await enqueue_own(queue, f"own-{n}", f"own-{n}")
    for claim in await take(queue, "main"):
        await queue.cool_down(claim, 30, 60)

    board = await operator.board()
    assert len(board.lanes) == len(board.flows) == len(board.own_accounts) == 2
    assert len(board.running) == len(board.waiting) == 2
    assert (board.running_total, board.waiting_total) == (3, 21)
    assert board.more_accounts == 2
    assert board.more_lanes == 4
    assert board.flows[0].key == "heaviest"
    assert board.flows[0].waiting + board.flows[0].running == 12
    gpu = next(upstream for upstream in board.upstreams if upstream.name == "gpu")
    assert (gpu.slots, gpu.held, gpu.more_lanes, gpu.more_accounts) == (3, 3, 2, 1)
    assert {account.state for account in gpu.accounts} == {"full"}
    assert {account.state for account in board.own_accounts} == {"cooling"}
    assert {account.waiting for account in board.own_accounts} == {1}


async def test_lanes_flows_and_upstreams_are_told_as_they_are(
    queue: WholeLine, operator: OperatorLine
) -> None:
    clock = Clock(queue)
    gpu = shared("gpu", "chat:a", "chat:b", accounts=["gpu/a", "gpu/b"], slots=2)
    box = shared("box", "chat:c", circuit_failures=1)
    await serve(queue, gpu, box)
    await fill(queue, "chat:a", "one", count=4)
    await clock.advance(1)
    await fill(queue, "chat:b", "two", count=2)
    await fill(queue, "chat:c", "three", count=3)
    parked, *_ = await take(queue, "gpu")
    await queue.park(parked, 600)
    failed, _ = await take(queue, "box")
    await queue.finish(failed.id, failed.attempt, "failed", ENTRY, {}, upstream_failed=True)

    board = await operator.board()
    lanes = {lane.lane: lane for lane in board.lanes}
    assert {name: (lane.waiting, lane.running, lane.keys) for name, lane in lanes.items()} == {
        "chat:a": (lanes["chat:a"].waiting, 4 - lanes["chat:a"].waiting, 1),
        "chat:b": (lanes["chat:b"].waiting, 2 - lanes["chat:b"].waiting, 0),
        "chat:c": (1, 1, 1),
    }
    assert lanes["chat:a"].upstreams == ["gpu"]
    flows = {flow.key: flow for flow in board.flows}
    assert {key: flow.waiting + flow.running for key, flow in flows.items()} == {
        "one": 4,
        "two": 2,
        "three": 2,
    }
    assert (flows["one"].oldest, flows["two"].oldest) == (START, START + 1)
    states = {upstream.name: upstream for upstream in board.upstreams}
    assert (states["box"].state, states["box"].until) == ("circuit_open", START + 6)
    assert states["gpu"].state == "ready"
    [account] = [each for each in states["gpu"].accounts if each.state == "parked"]
    assert (account.account, account.parked) == (parked.account, {"a": START + 601})
    assert board.at == START + 1
    figures = ProcessFigures(
        id="w", role="worker", host="h", pid=1, started=START, version=VERSION, fingerprint="f"
    )
    await Processes(queue.scripts, CALM).show(figures)
    assert (await operator.board()).processes == [figures]


async def test_a_board_shows_what_operators_have_paused(
    queue: WholeLine, operator: OperatorLine
) -> None:
    clock = Clock(queue)
    await while_its_account_is_paused(queue)
    await serve(queue, shared("gpu", "chat:a", accounts=["gpu/a", "gpu/b"]))
    await fill(queue, "chat:a", "one", "two", count=1)
    await operator.pause("key", "one", "Anna")
    await operator.pause("upstream", "gpu", "Anna", 30.0)
    await operator.pause("account", "gpu/a", "Anna")
    await operator.pause("all", "", "Anna", 5.0)
    board = await operator.board()
    assert {(pause.what, pause.name) for pause in board.pauses} == {
        *(
            ("account", "own"),
            ("key", "one"),
            ("upstream", "gpu"),
            ("account", "gpu/a"),
            ("all", ""),
        ),
    }
    assert {flow.key: flow.paused for flow in board.flows} == {
        "one": True,
        "two": False,
        "own": False,
    }
    gpu = next(upstream for upstream in board.upstreams if upstream.name == "gpu")
    assert (gpu.state, gpu.until) == ("paused", START + 30)
    assert [account.state for account in gpu.accounts] == ["paused", "ready"]
    [own] = board.own_accounts
    assert (own.account, own.state, own.waiting) == ("own", "paused", 1)
    await clock.advance(5.1)
    assert "all" not in {pause.what for pause in (await operator.board()).pauses}


async def test_the_work_of_a_board_does_not_grow_with_the_line(
    queue: WholeLine, operator: OperatorLine, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FLOWS", "OWN_ACCOUNTS", "RUNNING", "WAITING"):
        monkeypatch.setattr(inspection, name, 10)
    await queue.offer_main()
    await queue.renew(Presence("w", VERSION, "fingerprint", 100), [])
    until = (START + 60) * 1000

    async def calls(keys_from: int, keys_to: int) -> int:
        """Commands of a board, after more keys with parked accounts have come."""
        for n in range(keys_from, keys_to):
            await redis.zadd(keys.later, {f"family own-{n} gpt_4_s": until})
            await enqueue_own(queue, f"own-{n}", f"own-{n}")
        await redis.config_resetstat()
        board = await operator.board()
        assert board.waiting_total == keys_to
        assert {job.why for job in board.waiting} == {"parked"}
        stats = await redis.info("commandstats")
        return sum(stat["calls"] for stat in stats.values())

    await calls(0, 50)  # the scripts are loaded
    assert await calls(50, 150) == await calls(150, 400)
