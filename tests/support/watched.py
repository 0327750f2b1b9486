"""A real Redis with a real replica, and real Sentinels that watch over them."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote

import redis

from local.redis import HOST, EmbeddedRedis, find_server, free_port
from runtime import children
from tests.support.gateway import until

MASTER = "main"


class Sentinel:
    """One Sentinel, which considers a master dead after `down_after` seconds of silence."""

    process: subprocess.Popen[bytes]

    def __init__(
        self, directory: Path, master: EmbeddedRedis, quorum: int, down_after: float, password: str
    ) -> None:
        self.port = free_port()
        self._config = directory / f"sentinel-{self.port}.conf"
        lines = [
            f"port {self.port}",
            f"bind {HOST}",
            f"dir {directory}",
            f"sentinel monitor {MASTER} {HOST} {master.port} {quorum}",
            f"sentinel down-after-milliseconds {MASTER} {round(down_after * 1000)}",
            f"sentinel failover-timeout {MASTER} 3000",
            *([f"requirepass {password}"] if password else []),
        ]
        self._config.write_text("\n".join(lines) + "\n")
        self._password = password or None
        with self._config.with_suffix(".log").open("wb") as output:
            self.process = children.spawn(
                [find_server(), self._config, "--sentinel"], output=output
            )

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait()

    def client(self) -> redis.Redis:
        """A client of it."""
        return redis.Redis(HOST, self.port, password=self._password, socket_timeout=1)


class WatchedRedis:
    """A master, its replica, and Sentinels that know each other."""

    def __init__(self, sentinels: int, down_after: float, password: str) -> None:
        self.master = EmbeddedRedis(appendonly=True)
        self.replica = EmbeddedRedis(appendonly=True)
        self.sentinels: list[Sentinel] = []
        self._directory = Path(tempfile.mkdtemp(prefix="sentinels-"))
        self._number = sentinels
        self._down_after = down_after
        self._password = password

    @property
    def url(self) -> str:
        """The value for `redis.url`."""
        addresses = ",".join(sentinel.address for sentinel in self.sentinels)
        option = f"?sentinel_password={quote(self._password)}" if self._password else ""
        return f"redis+sentinel://{addresses}/{MASTER}/0{option}"

    def start(self) -> None:
        """Start everything and wait until a failover could happen."""
        self.master.start()
        self.replica.start()
        with redis.Redis.from_url(self.replica.url) as client:
            client.execute_command("REPLICAOF", HOST, str(self.master.port))
            until(
                lambda: client.info("replication")["master_link_status"] == "up",
                10,
                "the replica did not follow",
            )
        quorum = self._number // 2 + 1
        for _ in range(self._number):
            sentinel = Sentinel(
                self._directory, self.master, quorum, self._down_after, self._password
            )
            self.sentinels.append(sentinel)
        for sentinel in self.sentinels:
            until(partial(self._is_settled, sentinel), 10, "a Sentinel does not know all others")

    def _is_settled(self, sentinel: Sentinel) -> bool:
        try:
            with sentinel.client() as client:
                known = client.sentinel_master(MASTER)
        except (redis.ConnectionError, redis.TimeoutError):
            return False
        others = self._number - 1
        return bool(known["num-slaves"] == 1 and known["num-other-sentinels"] == others)

    def fail_over(self) -> None:
        """Have the replica replace a living master, as for maintenance."""
        with self.sentinels[0].client() as client:
            client.sentinel_failover(MASTER)

    def close(self) -> None:
        """End everything."""
        for sentinel in self.sentinels:
            sentinel.kill()
        self.replica.close()
        self.master.close()
        shutil.rmtree(self._directory, ignore_errors=True)


@contextlib.contextmanager
def watched_redis(
    sentinels: int = 1, *, down_after: float = 0.5, password: str = ""
) -> Iterator[WatchedRedis]:
    """A `WatchedRedis` that ends with the context."""
    watched = WatchedRedis(sentinels, down_after, password)
    try:
        watched.start()
        yield watched
    finally:
        watched.close()
