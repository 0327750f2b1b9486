"""Workers and front ends die or freeze; affected clients get an error and all others are served."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import redis

from tests.support.bots import Ask, Client, is_torn_and_says_so, is_whole
from tests.support.gateway import Gateway, frozen, status, until

RECOVERY = 10.0
"""Seconds after a crash within which slots are free again and affected clients have an error."""


@pytest.fixture
def gateway(mortal_gateway: Gateway) -> Gateway:
    return mortal_gateway.at_rest()


def test_clients_of_a_killed_worker_get_an_error_and_all_others_are_served(
    gateway: Gateway, ask: Ask
) -> None:
    gateway.start(workers=1)
    torn = [ask(2000) for _ in range(2)]
    for client in torn:
        assert client.begun.wait(60)
    for _ in range(2):
        gateway.start_worker()
    whole = [ask(100) for _ in range(12)]
    until(lambda: gateway.stats()["active"] == 4, 60, "the slots were not filled")
    gateway.workers[0].kill()
    killed = time.monotonic()
    for client in torn:
        told = client.result()
        assert told.error == "worker_lost"
        assert is_torn_and_says_so(told, 2000)
    assert time.monotonic() - killed < RECOVERY
    # Answers of the killed worker are torn; those that waited, or of other workers, are whole.
    for client in whole:
        told = client.result()
        assert is_whole(told, 100) or (told.text and told.error == "worker_lost")
    assert sum(client.told.done for client in whole) >= 8
    assert gateway.stats()["peak_per_account"] == 1


def test_an_unpublished_job_survives_the_death_of_its_worker(gateway: Gateway, ask: Ask) -> None:
    gateway.start(workers=1)
    client = ask(5, delay=2)
    until(lambda: gateway.stats()["active"] == 1, 60, "not started")
    gateway.workers[0].kill()
    gateway.start_worker()
    assert is_whole(client.result(), 5)


def test_jobs_wait_for_a_worker_that_starts_later(gateway: Gateway, ask: Ask) -> None:
    gateway.start(workers=1)
    gateway.workers[0].kill()
    gateway.workers[0].wait()
    clients = [ask(3) for _ in range(5)]
    with redis.Redis.from_url(gateway.redis.url) as line:
        until(lambda: line.zcard("gateway:waiting:chat") == 5, 60, "not all are in line")
    gateway.start_worker()
    assert all(is_whole(client.result(), 3) for client in clients)


def test_the_conversations_of_a_killed_front_end_are_ended(gateway: Gateway, ask: Ask) -> None:
    gateway.start(workers=1, fronts=2)
    lost = ask(3000)
    other = ask(3000, url=gateway.urls[1])
    assert lost.begun.wait(60)
    assert other.begun.wait(60)
    waiting = [ask(3000) for _ in range(6)]
    until(lambda: gateway.stats()["active"] == 4, 60, "the slots were not filled")
    gateway.fronts[0].kill()
    killed = time.monotonic()
    until(lambda: gateway.stats()["active"] == 1, 2 * RECOVERY, "its conversations go on")
    assert time.monotonic() - killed < RECOVERY
    served = ask(3, url=gateway.urls[1])
    assert is_whole(served.result(), 3)
    for client in (lost, *waiting):
        with pytest.raises(httpx.HTTPError):
            client.result()


def test_a_worker_frozen_past_its_leases_closes_its_conversations_when_it_continues(
    gateway: Gateway, ask: Ask
) -> None:
    gateway.start(workers=1)
    torn = ask(4000)
    assert torn.begun.wait(60)
    with frozen(gateway.workers[0]):
        told = torn.result()
        until(lambda: status(f"{gateway.url}/readyz") == 503, 60, "it is taken for alive")
    assert told.error == "worker_lost"
    gateway.wait_idle()
    gateway.wait_ready()
    assert is_whole(ask(3).result(), 3)
    assert gateway.workers[0].poll() is None


def test_a_front_end_that_was_frozen_enqueues_its_dropped_jobs_again(gateway: Gateway) -> None:
    """Its presence had lapsed, so its jobs were dropped; their clients waited for a minute."""
    gateway.start(workers=1, fronts=2)
    with ThreadPoolExecutor(2) as pool, redis.Redis.from_url(gateway.redis.url) as line:
        running = Client(pool, gateway.urls[1], "[[sim words=3 gate=1]]", "one")
        until(lambda: gateway.stats()["active"] == 1, 60, "not started")
        waiting = Client(pool, gateway.url, "[[sim words=3]]", "one")
        until(lambda: line.zcard("gateway:waiting:chat") == 1, 60, "not in line")
        with frozen(gateway.fronts[0]):
            until(lambda: len(line.keys("gateway:front:*")) == 1, 60, "it is taken for alive")
            gateway.open_gate()
            assert is_whole(running.result(), 3)
            until(lambda: not line.zcard("gateway:waiting:chat"), 60, "its job still waits")
        assert is_whole(waiting.result(), 3)
