"""A whole gateway on free ports of 127.0.0.1. The CPU time of each process can be read."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.question import Dialect
from local.redis import EmbeddedRedis, free_port
from runtime import children

HOST = "127.0.0.1"
START_TIMEOUT = 30.0
STOP_TIMEOUT = 5.0

_OF_KIND = {
    "pandora": (["--max-active={}"], "/simulator/stats"),
    "openai": (["--kind=openai", "--slots={}"], "/health"),
}
"""The simulator's options, with its slots, and a path that answers once it runs."""


@dataclass(frozen=True)
class Gateway:
    """A running gateway: its URLs, its upstream's, its Redis', and its processes by name."""

    url: str
    upstream: str
    redis: str
    parts: Mapping[str, psutil.Process]

    @property
    def chat(self) -> str:
        """URL of chat completions."""
        return f"{self.url}/v1/chat/completions"

    def direct(self, dialect: Dialect) -> str:
        """URL of the same question on the upstream itself."""
        return f"{self.upstream}{dialect.path}"


@contextlib.contextmanager
def gateway(
    slots: int,
    *,
    simulator: str | None = "simulator",
    kind: str = "pandora",
    settings: Mapping[str, str] | None = None,
    stalls: Path | None = None,
) -> Iterator[Gateway]:
    """Run a gateway with one worker that holds up to `slots` conversations.

    `settings` are further variables of the environment. `simulator` is the module of its upstream,
    which is of this `kind`; without it there is no server there. With `stalls`, a directory, the
    front end (`app`) and the worker (`workers`) note there each stall of their loops. All processes
    end with the context.
    """
    with contextlib.ExitStack() as stack:
        # The slowest mode of Redis: each write is on disk before it is answered.
        redis = stack.enter_context(EmbeddedRedis(appendonly=True))
        port, upstream_port = free_port(), free_port()
        url, upstream = f"http://{HOST}:{port}", f"http://{HOST}:{upstream_port}"
        if simulator:
            options, sign = _OF_KIND[kind]
            arguments = (f"--port={upstream_port}", *(option.format(slots) for option in options))
            stack.enter_context(process(simulator, *arguments))
            _wait(f"{upstream}{sign}")
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        file = directory / "settings.toml"
        file.touch()
        # No settings but these: neither the operator's file nor other variables of the environment.
        environ = {name: text for name, text in os.environ.items() if "GATEWAY" not in name} | {
            "GATEWAY_SETTINGS": str(file),
            "GATEWAY__SERVER__HOST": HOST,
            "GATEWAY__SERVER__PORT": str(port),
            "GATEWAY__REDIS__URL": redis.url,
            "GATEWAY__UPSTREAM__KIND": kind,
            "GATEWAY__UPSTREAM__BASE_URL": upstream,
            "GATEWAY__UPSTREAM__MAX_CONCURRENCY": str(slots),
            "GATEWAY__WORKERS__MAX_JOBS": str(slots),
            "GATEWAY__LOG__LEVEL": "WARNING",
            **(settings or {}),
        }
        parts = {
            "front end": stack.enter_context(_role("app", environ, stalls)),
            "worker": stack.enter_context(_role("workers", environ, stalls)),
            "Redis": psutil.Process(redis.process.pid),
        }
        _wait(f"{url}/readyz")
        if stalls is None:
            (parts["front end"],) = parts["front end"].children()  # its parent only watches it
        yield Gateway(url, upstream, redis.url, parts)


@contextlib.contextmanager
def passthrough(upstream: str, dialect: Dialect) -> Iterator[tuple[str, psutil.Process]]:
    """Run `benchmarks.passthrough` in front of `upstream`; yields its URL and its process."""
    port = free_port()
    with process("benchmarks.passthrough", upstream, str(port)) as part:
        _wait(f"http://{HOST}:{port}/ready")
        yield f"http://{HOST}:{port}{dialect.path}", part


@contextlib.contextmanager
def process(
    module: str, *arguments: str, environ: Mapping[str, str] | None = None
) -> Iterator[psutil.Process]:
    """Run `python -m module` until the context ends. Its output is printed if anything fails."""
    with tempfile.TemporaryFile() as output:
        command = [sys.executable, "-m", module, *arguments]
        started = children.spawn(command, environ=environ, output=output)
        try:
            yield psutil.Process(started.pid)
        except Exception:
            printed = os.pread(output.fileno(), 10_000, 0).decode(errors="replace")
            print(f"{module} printed:\n{printed}", file=sys.stderr)
            raise
        finally:
            children.stop(started, STOP_TIMEOUT)


def _role(
    module: str, environ: Mapping[str, str], stalls: Path | None
) -> contextlib.AbstractContextManager[psutil.Process]:
    if stalls is None:
        return process(module, environ=environ)
    return process("benchmarks.watched", module, str(stalls / module), environ=environ)


def _wait(url: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310 - an http URL of our own
                return
        except OSError as error:  # refused, timed out, or not 200 yet
            if time.monotonic() > deadline:
                raise RuntimeError(f"{url} did not answer in {START_TIMEOUT:.0f} s") from error
        time.sleep(0.05)
