"""Redis dies, freezes, loses its data or refuses writes; only Redis has to be restarted."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import redis

from tests.support.bots import Ask, Client, is_torn_and_says_so, is_whole
from tests.support.gateway import Gateway, frozen, status, until


@pytest.fixture
def gateway(mortal_gateway: Gateway) -> Gateway:
    return mortal_gateway.at_rest()


def in_line(gateway: Gateway, count: int) -> None:
    """Wait until the given number of jobs wait."""
    with redis.Redis.from_url(gateway.redis.url) as client:
        until(lambda: client.zcard("gateway:waiting:chat") == count, 60, "not all wait")


def said_to_the_end(gateway: Gateway, count: int) -> None:
    """Let the answers at the gate go on until the upstream has said all of them."""
    finished = gateway.stats()["finished"]
    gateway.open_gate()
    ended = lambda: gateway.stats()["finished"] == finished + count  # noqa: E731
    until(ended, 60, "the upstream has more to say")


def test_no_role_has_to_be_restarted_after_redis_was_killed_while_idle(
    gateway: Gateway, ask: Ask
) -> None:
    gateway.start(workers=2)
    assert is_whole(ask(3).result(), 3)
    gateway.redis.kill()
    until(lambda: status(f"{gateway.url}/readyz") == 503, 60, "the outage was not noticed")
    refused = ask(1).result()
    assert (refused.status, refused.error) == (503, "line_unavailable")
    gateway.redis.restart()
    gateway.wait_ready()
    assert is_whole(ask(3).result(), 3)
    assert all(p.poll() is None for p in (*gateway.workers, *gateway.fronts))


def test_every_answer_is_whole_after_redis_was_killed_while_streaming(
    gateway: Gateway, ask: Ask
) -> None:
    gateway.start(workers=2)
    running = [ask(80, gate=10) for _ in range(4)]
    for client in running:
        assert client.begun.wait(60)
    waiting = [ask(3) for _ in range(6)]
    in_line(gateway, 6)
    gateway.redis.kill()
    said_to_the_end(gateway, 4)
    gateway.redis.restart()
    assert all(is_whole(client.result(), 80) for client in running)
    assert all(is_whole(client.result(), 3) for client in waiting)
    assert all(p.poll() is None for p in (*gateway.workers, *gateway.fronts))
    assert gateway.stats()["peak"] <= 4


def test_a_redis_that_lost_all_data_tears_answers_but_ends_no_process(
    gateway: Gateway, ask: Ask
) -> None:
    gateway.start(workers=2)
    running = [ask(400, gate=10) for _ in range(4)]
    for client in running:
        assert client.begun.wait(60)
    waiting = [ask(3) for _ in range(4)]
    in_line(gateway, 4)
    gateway.open_gate()
    gateway.redis.kill()
    for file in gateway.redis.directory.rglob("*.aof*"):
        file.unlink()
    gateway.redis.restart()
    for client in running:
        assert is_torn_and_says_so(client.result(), 400)
    assert all(is_whole(client.result(), 3) for client in waiting), "enqueued again"
    assert gateway.stats()["peak"] <= 4
    assert gateway.stats()["peak_per_account"] == 1


def test_a_redis_that_is_emptied_settles_and_says_so_and_no_slot_is_held_twice(
    directory: Path,
) -> None:
    pool = ThreadPoolExecutor(8)
    with Gateway(
        directory,
        queue__lease="6",
        queue__heartbeat="2",
        stream__grace="0.1",
        stream__keepalive="comment",
        stream__keepalive_interval="0.3",
        upstream__max_concurrency="2",
    ) as gateway:
        gateway.start(workers=2)
        prompt = "[[sim words=3000 gate=10]]"
        running = [Client(pool, gateway.url, prompt, f"runs-{n}") for n in range(2)]
        for client in running:
            assert client.begun.wait(60)
        with redis.Redis.from_url(gateway.redis.url) as operator:
            operator.flushall()
            until(lambda: operator.exists("gateway:upstream:main"), 60, "no worker serves it")
        found = until(lambda: settling(gateway), 60, "it does not settle")
        assert 0 < float(found) <= 4
        new = [pool.submit(first_forecasts, gateway, f"new-{n}") for n in range(3)]
        for forecasts in new:
            in_header, in_keepalive = forecasts.result(60)
            assert 1 <= in_header <= 60
            assert 1 <= in_keepalive <= 60
        for client in running:
            assert is_torn_and_says_so(client.result(), 3000)
        with redis.Redis.from_url(gateway.redis.url) as operator:
            until(lambda: operator.get("gateway:version"), 60, "its data have no version")
        stats = gateway.stats()
        assert stats["peak"] <= 2
        assert stats["started"] == 5
    pool.shutdown()


def test_roles_that_find_data_of_another_version_once_redis_is_back_end_with_a_plain_message(
    directory: Path,
) -> None:
    with Gateway(directory) as gateway:
        with redis.Redis.from_url(gateway.redis.url) as operator:
            operator.set("gateway:version", 99)
        gateway.redis.kill()
        gateway.start_front()
        gateway.start_worker()
        for name in ("app", "workers"):
            [log] = gateway.directory.glob(f"*-{name}.log")
            until(lambda log=log: "redis_unreachable" in log.read_text(), 60, "no outage")  # type: ignore[misc]  # mypy: default arguments
        gateway.redis.restart()
        for role in (*gateway.fronts, *gateway.workers):
            assert role.wait(60) == 1
        assert gateway.printed().count("The data in Redis are of version 99, ") == 2
        assert "Traceback" not in gateway.printed()


def settling(gateway: Gateway) -> str | None:
    """The seconds for which the line still settles, as `/readyz` says; None if it does not."""
    report = httpx.get(f"{gateway.url}/readyz").json()
    if report["status"] != "degraded":
        return None  # its workers have not reported again
    found = re.match(r"settling, (\d+\.\d) s", report["reasons"][0])
    return found[1] if found else None


def first_forecasts(gateway: Gateway, bearer: str) -> tuple[int, int]:
    """The wait in the headers of a whole answer, and in its first keep-alive."""
    body = {
        "model": "gpt-4-s",
        "stream": True,
        "messages": [{"role": "user", "content": "[[sim words=3]]"}],
    }
    headers = {"authorization": f"Bearer {bearer}"}
    url = f"{gateway.url}/v1/chat/completions"
    answer = httpx.post(url, json=body, headers=headers, timeout=60)
    assert answer.text.endswith("data: [DONE]\n\n")
    said = re.search(r"^: queued position=\d+ eta=(\d+)$", answer.text, re.MULTILINE)
    assert said, answer.text
    return int(answer.headers["x-queue-eta"]), int(said[1])


def test_a_redis_that_freezes_for_a_while_costs_nothing(gateway: Gateway, ask: Ask) -> None:
    gateway.start(workers=2)
    running = [ask(70, gate=10) for _ in range(3)]
    for client in running:
        assert client.begun.wait(60)
    process = gateway.redis.process
    assert process is not None
    with frozen(process):
        said_to_the_end(gateway, 3)
    assert all(is_whole(client.result(), 70) for client in running)


@pytest.mark.parametrize(
    ("trouble", "mended"),
    [
        ("CONFIG SET maxmemory 300kb", "CONFIG SET maxmemory 0"),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
    ],
)
def test_a_redis_that_refuses_to_write_for_a_while_costs_nothing(
    gateway: Gateway, ask: Ask, trouble: str, mended: str
) -> None:
    """Full, or read only in the middle of a failover: every role used to end itself."""
    gateway.start(workers=1)
    client = ask(80, gate=10)
    assert client.begun.wait(60)
    with redis.Redis.from_url(gateway.redis.url) as operator:
        operator.execute_command(*trouble.split())
        said_to_the_end(gateway, 1)
        operator.execute_command(*mended.split())
    assert is_whole(client.result(), 80)
    assert all(p.poll() is None for p in (*gateway.workers, *gateway.fronts))
    gateway.wait_ready()
    assert is_whole(ask(3).result(), 3)


def test_an_outage_longer_than_outage_grace_fails_answers_and_starts_no_orphaned_job(
    directory: Path,
) -> None:
    pool = ThreadPoolExecutor(4)
    with Gateway(
        directory, redis__outage_grace="1.5", queue__lease="3", queue__heartbeat="0.75"
    ) as gateway:
        gateway.start(workers=1)
        running = Client(pool, gateway.url, "[[sim words=3000]]", "one")
        assert running.begun.wait(60)
        waiting = Client(pool, gateway.url, "[[sim words=3000]]", "one")
        in_line(gateway, 1)
        process = gateway.redis.process
        assert process is not None
        with frozen(process):
            assert running.result().error == "answer_lost"
            assert waiting.result().error == "line_unavailable"
        gateway.wait_idle()
        gateway.wait_ready()
        assert is_whole(Client(pool, gateway.url, "[[sim words=3]]", "one").result(), 3)
        assert gateway.stats()["started"] == 2, "the one that waited was asked for nobody"
    pool.shutdown()
