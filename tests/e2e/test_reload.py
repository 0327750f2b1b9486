"""Front ends that are replaced, or stopped and started, while clients are being served."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from local.redis import free_port
from tests.support.bots import Client, is_whole
from tests.support.gateway import Gateway, serving, status, until

ROUNDS = 2
PAUSE = 0.02
"""Seconds between two requests of a client: twelve of them ask several hundred times a second."""


@pytest.fixture(scope="module")
def own_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The settings file of this file's gateway."""
    path = tmp_path_factory.mktemp("settings") / "settings.toml"
    path.write_text("")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("GATEWAY_SETTINGS", str(path))
        yield path


@pytest.fixture
def gateway(own_settings: Path, tmp_path: Path) -> Iterator[Gateway]:
    own_settings.write_text("")
    with Gateway(tmp_path, upstream__max_concurrency="8") as gateway:
        yield gateway


class Load:
    """Clients that ask again and again until the end of the context; none retries."""

    def __init__(self, url: str) -> None:
        self.served: Counter[str] = Counter()
        self.failures: list[str] = []
        self._url = url
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(16)
        self._running: list[Future[None]] = []

    def __enter__(self) -> Load:
        for ask in (self._models, self._chat, self._stream):
            for keeps in (True, False):
                for n in range(2):
                    name = f"{ask.__name__} {'kept alive' if keeps else 'new'}"
                    self._running.append(self._pool.submit(self._go_on, name, ask, keeps, n))
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for running in self._running:
            running.result(60)
        self._pool.shutdown()

    def wait_for_more(self, more: int = 3) -> None:
        """Wait until each kind of request has been served some times more."""
        before = Counter(self.served)
        kinds = 6

        def served() -> bool:
            counts = [self.served[kind] - before[kind] for kind in self.served]
            return bool(self.failures) or (len(counts) == kinds and min(counts) >= more)

        until(served, 60, f"not all kinds are served: {self.served}")

    def _go_on(
        self, name: str, ask: Callable[[httpx.Client, int], None], keeps: bool, n: int
    ) -> None:
        limits = httpx.Limits(max_keepalive_connections=1 if keeps else 0)
        headers = {"authorization": f"Bearer {name.replace(' ', '-')}-{n}"}
        with httpx.Client(base_url=self._url, limits=limits, headers=headers, timeout=60) as client:
            while not self._over.wait(PAUSE):
                try:
                    ask(client, n)
                    self.served[name] += 1
                except (httpx.HTTPError, AssertionError) as error:
                    self.failures.append(f"{name}: {error!r}")

    def _models(self, client: httpx.Client, n: int) -> None:
        client.get("/v1/models").raise_for_status()

    def _chat(self, client: httpx.Client, n: int) -> None:
        answer = client.post("/v1/chat/completions", json=_body("[[sim words=3]]"))
        answer.raise_for_status()
        assert answer.json()["choices"][0]["message"]["content"] == "w0 w1 w2"

    def _stream(self, client: httpx.Client, n: int) -> None:
        body = _body("[[sim words=20 interval=0.02]]", stream=True)
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            answer.raise_for_status()
            text = answer.read().decode()
        assert "w19" in text
        assert text.endswith("data: [DONE]\n\n")


def _body(prompt: str, **more: object) -> dict[str, object]:
    return {"model": "gpt-4", "messages": [{"role": "user", "content": prompt}], **more}


def reload(gateway: Gateway) -> None:
    """Send SIGHUP and wait until all front ends have been replaced."""
    before = gateway.printed().count("event=reload_finished")
    gateway.fronts[0].send_signal(signal.SIGHUP)
    until(
        lambda: gateway.printed().count("event=reload_finished") > before,
        60,
        f"not reloaded: {gateway.printed()}",
    )


def test_a_reload_of_the_only_front_end_refuses_and_cuts_no_request(gateway: Gateway) -> None:
    gateway.start()
    (first,) = serving(gateway.fronts[0])
    with Load(gateway.url) as load:
        load.wait_for_more()
        for _ in range(ROUNDS):
            reload(gateway)
            load.wait_for_more()
    assert load.failures == []
    assert not first.is_running(), "its connections were used once more and closed"
    print(f"\nserved: {dict(load.served)}")


def test_a_reload_takes_new_settings_and_a_failed_one_changes_nothing(
    gateway: Gateway, own_settings: Path
) -> None:
    gateway.start()

    def names() -> set[str]:
        models = httpx.get(f"{gateway.url}/v1/models", headers={"authorization": "Bearer a"})
        return {model["id"] for model in models.json()["data"]}

    own_settings.write_text(
        '[models]\ngpt_3_5 = ["new-name"]\n[server]\nprocesses = 2\n'
        f'[admin]\ntoken = "{"t" * 16}"\nport = {free_port()}'
    )
    assert "new-name" not in names()
    (former,) = serving(gateway.fronts[0])
    reload(gateway)
    assert "new-name" in names()
    after = serving(gateway.fronts[0]) - {former}
    assert len(after) == 2
    assert "nobody serves operators" in gateway.printed(), "a new port needs a restart"
    assert status(f"{gateway.url}/admin/api/board") == 404, "but it is not served to clients"
    own_settings.write_text("[models]\ngpt_3_5 = 3")
    gateway.fronts[0].send_signal(signal.SIGHUP)
    until(lambda: "event=reload_failed" in gateway.printed(), 60, "it did not fail")
    assert "models.gpt_3_5: expected a list, got a whole number" in gateway.printed()
    assert "new-name" in names()
    kept = serving(gateway.fronts[0]) & after
    assert len(kept) == 2
    until(lambda: serving(gateway.fronts[0]) - {former} == kept, 60, "others are left")


def test_a_front_end_that_cannot_start_ends_with_its_message(
    gateway: Gateway, tmp_path: Path
) -> None:
    (tmp_path / "media").touch()
    gateway.start_front()
    assert gateway.fronts[0].wait(60) == 1
    assert "media.store: the folder" in gateway.printed()
    assert "another one starts" not in gateway.printed()


@contextmanager
def activated(gateway: Gateway, listener: socket.socket) -> Iterator[subprocess.Popen[bytes]]:
    """Start front ends as systemd does for a socket unit; kill them at the end."""
    descriptor = listener.fileno()
    script = (
        f"import os, sys; os.dup2({descriptor}, 3); os.environ['LISTEN_PID'] = str(os.getpid());"
        "os.execv(sys.executable, [sys.executable, '-m', 'app'])"
    )
    with (gateway.directory / "activated.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", script],
            env={**gateway.environ, "LISTEN_FDS": "1"},
            pass_fds=[descriptor],
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(60)


def test_with_a_socket_unit_new_connections_wait_while_the_front_end_restarts(
    gateway: Gateway,
) -> None:
    gateway.start(fronts=0)
    pool = ThreadPoolExecutor(8)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with activated(gateway, listener) as first:
            until(lambda: status(f"{url}/readyz") == 200, 60, "not ready")
            running = Client(pool, url, "[[sim words=60 gate=10]]", "one")
            assert running.begun.wait(60)
            first.terminate()
            until(lambda: "event=front_end_draining" in gateway.printed(), 60, "it does not stop")
            newcomers = [Client(pool, url, "[[sim words=3]]", f"new-{n}") for n in range(4)]
            gateway.open_gate()
            assert is_whole(running.result(), 60)
            assert first.wait(60) == 0
        with activated(gateway, listener) as second:
            assert all(is_whole(newcomer.result(), 3) for newcomer in newcomers)
            second.terminate()
            assert second.wait(60) == 0
    pool.shutdown()
