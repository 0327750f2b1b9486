"""One gateway for the tests that only talk to it; those that kill parts of it start their own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest
from openai import OpenAI

from tests.support.bots import Ask, Client
from tests.support.gateway import Gateway, quick


@pytest.fixture(scope="session")
def shared_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with two workers and one front end."""
    with Gateway(
        tmp_path_factory.mktemp("gateway"),
        stream__grace="0.5",
        stream__keepalive_interval="0.3",
        upstream__first_event_timeout="4",
        upstream__idle_timeout="3",
        # A failure in one test must neither be retried nor open the circuit for others.
        upstream__retries="0",
        upstream__circuit_failures="1000000",
        server__body_timeout="5",
        server__max_body_bytes="20971520",
    ) as gateway:
        yield gateway.start(workers=2)


@pytest.fixture
def gateway(shared_gateway: Gateway) -> Gateway:
    """The shared gateway, with nothing going on and the simulator's counts at zero."""
    return shared_gateway.at_rest()


@pytest.fixture(scope="session")
def relaying_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway in front of an OpenAI-compatible server with the models that clients name."""
    models = "gpt-4,gpt-4o"
    with Gateway(
        tmp_path_factory.mktemp("relaying"),
        simulator=("--kind", "openai", "--models", models),
        upstream__kind="openai",
    ) as gateway:
        yield gateway.start()


@pytest.fixture(scope="module")
def mortal_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A Redis and a simulator for tests that start and kill roles, some of which the next test
    reuses."""
    with quick(tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


_bots = count(1)


@pytest.fixture
def client(gateway: Gateway) -> Iterator[OpenAI]:
    """The official client, with a bearer that no other test has, and no retries of its own."""
    key = f"bearer-of-bot-{next(_bots)}"
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as client:
        yield client


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Directory of the logs of a test's own gateway."""
    return tmp_path


@pytest.fixture
def ask(gateway: Gateway) -> Iterator[Ask]:
    """Function that streams `words` numbered words to a bot with its own bearer."""
    pool = ThreadPoolExecutor(64)
    clients: list[Client] = []

    def ask(words: int, interval: float = 0.02, url: str | None = None, **more: object) -> Client:
        keys = " ".join(f"{key}={value}" for key, value in more.items())
        prompt = f"[[sim words={words} interval={interval} {keys}]]"
        clients.append(Client(pool, url or gateway.url, prompt, f"bot-{next(_bots)}"))
        return clients[-1]

    yield ask
    for client in clients:
        client.leave()
    pool.shutdown(wait=False, cancel_futures=True)
