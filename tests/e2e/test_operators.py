"""Operators act on a gateway of real processes, also two at once, and while Redis is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import TypeVar

import httpx
import openai
import pytest
import redis

import settings
from app.admin.actions import ActionError, Actions
from settings.redis_url import redis_url
from tests.support.gateway import Gateway, frozen, until
from tests.support.operators import ANNA, BEN
from wire.keyring import Keyring
from wire.line import keys
from wire.line.audit import Audit
from wire.line.operator import OperatorLine
from wire.line.scripts import Scripts
from wire.redis.client import connect
from wire.seal import Seal

T = TypeVar("T")

FRONTS = 2
ACCOUNTS = ("token-of-one", "token-of-two")
PROMPT = "[[sim words=4 gate=1]]"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    accounts = ", ".join(f'"{token} {token[9:]} 1"' for token in ACCOUNTS)
    with Gateway(
        tmp_path_factory.mktemp("gateway"),
        auth__mode="both",
        upstream__accounts=f"[{accounts}]",
        stream__grace="0.2",
        redis__outage_grace="30",
    ) as gateway:
        yield gateway.start(workers=2, fronts=FRONTS)


@pytest.fixture
def gateway(started: Gateway) -> Gateway:
    return started.at_rest()


class Operators:
    """Operators of a gateway, each action over a connection of its own."""

    def __init__(self, gateway: Gateway) -> None:
        self._url = redis_url(gateway.redis.url)
        self._seal = Seal(gateway.secret.encode())

    def __call__(self, act: Callable[[Actions], Awaitable[T]]) -> T:
        return asyncio.run(self._act(act))

    async def _act(self, act: Callable[[Actions], Awaitable[T]]) -> T:
        client = connect(self._url)
        line = OperatorLine(Scripts(client, self._seal.fingerprint), settings.Queue())
        try:
            return await act(Actions(line, Keyring(client, self._seal), Audit(client), self._seal))
        finally:
            await client.aclose()


@pytest.fixture
def operators(gateway: Gateway) -> Operators:
    return Operators(gateway)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def bot(gateway: Gateway, key: str, front: int = 0, retries: int = 0) -> openai.OpenAI:
    url = f"{gateway.urls[front]}/v1"
    return openai.OpenAI(base_url=url, api_key=key, max_retries=retries, timeout=60)


def whole(client: openai.OpenAI) -> str:
    with client:
        answer = client.chat.completions.create(
            model="gpt-4", messages=[{"role": "user", "content": PROMPT}]
        )
        return answer.choices[0].message.content or ""


def streamed(client: openai.OpenAI) -> str:
    with client:
        answer = client.chat.completions.create(
            model="gpt-4", messages=[{"role": "user", "content": PROMPT}], stream=True
        )
        return "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)


def in_line(gateway: Gateway, name: str, number: int) -> list[str]:
    """The jobs in a sorted set of Redis, once there are that many."""
    with redis.Redis.from_url(gateway.redis.url) as client:

        def found() -> list[bytes]:
            ids = client.zrange(name, 0, -1)
            return ids if len(ids) == number else []

        return [id.decode() for id in until(found, 30, f"{name}: not {number} jobs")]


def running(gateway: Gateway, number: int) -> list[str]:
    return in_line(gateway, keys.leases("main", "chat"), number)


def waiting(gateway: Gateway, number: int) -> list[str]:
    return in_line(gateway, keys.waiting("chat"), number)


def refusal(gateway: Gateway, key: str, front: int = 0) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as refused:
        whole(bot(gateway, key, front))
    return refused.value


def test_a_paused_intake_refuses_at_every_front_end_and_serves_those_that_wait(
    gateway: Gateway, operators: Operators, pool: ThreadPoolExecutor
) -> None:
    runs = pool.submit(whole, bot(gateway, "alice"))
    running(gateway, 1)
    waits = pool.submit(streamed, bot(gateway, "alice", 1))
    waiting(gateway, 1)
    assert operators(lambda act: act.pause(ANNA, "all")).result == "paused"
    for front in range(FRONTS):
        refused = refusal(gateway, "bob", front)
        assert (refused.status_code, refused.code) == (503, "intake_paused")
        assert refused.response.headers["retry-after"] == "30"
    question = {"model": "gpt-4", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    headers = {"authorization": "Bearer bob"}
    refused_too = httpx.post(f"{gateway.url}/v1/messages", json=question, headers=headers)
    assert refused_too.status_code == 529
    assert "has paused new requests" in refused_too.json()["error"]["message"]
    ready = httpx.get(f"{gateway.url}/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert 'gateway_paused{what="all"} 1.0' in httpx.get(f"{gateway.url}/metrics").text
    gateway.open_gate()
    assert len(runs.result(60).split()) == 4
    running(gateway, 1)
    gateway.open_gate()
    assert len(waits.result(60).split()) == 4
    assert operators(lambda act: act.resume(BEN, "all")).result == "resumed"
    again = pool.submit(whole, bot(gateway, "bob"))
    running(gateway, 1)
    gateway.open_gate()
    assert again.result(60)


def test_two_operators_cancel_jobs_at_once_and_each_client_gets_one_error(
    gateway: Gateway, operators: Operators, pool: ThreadPoolExecutor
) -> None:
    clients = [
        (ask, bot(gateway, "alice", front, retries=2))
        for front in (0, 1)
        for ask in (whole, streamed)
    ]
    asked: list[Future[str]] = [pool.submit(ask, client) for ask, client in clients]
    (first,) = running(gateway, 1)
    others = waiting(gateway, 3)

    async def cancel_all(act: Actions, ids: list[str]) -> list[str]:
        calls = [act.cancel(who, id) for id in ids for who in (ANNA, BEN)]
        return sorted([each.result for each in await asyncio.gather(*calls)])

    assert operators(partial(cancel_all, ids=others)) == ["already"] * 3 + ["cancelled"] * 3
    assert operators(partial(cancel_all, ids=[first])) == ["already", "cancelling"]
    for answer in asked:
        with pytest.raises(openai.APIError, match="The operator of this gateway cancelled") as end:
            answer.result(60)
        assert end.value.code == "cancelled_by_operator"
    gateway.wait_idle()
    assert gateway.stats()["started"] == 1, "no client has tried again"
    ended = 'gateway_endings_total{lane="chat",reason="cancelled_by_operator"} 4.0'
    assert ended in httpx.get(f"{gateway.url}/metrics").text


def test_a_drained_worker_ends_by_itself_once_its_answer_is_whole(
    gateway: Gateway, operators: Operators, pool: ThreadPoolExecutor
) -> None:
    runs = pool.submit(streamed, bot(gateway, "alice"))
    (job,) = running(gateway, 1)
    with redis.Redis.from_url(gateway.redis.url) as client:
        (worker,) = client.hmget(keys.job(job), ["worker"])

    async def drain(act: Actions) -> list[str]:
        both = await asyncio.gather(*(act.drain(who, worker.decode()) for who in (ANNA, BEN)))
        return [each.result for each in both]

    assert sorted(operators(drain)) == ["already", "draining"]
    other = pool.submit(whole, bot(gateway, "bob"))
    running(gateway, 2)
    assert all(process.poll() is None for process in gateway.workers)
    gateway.open_gate()
    assert len(runs.result(60).split()) == len(other.result(60).split()) == 4
    until(
        lambda: [process.poll() for process in gateway.workers].count(0) == 1,
        60,
        "the worker has not ended",
    )
    gateway.start(workers=2, fronts=FRONTS)


def test_a_paused_upstream_and_parked_accounts_get_no_jobs_until_they_are_resumed(
    gateway: Gateway, operators: Operators, pool: ThreadPoolExecutor
) -> None:
    bots = operators(lambda act: act.issue_key(ANNA, "bot", {}))
    key = bots.key
    own = pool.submit(whole, bot(gateway, "alice"))
    (job,) = running(gateway, 1)
    with redis.Redis.from_url(gateway.redis.url) as client:
        (account,) = client.hmget(keys.job(job), ["account"])
    gateway.open_gate()
    own.result(60)
    # A key's own account; then one of those that are shared: the other one does all the work.
    operators(lambda act: act.pause(ANNA, "account", account.decode()))
    assert refusal(gateway, "alice").code == "intake_paused"
    operators(lambda act: act.pause(ANNA, "account", "main/one"))
    issued = [pool.submit(whole, bot(gateway, key)) for _ in "12"]
    running(gateway, 1)
    waiting(gateway, 1)
    # Waking is more than resuming.
    operators(lambda act: act.wake(BEN, "main/one"))
    running(gateway, 2)
    gateway.open_gate()
    assert all(answer.result(60) for answer in issued)
    operators(lambda act: act.resume(BEN, "account", account.decode()))
    operators(lambda act: act.pause(ANNA, "upstream", "main"))
    for each in ("alice", key):
        assert refusal(gateway, each).code == "intake_paused"
    operators(lambda act: act.resume(BEN, "upstream", "main"))
    operators(lambda act: act.pause(ANNA, "key", bots.record.id))
    assert refusal(gateway, key).code == "intake_paused"
    again = pool.submit(whole, bot(gateway, "alice"))
    running(gateway, 1)
    gateway.open_gate()
    again.result(60)


def test_a_key_is_changed_and_revoked_by_two_operators_at_once(
    gateway: Gateway, operators: Operators
) -> None:
    issued = operators(lambda act: act.issue_key(ANNA, "other", {"models": ["gpt-4"]}))
    id = issued.record.id
    with bot(gateway, issued.key) as client:
        assert [model.id for model in client.models.list()] == ["gpt-4"]

    async def change(act: Actions) -> None:
        await asyncio.gather(
            act.change_key(ANNA, id, {"max_running": 2}),
            act.revoke_key(BEN, id),
            act.change_key(BEN, id, {"weight": 3}),
        )

    operators(change)
    record = operators(lambda act: act.keyring.get(id))
    assert record is not None
    assert (record.max_running, record.weight, record.revoked > 0) == (2, 3.0, True)
    until(lambda: is_refused(gateway, issued.key), 30, "the revoked key is not refused")


def is_refused(gateway: Gateway, key: str) -> bool:
    try:
        with bot(gateway, key) as client:
            client.models.list()
    except openai.AuthenticationError:
        return True
    return False


def test_an_operator_learns_what_was_done_when_redis_is_frozen_or_killed_in_between(
    gateway: Gateway,
    operators: Operators,
    pool: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = pool.submit(streamed, bot(gateway, "alice"))
    running(gateway, 1)
    server = gateway.redis.process
    assert server is not None
    ping = OperatorLine.ping

    with ExitStack() as away:

        async def freeze(line: OperatorLine) -> None:
            await ping(line)
            await line.resume("key", "nobody")  # the version of the data is checked, too
            away.enter_context(frozen(server))

        with monkeypatch.context() as patch:
            patch.setattr("wire.redis.client.TIMEOUT", 2.0)
            patch.setattr(OperatorLine, "ping", freeze)
            assert failure(operators).startswith("It may or may not have been done")
    # It was done after all, and to do it again does no harm.
    assert operators(lambda act: act.pause(BEN, "all")).result == "already"

    gateway.redis.kill()
    assert failure(operators).startswith("Nothing was changed")
    gateway.redis.restart()
    until(lambda: refusal_code(gateway) == "intake_paused", 60, "the pause is lost")
    assert operators(lambda act: act.resume(BEN, "all")).result == "resumed"
    gateway.open_gate()
    assert len(runs.result(60).split()) == 4
    entries = operators(lambda act: act.audit.latest(2))
    assert [(e.who, e.action, e.result) for e in entries] == [
        ("Ben", "resume", "resumed"),
        ("Ben", "pause", "already"),
    ]


def failure(operators: Operators) -> str:
    """Pause the intake, which fails."""
    with pytest.raises(ActionError) as failed:
        operators(lambda act: act.pause(ANNA, "all"))
    assert (failed.value.http_status, failed.value.code) == (503, "redis_unavailable")
    return str(failed.value)


def refusal_code(gateway: Gateway) -> str | None:
    try:
        whole(bot(gateway, "carol"))
    except openai.APIStatusError as error:
        return error.code
    return None
