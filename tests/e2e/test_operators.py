"""Operators act on a gateway of real processes, also two at once, and while Redis is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import openai
import pytest
import redis

import settings
from app.admin.actions import ActionError, Actions
from settings.redis_url import redis_url
from tests.support.gateway import Gateway, frozen, until
from tests.support.operators import ANNA
from wire.keyring import Keyring
from wire.line import keys
from wire.line.audit import Audit
from wire.line.operator import OperatorLine
from wire.line.scripts import Scripts
from wire.redis.client import connect
from wire.seal import Seal

FRONTS = 2
TOKEN = "a-token-of-the-operators"
ACCOUNTS = ("token-of-one", "token-of-two")
PROMPT = "[[sim words=4 gate=1]]"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    accounts = ", ".join(f'"{token} {token[9:]} 1"' for token in ACCOUNTS)
    with Gateway(
        tmp_path_factory.mktemp("gateway"),
        auth__mode="both",
        admin__token=TOKEN,
        upstream__accounts=f"[{accounts}]",
        stream__grace="0.2",
        redis__outage_grace="30",
    ) as gateway:
        yield gateway.start(workers=2, fronts=FRONTS)


@pytest.fixture
def gateway(started: Gateway) -> Gateway:
    return started.at_rest()


class Operators:
    """Two operators of a gateway, each at another front end."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def post(self, path: str, front: int = 0, **body: object) -> httpx.Response:
        """The answer to an action."""
        url = f"{self._gateway.urls[front]}/admin/api/{path}"
        headers = {"authorization": f"Bearer {TOKEN}"}
        return httpx.post(url, json=body, headers=headers, timeout=30)

    def act(self, path: str, front: int = 0, **body: object) -> str:
        """The result of an action."""
        answer = self.post(path, front, **body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["result"])

    def both(self, *paths: str) -> list[str]:
        """The results of actions that both operators carry out at the same time."""
        with ThreadPoolExecutor() as pool:
            acts = [(path, front) for path in paths for front in range(FRONTS)]
            return sorted(pool.map(lambda act: self.act(*act), acts))


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
    assert operators.both("intake/pause") == ["already", "paused"]
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
    assert operators.both("intake/resume") == ["already", "resumed"]
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

    ended = ["already"] * 3 + ["cancelled"] * 3
    assert operators.both(*(f"jobs/{id}/cancel" for id in others)) == ended
    assert operators.both(f"jobs/{first}/cancel") == ["already", "cancelling"]
    for answer in asked:
        with pytest.raises(openai.APIError, match="The operator of this gateway cancelled") as end:
            answer.result(60)
        assert end.value.code == "cancelled_by_operator"
    gateway.wait_idle()
    assert gateway.stats()["started"] == 1, "no client has tried again"
    counted = 'gateway_endings_total{lane="chat",reason="cancelled_by_operator"} 4.0'
    assert counted in httpx.get(f"{gateway.url}/metrics").text


def test_a_drained_worker_ends_by_itself_once_its_answer_is_whole(
    gateway: Gateway, operators: Operators, pool: ThreadPoolExecutor
) -> None:
    runs = pool.submit(streamed, bot(gateway, "alice"))
    (job,) = running(gateway, 1)
    with redis.Redis.from_url(gateway.redis.url) as client:
        (worker,) = client.hmget(keys.job(job), ["worker"])

    assert operators.both(f"workers/{worker.decode()}/drain") == ["already", "draining"]
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
    bots = operators.post("keys", name="bot").json()
    key = bots["key"]
    own = pool.submit(whole, bot(gateway, "alice"))
    (job,) = running(gateway, 1)
    with redis.Redis.from_url(gateway.redis.url) as client:
        account = client.hmget(keys.job(job), ["account"])[0].decode()
    gateway.open_gate()
    own.result(60)
    # A key's own account; then one of those that are shared: the other one does all the work.
    assert operators.both(f"accounts/{account}/park") == ["already", "paused"]
    assert refusal(gateway, "alice").code == "intake_paused"
    operators.act("accounts/main/one/park")
    issued = [pool.submit(whole, bot(gateway, key)) for _ in "12"]
    running(gateway, 1)
    waiting(gateway, 1)
    assert operators.both("accounts/main/one/wake") == ["already", "woken"]
    running(gateway, 2)
    gateway.open_gate()
    assert all(answer.result(60) for answer in issued)
    operators.act(f"accounts/{account}/resume")
    operators.act("intake/pause", upstream="main", seconds=600)
    for each in ("alice", key):
        refused = refusal(gateway, each)
        assert refused.code == "intake_paused"
        assert 0 < int(refused.response.headers["retry-after"]) <= 600
        assert refused.response.headers["x-should-retry"] == "false"
    assert "upstreams that operators have paused: 1" in httpx.get(f"{gateway.url}/readyz").text
    operators.act("intake/resume", upstream="main")
    operators.act("intake/pause", key=bots["entry"]["id"])
    assert refusal(gateway, key).code == "intake_paused"
    again = pool.submit(whole, bot(gateway, "alice"))
    running(gateway, 1)
    gateway.open_gate()
    again.result(60)


def test_a_key_is_changed_and_revoked_by_two_operators_at_once(
    gateway: Gateway, operators: Operators, pool: ThreadPoolExecutor
) -> None:
    issued = operators.post("keys", name="other", models=["gpt-4"]).json()
    id, key = issued["entry"]["id"], issued["key"]
    with bot(gateway, key) as client:
        assert [model.id for model in client.models.list()] == ["gpt-4"]
    changed = [pool.submit(operators.act, f"keys/{id}", front, weight=3) for front in (0, 1)]
    assert operators.both(f"keys/{id}/revoke") == ["already", "revoked"]
    assert sorted(each.result(60) for each in changed) == ["already", "changed"]
    answer = operators.post(f"keys/{id}", weight=3).json()
    assert answer["result"] == "already"
    assert answer["entry"]["revoked"] > 0
    until(lambda: is_refused(gateway, key), 30, "the revoked key is not refused")


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
    monkeypatch.setattr("wire.redis.client.TIMEOUT", 2.0)
    with pytest.raises(ActionError, match="It may or may not have been done") as unknown:
        asyncio.run(pause_while_redis_is_frozen(gateway))
    assert unknown.value.http_status == 503
    # It was done after all, and to do it again does no harm.
    assert operators.both("intake/pause") == ["already"] * 2

    gateway.redis.kill()
    failed = operators.post("intake/resume")
    assert failed.status_code == 503
    assert failed.json()["error"]["code"] == "redis_unavailable"
    assert failed.json()["error"]["message"].startswith("Nothing was changed")
    gateway.redis.restart()
    until(lambda: refusal_code(gateway) == "intake_paused", 60, "the pause is lost")
    assert operators.both("intake/resume") == ["already", "resumed"]
    gateway.open_gate()
    assert len(runs.result(60).split()) == 4


async def pause_while_redis_is_frozen(gateway: Gateway) -> None:
    """Pause the intake of a gateway whose Redis freezes once it has said that it is there."""
    server = gateway.redis.process
    assert server is not None
    seal = Seal(gateway.secret.encode())
    client = connect(redis_url(gateway.redis.url))
    with ExitStack() as away:

        class Line(OperatorLine):
            async def ping(self) -> None:
                await super().ping()
                await self.resume("all", "")  # the version of the data is checked, too
                away.enter_context(frozen(server))

        line = Line(Scripts(client, seal.fingerprint), settings.Queue())
        try:
            await Actions(line, Keyring(client, seal), Audit(client), seal).pause(ANNA, "all")
        finally:
            await client.aclose()


def refusal_code(gateway: Gateway) -> str | None:
    try:
        whole(bot(gateway, "carol"))
    except openai.APIStatusError as error:
        return error.code
    return None
