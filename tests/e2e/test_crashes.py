"""Processes die, freeze and come back; clients are told the truth and the rest goes on."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import msgspec
import pytest
import redis

from tests.e2e.gateway import Gateway, frozen, until

RECOVERY = 10.0
"""Seconds within which slots come back after a crash, and within which then clients know."""


class Told(msgspec.Struct):
    """What a streaming client has been told."""

    text: str = ""
    done: bool = False
    error: str | None = None
    status: int = 0

    @property
    def ended(self) -> bool:
        return self.done or self.error is not None


class Client:
    """A bot that streams one answer in a thread of its own."""

    def __init__(self, pool: ThreadPoolExecutor, url: str, prompt: str, bearer: str) -> None:
        self.told = Told()
        self.begun = threading.Event()
        self._future: Future[None] = pool.submit(self._stream, url, prompt, bearer)

    def result(self, timeout: float = 60.0) -> Told:
        self._future.result(timeout)
        return self.told

    def _stream(self, url: str, prompt: str, bearer: str) -> None:
        body = {
            "model": "gpt-4-s",
            "stream": True,
            "messages": [{"role": "user", "content": prompt}],
        }
        headers = {"authorization": f"Bearer {bearer}"}
        with httpx.stream(
            "POST", f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60
        ) as answer:
            self.told.status = answer.status_code
            if answer.status_code != 200:
                self.told.error = json.loads(answer.read())["error"]["code"]
                return
            for line in answer.iter_lines():
                self._take(line)

    def _take(self, line: str) -> None:
        if not line.startswith("data: "):
            return
        assert not self.told.ended, "something came after the ending"
        if line == "data: [DONE]":
            self.told.done = True
            return
        message = json.loads(line.removeprefix("data: "))
        if "error" in message:
            self.told.error = message["error"]["code"]
            return
        for choice in message["choices"]:
            self.told.text += choice["delta"].get("content", "")
        if self.told.text:
            self.begun.set()


Ask = Callable[..., Client]


@pytest.fixture
def gateway(directory: Path) -> Iterator[Gateway]:
    with Gateway(
        directory,
        queue__max_wait="60",
        redis__outage_grace="15",
        # Half as long as they are by default, so that the tests need not wait as long.
        queue__lease="3",
        queue__heartbeat="0.75",
    ) as gateway:
        yield gateway


@pytest.fixture
def ask(gateway: Gateway) -> Iterator[Ask]:
    """Streams `words` numbered words to a bot with a bearer of its own."""
    pool = ThreadPoolExecutor(64)
    asked = 0

    def ask(words: int, interval: float = 0.02, url: str | None = None, **more: object) -> Client:
        nonlocal asked
        asked += 1
        keys = " ".join(f"{key}={value}" for key, value in more.items())
        prompt = f"[[sim words={words} interval={interval} {keys}]]"
        return Client(pool, url or gateway.url, prompt, f"bot-{asked}")

    yield ask
    pool.shutdown(wait=False, cancel_futures=True)


def words(count: int) -> str:
    return " ".join(f"w{n}" for n in range(count))


def is_whole(told: Told, count: int) -> bool:
    return told.done and told.error is None and told.text == words(count)


def is_torn_and_says_so(told: Told, count: int) -> bool:
    return bool(not told.done and told.error and words(count).startswith(told.text))


def test_clients_of_a_killed_worker_are_told_and_everybody_else_is_served(
    gateway: Gateway, ask: Ask
) -> None:
    gateway.start(workers=1)
    torn = [ask(2000) for _ in range(2)]
    for client in torn:
        assert client.begun.wait(10)
    for _ in range(2):
        gateway.start_worker()
    whole = [ask(100) for _ in range(12)]
    until(lambda: gateway.stats()["active"] == 4, 10, "the slots were not filled")
    gateway.workers[0].kill()
    killed = time.monotonic()
    for client in torn:
        told = client.result()
        assert told.error == "worker_lost"
        assert is_torn_and_says_so(told, 2000)
    assert time.monotonic() - killed < RECOVERY
    # Those that the killed worker held are torn; whoever waited, or was held by another, is whole.
    for client in whole:
        told = client.result()
        assert is_whole(told, 100) or (told.text and told.error == "worker_lost")
    assert sum(client.told.done for client in whole) >= 8
    assert gateway.stats()["peak_per_account"] == 1


def test_a_job_of_which_nothing_was_said_survives_its_worker(gateway: Gateway, ask: Ask) -> None:
    gateway.start(workers=1)
    client = ask(5, delay=2)
    until(lambda: gateway.stats()["active"] == 1, 5, "not started")
    gateway.workers[0].kill()
    gateway.start_worker()
    assert is_whole(client.result(), 5)


def test_jobs_wait_for_a_worker_that_comes_later(gateway: Gateway, ask: Ask) -> None:
    gateway.start(workers=1)
    gateway.workers[0].kill()
    gateway.workers[0].wait()
    clients = [ask(3) for _ in range(5)]
    time.sleep(1)
    gateway.start_worker()
    assert all(is_whole(client.result(), 3) for client in clients)


def test_a_worker_told_to_stop_finishes_what_it_holds(gateway: Gateway, ask: Ask) -> None:
    gateway.start(workers=1)
    client = ask(60)
    assert client.begun.wait(10)
    gateway.workers[0].terminate()
    assert is_whole(client.result(), 60)
    assert gateway.workers[0].wait(5) == 0


def test_a_front_end_told_to_stop_finishes_its_answers_and_takes_no_more(
    gateway: Gateway, ask: Ask
) -> None:
    gateway.start(workers=1)
    client = ask(60)
    assert client.begun.wait(10)
    gateway.fronts[0].terminate()
    time.sleep(0.2)
    refused = ask(1).result()
    assert (refused.status, refused.error) == (503, "line_unavailable")
    assert is_whole(client.result(), 60)
    assert gateway.fronts[0].wait(10) == 0


def test_the_conversations_of_a_killed_front_end_are_ended(gateway: Gateway, ask: Ask) -> None:
    gateway.start(workers=1, fronts=2)
    lost = ask(3000)
    other = ask(3000, url=gateway.urls[1])
    assert lost.begun.wait(10)
    assert other.begun.wait(10)
    waiting = [ask(3000) for _ in range(6)]
    until(lambda: gateway.stats()["active"] == 4, 5, "the slots were not filled")
    gateway.fronts[0].kill()
    killed = time.monotonic()
    until(lambda: gateway.stats()["active"] == 1, 2 * RECOVERY, "its conversations go on")
    assert time.monotonic() - killed < RECOVERY
    served = ask(3, url=gateway.urls[1])
    assert is_whole(served.result(), 3)
    for client in (lost, *waiting):
        with pytest.raises(httpx.HTTPError):
            client.result()


def test_redis_killed_while_idle_and_nothing_has_to_be_restarted(
    gateway: Gateway, ask: Ask
) -> None:
    gateway.start(workers=2)
    assert is_whole(ask(3).result(), 3)
    gateway.redis.kill()
    time.sleep(1.5)
    assert httpx.get(f"{gateway.url}/readyz").status_code == 503
    refused = ask(1).result()
    assert (refused.status, refused.error) == (503, "line_unavailable")
    gateway.redis.restart()
    gateway.wait_ready()
    assert is_whole(ask(3).result(), 3)
    assert all(p.poll() is None for p in (*gateway.workers, *gateway.fronts))


def test_redis_killed_while_streaming_and_every_answer_is_whole(gateway: Gateway, ask: Ask) -> None:
    gateway.start(workers=2)
    running = [ask(150) for _ in range(4)]
    for client in running:
        assert client.begun.wait(10)
    waiting = [ask(3) for _ in range(6)]
    time.sleep(0.5)
    gateway.redis.kill()
    time.sleep(1.5)
    gateway.redis.restart()
    assert all(is_whole(client.result(), 150) for client in running)
    assert all(is_whole(client.result(), 3) for client in waiting)
    assert all(p.poll() is None for p in (*gateway.workers, *gateway.fronts))
    assert gateway.stats()["peak"] <= 4


def test_a_redis_that_forgot_everything_costs_answers_but_no_process(
    gateway: Gateway, ask: Ask
) -> None:
    gateway.start(workers=2)
    running = [ask(400) for _ in range(4)]
    for client in running:
        assert client.begun.wait(10)
    waiting = [ask(3) for _ in range(4)]
    time.sleep(0.5)
    gateway.redis.kill()
    for file in gateway.redis.directory.rglob("*.aof*"):
        file.unlink()
    gateway.redis.restart()
    for client in running:
        assert is_torn_and_says_so(client.result(), 400)
    assert all(is_whole(client.result(), 3) for client in waiting), "enqueued again"
    assert gateway.stats()["peak"] <= 4
    assert gateway.stats()["peak_per_account"] == 1


def test_a_redis_that_freezes_for_a_while_costs_nothing(gateway: Gateway, ask: Ask) -> None:
    gateway.start(workers=2)
    running = [ask(150) for _ in range(3)]
    for client in running:
        assert client.begun.wait(10)
    process = gateway.redis.process
    assert process is not None
    with frozen(process):
        time.sleep(1.2)
    assert all(is_whole(client.result(), 150) for client in running)


def test_a_worker_that_froze_past_its_leases_lets_go_before_it_goes_on(
    gateway: Gateway, ask: Ask
) -> None:
    gateway.start(workers=1)
    torn = ask(4000)
    assert torn.begun.wait(10)
    with frozen(gateway.workers[0]):
        told = torn.result()
    assert told.error == "worker_lost"
    gateway.wait_idle(2)
    gateway.workers[0].send_signal(signal.SIGCONT)
    assert is_whole(ask(3).result(), 3)
    assert gateway.workers[0].poll() is None


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
    client = ask(150)
    assert client.begun.wait(10)
    with redis.Redis.from_url(gateway.redis.url) as operator:
        operator.execute_command(*trouble.split())
        time.sleep(1.5)
        operator.execute_command(*mended.split())
    assert is_whole(client.result(), 150)
    assert all(p.poll() is None for p in (*gateway.workers, *gateway.fronts))
    gateway.wait_ready()
    assert is_whole(ask(3).result(), 3)


def test_an_outage_longer_than_its_grace_ends_answers_and_runs_nothing_for_nobody(
    directory: Path,
) -> None:
    pool = ThreadPoolExecutor(4)
    with Gateway(
        directory, redis__outage_grace="1.5", queue__lease="3", queue__heartbeat="0.75"
    ) as gateway:
        gateway.start(workers=1)
        running = Client(pool, gateway.url, "[[sim words=3000]]", "one")
        assert running.begun.wait(10)
        waiting = Client(pool, gateway.url, "[[sim words=3000]]", "one")
        time.sleep(0.5)
        process = gateway.redis.process
        assert process is not None
        with frozen(process):
            assert running.result().error == "answer_lost"
            assert waiting.result().error == "line_unavailable"
        gateway.wait_idle(10)
        gateway.wait_ready()
        assert is_whole(Client(pool, gateway.url, "[[sim words=3]]", "one").result(), 3)
        assert gateway.stats()["started"] == 2, "the one that waited was asked for nobody"
    pool.shutdown()


def test_clients_are_told_when_a_front_end_does_not_wait_for_their_answers(directory: Path) -> None:
    pool = ThreadPoolExecutor(4)
    with Gateway(directory, server__drain_timeout="0.5") as gateway:
        gateway.start(workers=1)
        client = Client(pool, gateway.url, "[[sim words=3000]]", "one")
        assert client.begun.wait(10)
        gateway.fronts[0].terminate()
        assert client.result().error == "stopped"
        gateway.wait_idle(2)
        assert gateway.fronts[0].wait(10) == 0
    pool.shutdown()


def test_a_front_end_that_froze_finds_its_waiting_jobs_again(gateway: Gateway, ask: Ask) -> None:
    """Its presence had lapsed, so its jobs were dropped; their clients waited for a minute."""
    gateway.start(workers=1, fronts=2)
    Client(ThreadPoolExecutor(1), gateway.urls[1], "[[sim words=200]]", "one")
    until(lambda: gateway.stats()["active"] == 1, 5, "not started")
    waiting = Client(ThreadPoolExecutor(1), gateway.url, "[[sim words=3]]", "one")
    time.sleep(0.5)
    with frozen(gateway.fronts[0]):
        time.sleep(5)
    assert is_whole(waiting.result(20), 3)
