"""`server.processes` above 1: one port, several front-end processes, one parent."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import psutil
import pytest
import redis
from openai import APIError, OpenAI

from tests.support.gateway import Gateway, serving, status, until

COUNT = 2


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("gateway"), server__drain_timeout="20") as gateway:
        yield gateway


@pytest.fixture
def gateway(started: Gateway) -> Gateway:
    """A gateway whose front end the previous test has ended or kept."""
    return started.start(processes=COUNT)


def children(gateway: Gateway) -> set[psutil.Process]:
    return serving(gateway.fronts[0])


def wait_listening(gateway: Gateway) -> set[psutil.Process]:
    """Wait until all of them have read their settings and joined the line."""
    with redis.Redis.from_url(gateway.redis.url) as client:
        if left := client.keys("gateway:front:*"):
            client.delete(*left)  # living front ends register again

        def joined() -> bool:
            return len(client.keys("gateway:front:*")) == COUNT

        until(joined, 60, "not all front ends have come up")
    return children(gateway)


def ask(gateway: Gateway, prompt: str, key: str = "a-key") -> str:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as client:
        answer = client.chat.completions.create(
            model="gpt-4-s", messages=[{"role": "user", "content": prompt}]
        )
    return answer.choices[0].message.content or ""


def test_every_process_answers(gateway: Gateway) -> None:
    started = wait_listening(gateway)
    assert len(started) == COUNT
    for one in started:
        with ExitStack() as others_frozen:
            for other in started - {one}:
                other.suspend()
                others_frozen.callback(other.resume)
            assert ask(gateway, "[[sim echo=1]] here") == "here"


def test_a_process_that_is_killed_is_replaced_while_the_port_answers(gateway: Gateway) -> None:
    first = wait_listening(gateway)
    for victim in first:
        victim.kill()
        victim.wait(30)
        assert ask(gateway, "[[sim echo=1]] still here") == "still here"
        until(lambda: len(children(gateway)) == COUNT, 60, "it was not replaced")
    assert not first & children(gateway)
    assert gateway.printed().count("was killed by signal 9; another one starts") == COUNT


def test_sigterm_lets_every_process_finish_its_answers_and_ends_with_status_0(
    gateway: Gateway,
) -> None:
    started = wait_listening(gateway)
    with OpenAI(base_url=f"{gateway.url}/v1", api_key="a-key", max_retries=0) as client:
        stream = client.chat.completions.create(
            model="gpt-4-s",
            messages=[{"role": "user", "content": "[[sim words=40 interval=0.05]]"}],
            stream=True,
        )
        words = [next(stream).choices[0].delta.content or ""]
        # As a service manager may do it: to the parent and to its children.
        for process in [psutil.Process(gateway.fronts[0].pid), *started]:
            process.send_signal(signal.SIGTERM)
        words += [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "".join(words).split() == [f"w{n}" for n in range(40)]
    assert gateway.fronts[0].wait(60) == 0
    assert not psutil.wait_procs(started, timeout=30)[1]
    assert status(f"{gateway.url}/healthz") == 0


def test_a_second_signal_does_not_wait_for_answers(gateway: Gateway) -> None:
    started = wait_listening(gateway)
    with OpenAI(base_url=f"{gateway.url}/v1", api_key="a-key", max_retries=0) as client:
        stream = client.chat.completions.create(
            model="gpt-4-s",
            messages=[{"role": "user", "content": "[[sim words=1000 interval=0.1]]"}],
            stream=True,
        )
        next(stream)
        front = gateway.fronts[0]
        told = "open answers may finish"
        before = gateway.printed().count(told)
        front.terminate()
        until(lambda: gateway.printed().count(told) > before, 30, "it did not stop")
        front.terminate()
        assert front.wait(30) == 0
        with pytest.raises(APIError) as caught:
            list(stream)
        assert caught.value.code == "stopped", "its client was sent an error"
    assert not psutil.wait_procs(started, timeout=30)[1]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere children can outlive a SIGKILL")
def test_processes_die_with_their_parent_and_free_the_port(gateway: Gateway) -> None:
    started = wait_listening(gateway)
    gateway.fronts[0].kill()
    assert not psutil.wait_procs(started, timeout=30)[1]
    assert status(f"{gateway.url}/healthz") == 0


def test_a_port_in_use_is_reported_in_a_sentence(gateway: Gateway) -> None:
    port = urlsplit(gateway.url).port
    gateway.start_front(port, processes=COUNT)
    assert gateway.fronts[1].wait(60) == 1
    said = f"cannot listen on 127.0.0.1 port {port}: Address already in use"
    assert said in gateway.printed()
