"""A whole gateway of real processes, which a test may kill and start again, one by one."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import compress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlsplit

import psutil
import redis

from local.redis import EmbeddedRedis, free_port
from runtime.children import spawn, stop

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]


class Gateway:
    """Redis with its log, a simulator, workers and front ends, on free ports of this machine.

    `simulator` are its options; with None there is none, and the settings name the upstream.
    `overrides` are settings as the environment gives them: `queue__max_wait="5"`. Once `files` is a
    directory, roles read their settings from there instead, and from nowhere else.
    """

    files: Path | None = None
    simulator = ""
    secret = "the secret of the tests"

    def __init__(
        self, directory: Path, *, simulator: tuple[str, ...] | None = (), **overrides: str
    ) -> None:
        self.directory = directory
        self.redis = EmbeddedRedis(appendonly=True)
        self._simulator_options = simulator
        self._overrides = overrides
        self._outputs = 0
        self._children: list[subprocess.Popen[bytes]] = []
        self.workers: list[subprocess.Popen[bytes]] = []
        self.fronts: list[subprocess.Popen[bytes]] = []
        self.urls: list[str] = []

    def __enter__(self) -> Gateway:
        self.redis.start()
        if self._simulator_options is not None:
            self.simulator = self.start_simulator(*self._simulator_options)[1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for child in self._children:
            child.send_signal(signal.SIGCONT)
            child.terminate()
        for child in self._children:
            stop(child, 1)
        self.redis.close()

    @property
    def url(self) -> str:
        """URL of the first front end."""
        return self.urls[0]

    def override(self, **overrides: str) -> None:
        """Set further settings, for the roles that start from now on."""
        self._overrides.update(overrides)

    def start(self, *, workers: int = 1, fronts: int = 1, processes: int = 1) -> Gateway:
        """Have the given numbers of roles, and wait until requests would be served at once.

        Living roles are kept.
        """
        alive = [front.poll() is None for front in self.fronts]
        self.fronts = self._keep(fronts, list(compress(self.fronts, alive)))
        self.urls = list(compress(self.urls, alive))[:fronts]
        self.workers = self._keep(workers, [w for w in self.workers if w.poll() is None])
        while len(self.fronts) < fronts:
            self.start_front(processes=processes)
        while len(self.workers) < workers:
            self.start_worker()
        self.wait_ready()
        if self.files is None and "redis__url" not in self._overrides:
            make_old(self.redis.url)
        return self

    def _keep(
        self, number: int, roles: list[subprocess.Popen[bytes]]
    ) -> list[subprocess.Popen[bytes]]:
        for role in roles[number:]:
            stop(role, 5)
        return roles[:number]

    def start_front(self, port: int | None = None, processes: int = 1) -> str:
        """Start one more front end with the given number of processes; return its URL."""
        port = port or free_port()
        self.fronts.append(self._front(port, processes))
        self.urls.append(f"http://127.0.0.1:{port}")
        return self.urls[-1]

    def restart_front(self, number: int) -> subprocess.Popen[bytes]:
        """Start a front end that has ended again, on its old port."""
        port = urlsplit(self.urls[number]).port
        assert port is not None
        self.fronts[number] = self._front(port)
        return self.fronts[number]

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start one more worker."""
        self.workers.append(self._spawn("workers"))
        return self.workers[-1]

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Wait until every front end is ready, and a worker serves each of its upstreams."""

        def ready() -> bool:
            return all(serves_requests(url) for url in self.urls)

        until(ready, timeout, "a front end is not ready")

    def stats(self) -> dict[str, int]:
        """The counters of the simulator."""
        with urllib.request.urlopen(f"{self.simulator}/simulator/stats", timeout=30) as answer:
            counted: dict[str, int] = json.load(answer)
        return counted

    def reset(self, **script: object) -> None:
        """Reset the simulator's counters, and set its answer to prompts without a directive."""
        post(f"{self.simulator}/simulator/reset", {})
        if script:
            post(f"{self.simulator}/simulator/script", script)

    def open_gate(self) -> None:
        """Let the answers at the simulator's gate go on."""
        post(f"{self.simulator}/simulator/gate", {})

    def wait_idle(self, timeout: float = 30.0) -> None:
        """Wait until the simulator holds no conversation."""
        until(lambda: self.stats()["active"] == 0, timeout, "a conversation still runs upstream")

    def at_rest(self) -> Gateway:
        """Wait until nothing goes on, reset the simulator's counters, and return the gateway."""
        self.wait_idle()
        self.reset()
        return self

    def printed(self) -> str:
        """Everything that all roles have printed."""
        return "\n".join(
            file.read_text(errors="replace") for file in sorted(self.directory.glob("*.log"))
        )

    def _front(self, port: int, processes: int = 1) -> subprocess.Popen[bytes]:
        environ = {"GATEWAY__SERVER__PORT": str(port)}
        if processes != 1:  # else as the settings say
            environ["GATEWAY__SERVER__PROCESSES"] = str(processes)
        return self._spawn("app", **environ)

    def start_simulator(self, *options: str) -> tuple[subprocess.Popen[bytes], str]:
        """Start a simulator; return its process and its URL."""
        child = self._spawn("simulator", "--port", "0", *options)
        log = self.directory / f"{self._outputs:02d}-simulator.log"
        found = until(
            lambda: re.search(r"ready on (http://\S+)", log.read_text()), 30, "no simulator"
        )
        assert child.poll() is None
        return child, found[1]

    @property
    def environ(self) -> dict[str, str]:
        """The environment of the roles."""
        if self.files is not None:
            settings = {
                "GATEWAY_SETTINGS": str(self.files / "settings.local.toml"),
                "GATEWAY_GPTS": str(self.files / "gpts.local.toml"),
            }
        else:
            settings = {
                "GATEWAY__REDIS__URL": self.redis.url,
                "GATEWAY__UPSTREAM__BASE_URL": self.simulator,
                "GATEWAY__SERVER__HOST": "127.0.0.1",
                "GATEWAY__LOG__PATH": str(self.directory / "log" / "access.log"),
                "GATEWAY__MEDIA__STORE": str(self.directory / "media"),
            }
            for name, value in self._overrides.items():
                settings[f"GATEWAY__{name.upper()}"] = value
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "GATEWAY_SECRET": self.secret,
            **settings,
        }

    def _spawn(self, module: str, *arguments: str, **environ: str) -> subprocess.Popen[bytes]:
        self._outputs += 1
        path = self.directory / f"{self._outputs:02d}-{module}.log"
        with path.open("wb") as output:
            child = spawn(
                [sys.executable, "-m", module, *arguments],
                environ={**self.environ, **environ},
                output=output,
            )
        self._children.append(child)
        return child


def quick(directory: Path) -> Gateway:
    """A gateway that notices dead processes twice as fast as by default."""
    return Gateway(
        directory,
        queue__max_wait="60",
        redis__outage_grace="15",
        queue__lease="3",
        queue__heartbeat="0.75",
    )


def until(probe: Callable[[], T | None], timeout: float, otherwise: str) -> T:
    """Call `probe` until its result is true, at most `timeout` seconds; return the result."""
    deadline = time.monotonic() + timeout
    while not (found := probe()):
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)
    return found


def status(url: str) -> int:
    """The HTTP status of a GET; 0 without an answer."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def serves_requests(url: str) -> bool:
    """True if a front end is ready, and workers have described all of its upstreams."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
            return "has described" not in answer.read().decode()
    except OSError:
        return False


def make_old(url: str) -> None:
    """Make a Redis old, as nothing is claimed in a new one for two heartbeats."""
    with redis.Redis.from_url(url) as client:
        client.hincrby("gateway:pulse", "since", -3_600_000)


def post(url: str, body: object) -> None:
    """Send a POST that must succeed."""
    data = json.dumps(body).encode()
    with urllib.request.urlopen(url, data=data, timeout=30) as answer:
        assert answer.status < 300


@contextmanager
def frozen(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Stop a process and its children with SIGSTOP for as long as the context lasts."""
    parent = psutil.Process(process.pid)
    every = [parent, *parent.children()]
    for each in every:
        each.suspend()
    try:
        yield
    finally:
        for each in every:
            each.resume()


def serving(front: subprocess.Popen[bytes]) -> set[psutil.Process]:
    """The processes of a front end that serve its requests."""
    return set(psutil.Process(front.pid).children())


def uploaded(gateway: Gateway) -> list[dict[str, Any]]:
    """The files that were uploaded to the simulator."""
    with urllib.request.urlopen(f"{gateway.simulator}/simulator/files", timeout=30) as answer:
        files: list[dict[str, Any]] = json.load(answer)
        return files


def held(gateway: Gateway) -> list[Path]:
    """The large parts of requests that are in the store."""
    return [path for path in (gateway.directory / "media" / "parts").rglob("*") if path.is_file()]
