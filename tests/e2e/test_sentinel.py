"""The gateway behind Sentinels: its Redis is killed, another takes over, nobody is restarted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.e2e.gateway import Gateway, until
from tests.e2e.test_crashes import Client, is_torn_and_says_so, is_whole
from tests.watched import WatchedRedis, watched_redis

SERVED_AGAIN = 10.0
"""Seconds after the death of a master within which new requests are answered."""


@pytest.fixture
def watched() -> Iterator[WatchedRedis]:
    with watched_redis(3) as watched:
        yield watched


@pytest.fixture
def gateway(directory: Path, watched: WatchedRedis) -> Iterator[Gateway]:
    with Gateway(directory, redis__url=watched.url) as gateway:
        yield gateway.start(workers=2)


def ask(pool: ThreadPoolExecutor, gateway: Gateway, words: int, bearer: str) -> Client:
    return Client(pool, gateway.url, f"[[sim words={words} interval=0.02]]", bearer)


def test_a_master_killed_in_the_middle_of_answers_is_replaced_and_nobody_restarted(
    gateway: Gateway, watched: WatchedRedis
) -> None:
    pool = ThreadPoolExecutor(16)
    running = [ask(pool, gateway, 250, f"bot-{n}") for n in range(4)]
    for client in running:
        assert client.begun.wait(10)
    waiting = [ask(pool, gateway, 3, f"bot-{n}") for n in range(6)]
    time.sleep(0.7)
    watched.master.kill()
    killed = time.monotonic()
    until(lambda: httpx.get(f"{gateway.url}/readyz").status_code == 503, 5, "nobody has noticed it")
    gateway.wait_ready(SERVED_AGAIN)
    late = ask(pool, gateway, 3, "late")
    assert is_whole(late.result(), 3)
    assert time.monotonic() - killed < SERVED_AGAIN
    for client in running:
        told = client.result()
        assert is_whole(told, 250) or is_torn_and_says_so(told, 250)
    assert all(is_whole(client.result(), 3) for client in waiting)
    assert all(p.poll() is None for p in (*gateway.workers, *gateway.fronts))
    assert gateway.stats()["peak"] <= 4
    assert gateway.stats()["peak_per_account"] == 1
    print(f"whole: {sum(is_whole(client.told, 250) for client in running)} of {len(running)}")
    pool.shutdown()


def test_a_planned_failover_costs_no_request(gateway: Gateway, watched: WatchedRedis) -> None:
    """The former master lives, and would take what the roles write to it."""
    pool = ThreadPoolExecutor(16)
    running = [ask(pool, gateway, 250, f"bot-{n}") for n in range(4)]
    for client in running:
        assert client.begun.wait(10)
    waiting = [ask(pool, gateway, 3, f"bot-{n}") for n in range(6)]
    time.sleep(0.7)
    watched.fail_over()
    for client in running:
        told = client.result()
        assert is_whole(told, 250) or is_torn_and_says_so(told, 250)
    assert all(is_whole(client.result(), 3) for client in waiting)
    assert gateway.stats()["peak"] <= 4
    assert gateway.stats()["peak_per_account"] == 1
    print(f"whole: {sum(is_whole(client.told, 250) for client in running)} of {len(running)}")
    pool.shutdown()
