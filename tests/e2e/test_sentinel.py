"""The gateway behind Sentinels: its Redis is killed, another takes over, no role is restarted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.bots import Client, is_torn_and_says_so, is_whole
from tests.support.gateway import Gateway, status, until
from tests.support.watched import WatchedRedis, watched_redis

SERVED_AGAIN = 10.0
"""Seconds after the death of a master within which new requests are answered."""


@pytest.fixture
def watched() -> Iterator[WatchedRedis]:
    with watched_redis(3) as watched:
        yield watched


@pytest.fixture
def gateway(directory: Path, watched: WatchedRedis) -> Iterator[Gateway]:
    # An answer that has lost a piece for good says so after the grace.
    with Gateway(
        directory, redis__url=watched.url, redis__outage_grace="8", stream__grace="0.2"
    ) as gateway:
        yield gateway.start(workers=2)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(16)
    yield pool
    pool.shutdown(wait=False, cancel_futures=True)


def ask(
    pool: ThreadPoolExecutor, gateway: Gateway, words: int, bearer: str, more: str = ""
) -> Client:
    return Client(pool, gateway.url, f"[[sim words={words} interval=0.02 {more}]]", bearer)


def busy(pool: ThreadPoolExecutor, gateway: Gateway) -> tuple[list[Client], list[Client]]:
    """Clients with running answers, and waiting clients."""
    running = [ask(pool, gateway, 250, f"bot-{n}", "gate=10") for n in range(4)]
    for client in running:
        assert client.begun.wait(60)
    waiting = [ask(pool, gateway, 3, f"bot-{n}") for n in range(6)]
    until(lambda: all(client.told.status == 200 for client in waiting), 60, "not all in line")
    gateway.open_gate()
    return running, waiting


def assert_kept_its_word(gateway: Gateway, running: list[Client], waiting: list[Client]) -> None:
    for client in running:
        told = client.result()
        assert is_whole(told, 250) or is_torn_and_says_so(told, 250)
    assert [told for client in waiting if not is_whole(told := client.result(), 3)] == []
    assert all(p.poll() is None for p in (*gateway.workers, *gateway.fronts))
    assert gateway.stats()["peak"] <= 4
    assert gateway.stats()["peak_per_account"] == 1


def test_a_master_killed_during_answers_is_replaced_without_restarting_any_role(
    gateway: Gateway, watched: WatchedRedis, pool: ThreadPoolExecutor
) -> None:
    running, waiting = busy(pool, gateway)
    watched.master.kill()
    killed = time.monotonic()
    until(lambda: status(f"{gateway.url}/readyz") == 503, 60, "nobody has noticed it")
    gateway.wait_ready(SERVED_AGAIN)
    assert is_whole(ask(pool, gateway, 3, "late").result(), 3)
    assert time.monotonic() - killed < SERVED_AGAIN
    assert_kept_its_word(gateway, running, waiting)


def test_a_planned_failover_costs_no_request(
    gateway: Gateway, watched: WatchedRedis, pool: ThreadPoolExecutor
) -> None:
    """The former master lives on, and would take for a while what the roles write to it."""
    running, waiting = busy(pool, gateway)
    watched.fail_over()
    assert_kept_its_word(gateway, running, waiting)
    assert is_whole(ask(pool, gateway, 3, "late").result(), 3)
