"""Operators cancel jobs, drain a worker and change keys, over a front end and a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import settings
from app.admin.actions import ActionError, Actions
from benchmarks.line import WholeLine
from tests.support.line import QUICK, claim, enqueue, finish, lapse, present
from tests.support.operators import ANNA, BEN, actions_on, operator_line
from tests.support.requests import BEARER, BODY, CHAT, messages
from tests.support.sanic_adapter import Client
from tests.support.scripted import HELLO, ScriptedUpstream
from wire.events import Delta, Started
from wire.keyring import identity
from wire.line import keys
from wire.line.usage import NO_TOKENS
from wire.redis.client import Redis
from wire.seal import Seal
from wire.stream.endings import CANCELLED_BY_OPERATOR, finish_stalled
from workers.worker import Worker

MESSAGE = "The operator of this gateway cancelled the request."


@pytest.fixture
def actions(queue: WholeLine, seal: Seal) -> Actions:
    return actions_on(queue, seal)


async def ids(redis: Redis, key: str, number: int) -> list[str]:
    """The jobs in a sorted set, once there are that many."""
    async with asyncio.timeout(30):
        while await redis.zcard(key) < number:
            await asyncio.sleep(0.01)
    return [id.decode() for id in await redis.zrange(key, 0, -1)]


async def counted(redis: Redis, reason: str) -> int:
    """The number of chats that ended with a reason."""
    field = f'gateway_endings_total{{lane="chat",reason="{reason}"}}'
    (number,) = await redis.hmget(keys.metrics, [field])  # type: ignore[misc]  # redis-py: sync or async
    return int(number or 0)


async def ended(redis: Redis, actions: Actions, id: str) -> str:
    """The state of a job that has ended."""
    async with asyncio.timeout(30):
        while (state := (await actions.cancel(BEN, id)).state) == "running":
            await asyncio.sleep(0.01)
    return state


@pytest.mark.parametrize(
    ("path", "question"),
    [
        ("chat/completions", {"messages": BODY["messages"]}),
        ("completions", {"prompt": "hi"}),
        ("responses", {"input": "hi"}),
        ("messages", {"messages": BODY["messages"], "max_tokens": 9}),
    ],
)
async def test_a_cancelled_job_ends_in_its_own_dialect_streamed_and_whole(
    client: Client,
    upstream: ScriptedUpstream,
    redis: Redis,
    actions: Actions,
    path: str,
    question: dict[str, Any],
) -> None:
    upstream.script = ([Started("m"), Delta("half")], asyncio.Event())
    for stream in (True, False):
        body = {"model": BODY["model"], "stream": stream, **question}
        asked = asyncio.ensure_future(client.post(f"/v1/{path}", json=body, headers=BEARER))
        (id,) = await ids(redis, keys.leases("main", "chat"), 1)
        async with asyncio.timeout(30):
            while not await redis.hexists(keys.job(id), "published"):  # type: ignore[misc]  # redis-py: sync or async
                await asyncio.sleep(0.01)
        assert (await actions.cancel(ANNA, id)).result == "cancelling"
        response = await asked
        if stream:
            assert response.status_code == 200
            assert MESSAGE in response.text.split("\n\n")[-2], "the last event"
            assert "[DONE]" not in response.text
        else:
            assert response.status_code == 409
            assert response.headers["x-should-retry"] == "false"
            assert response.json()["error"]["message"] == MESSAGE
        if path != "messages":  # Anthropic's errors have no code
            assert '"cancelled_by_operator"' in response.text
        assert await ended(redis, actions, id) == "cancelled"
    assert await counted(redis, "cancelled_by_operator") == 2


async def test_a_waiting_job_is_cancelled_and_the_one_before_it_goes_on(
    client: Client, upstream: ScriptedUpstream, redis: Redis, actions: Actions
) -> None:
    gate = asyncio.Event()
    upstream.script = (HELLO[:1], gate, HELLO[1:])
    runs = asyncio.ensure_future(client.post(CHAT, json=BODY, headers=BEARER))
    await ids(redis, keys.leases("main", "chat"), 1)
    waiting = [
        asyncio.ensure_future(client.post(CHAT, json={**BODY, "stream": stream}, headers=BEARER))
        for stream in (True, False)
    ]
    for id in await ids(redis, keys.waiting("chat"), 2):
        assert (await actions.cancel(ANNA, id)).result == "cancelled"
    for response in await asyncio.gather(*waiting):
        if response.status_code == 200:  # its stream had begun, with keep-alives
            error = messages(response)[-1]["error"]
        else:
            assert response.status_code == 409
            error = response.json()["error"]
        assert (error["code"], error["message"]) == ("cancelled_by_operator", MESSAGE)
    gate.set()
    assert (await runs).json()["choices"][0]["message"]["content"] == "hello"
    assert await counted(redis, "cancelled_by_operator") == 2
    assert await counted(redis, "done") == 1


async def test_of_several_operators_who_cancel_a_job_one_does_and_it_ends_once(
    client: Client, upstream: ScriptedUpstream, redis: Redis, actions: Actions
) -> None:
    upstream.script = (HELLO[:1], asyncio.Event())
    asked = [asyncio.ensure_future(client.post(CHAT, json=BODY, headers=BEARER)) for _ in "12"]
    (running,) = await ids(redis, keys.leases("main", "chat"), 1)
    (waiting,) = await ids(redis, keys.waiting("chat"), 1)
    for id, first in ((waiting, "cancelled"), (running, "cancelling")):
        results = await asyncio.gather(*(actions.cancel(who, id) for who in (ANNA, BEN) * 3))
        assert sorted(each.result for each in results) == ["already"] * 5 + [first]
    assert [response.status_code for response in await asyncio.gather(*asked)] == [409, 409]
    assert await ended(redis, actions, running) == "cancelled"
    assert await counted(redis, "cancelled_by_operator") == 2
    with pytest.raises(ActionError) as unknown:
        await actions.cancel(ANNA, "unknown")
    assert (unknown.value.http_status, unknown.value.code) == (404, "job_not_found")


async def test_a_cancellation_reaches_a_worker_that_missed_the_message(
    queue: WholeLine, actions: Actions
) -> None:
    await enqueue(queue, "job")
    (claimed,) = await claim(queue)
    assert (await actions.cancel(ANNA, "job")).result == "cancelling"
    assert await present(queue, claimed) == ["operator"]
    await queue.detach("job", "job")  # its reader has left meanwhile
    assert await present(queue, claimed) == ["operator"]
    assert await queue.requeue(claimed) == "operator"
    assert await finish(queue, claimed)


@pytest.mark.parametrize("config", [settings.Settings(queue=QUICK)])
async def test_a_cancelled_job_ends_so_even_if_its_worker_dies_first(
    queue: WholeLine, seal: Seal, redis: Redis, actions: Actions
) -> None:
    await enqueue(queue, "job")
    await claim(queue)
    await actions.cancel(ANNA, "job")
    _, (stalled,) = await lapse(queue)
    assert stalled.cancelled == "operator"
    assert await finish_stalled(queue, seal, stalled, CANCELLED_BY_OPERATOR, NO_TOKENS)
    assert await counted(redis, "cancelled_by_operator") == 1


async def test_a_drained_worker_ends_its_jobs_and_claims_no_more(
    client: Client,
    worker: Worker,
    upstream: ScriptedUpstream,
    redis: Redis,
    actions: Actions,
) -> None:
    gate = asyncio.Event()
    upstream.script = (HELLO[:1], gate, HELLO[1:])
    runs = asyncio.ensure_future(client.post(CHAT, json=BODY, headers=BEARER))
    await ids(redis, keys.leases("main", "chat"), 1)
    drained = await asyncio.gather(*(actions.drain(who, worker.id) for who in (ANNA, BEN)))
    assert sorted(each.result for each in drained) == ["already", "draining"]
    async with asyncio.timeout(30):
        while await redis.zscore(keys.workers("fp"), worker.id) or await presence(redis, worker):
            await asyncio.sleep(0.01)
    late = asyncio.ensure_future(
        client.post(CHAT, json=BODY, headers={"authorization": "Bearer late"})
    )
    await ids(redis, keys.waiting("chat"), 1)
    gate.set()
    assert (await runs).status_code == 200
    assert (await actions.drain(ANNA, worker.id)).result == "already"
    assert len(upstream.asked) == 1
    late.cancel()
    with pytest.raises(ActionError) as unknown:
        await actions.drain(ANNA, "unknown")
    assert unknown.value.code == "worker_not_found"
    with pytest.raises(ActionError) as deaf:
        await actions.drain(ANNA, "steady")  # its presence is all there is of it
    assert (deaf.value.http_status, deaf.value.code) == (503, "worker_unreachable")


async def presence(redis: Redis, worker: Worker) -> bool:
    """True unless a worker claims no more jobs."""
    found = await redis.get(keys.worker(worker.id))
    return found is not None and b'"max_jobs":0' not in found


async def test_keys_are_issued_changed_and_revoked_and_each_is_written_once(
    actions: Actions, seal: Seal
) -> None:
    issued = await actions.issue_key(ANNA, "bot", {"max_running": 2})
    id = issued.record.id
    assert (await actions.change_key(BEN, id, {"max_running": 3})).record.max_running == 3
    assert (await actions.change_key(BEN, id, {"max_running": 3})).result == "already"
    both = await asyncio.gather(*(actions.revoke_key(who, id) for who in (ANNA, BEN)))
    assert sorted(each.result for each in both) == ["already", "revoked"]
    assert all(each.record.revoked for each in both)
    assert (await actions.revoke_key(ANNA, id)).result == "already"
    for act, code in wrong(actions, id):
        with pytest.raises(ActionError) as failed:
            await act()
        assert failed.value.code == code
    entries = await actions.audit.latest(100)
    assert [(e.who, e.action, e.target, e.result) for e in entries[-3:]] == [
        ("Ben", "change_key", f"key {id}", "already"),
        ("Ben", "change_key", f"key {id}", "changed"),
        ("Anna", "issue_key", f"key {id}", "issued"),
    ]
    assert len(entries) == 6
    assert entries[0].at >= entries[-1].at > 1_700_000_000
    assert issued.key not in repr(entries)


def wrong(actions: Actions, id: str) -> list[tuple[Callable[[], Any], str]]:
    """Actions that fail, with the code of the error."""
    return [
        (lambda: actions.issue_key(ANNA, "bot", {"max_running": -1}), "invalid_value"),
        (lambda: actions.change_key(ANNA, id, {"weight": "x"}), "invalid_value"),
        (lambda: actions.change_key(ANNA, "0" * 16, {"weight": 1}), "key_not_found"),
        (lambda: actions.revoke_key(ANNA, "0" * 16), "key_not_found"),
        (lambda: actions.pause(ANNA, "key", "0" * 32), "key_not_found"),
        (lambda: actions.pause(ANNA, "upstream", "unknown"), "upstream_not_found"),
        (lambda: actions.pause(ANNA, "account", "unknown"), "account_not_found"),
        (lambda: actions.wake(ANNA, "unknown"), "account_not_found"),
        (lambda: actions.pause(ANNA, "all", seconds=0), "invalid_seconds"),
        (lambda: actions.pause(ANNA, "all", seconds=1e9), "invalid_seconds"),
        (lambda: actions.pause(ANNA, "all", seconds=float("nan")), "invalid_seconds"),
    ]


async def test_a_gateway_key_is_paused_by_its_id_and_resumed_by_either_name(
    queue: WholeLine, actions: Actions, seal: Seal
) -> None:
    id = (await actions.issue_key(ANNA, "bot", {})).record.id
    key = seal.name("account", identity(id))
    assert (await actions.pause(ANNA, "key", id)).pause.name == key
    assert (await actions.pause(BEN, "key", key)).result == "already"
    assert (await actions.resume(BEN, "key", key)).result == "resumed"
    assert (await actions.resume(ANNA, "key", id)).result == "already"
    await actions.revoke_key(ANNA, id)


async def test_of_contrary_actions_at_once_each_is_done_and_the_last_one_holds(
    queue: WholeLine, actions: Actions
) -> None:
    paused = asyncio.gather(*(actions.pause(ANNA, "all") for _ in range(5)))
    resumed = asyncio.gather(*(actions.resume(BEN, "all") for _ in range(5)))
    began = [each.result for each in await paused].count("paused")
    ended = [each.result for each in await resumed].count("resumed")
    assert len(await actions.audit.latest(100)) == 10
    assert began - ended == bool(await operator_line(queue).pauses())
