import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from local.redis import EmbeddedRedis, EmbeddedRedisError, find_server

ROOT = Path(__file__).parents[2]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # killed, but not yet waited for by its new parent


def fake_server(directory: Path, name: str, version: str) -> Path:
    server = directory / name
    server.write_text(f"#!/bin/sh\necho '{version}'\n")
    server.chmod(0o755)
    return server


def test_a_server_answers_on_its_url_and_goes_with_its_directory() -> None:
    with EmbeddedRedis() as server:
        with redis.Redis.from_url(server.url) as client:
            client.set("key", "value")
            assert client.get("key") == b"value"
            assert client.config_get("save") == {"save": ""}
        assert os.getsid(server.process.pid) == server.process.pid
    assert server.process.returncode == 0
    assert not server.directory.exists()


def test_two_servers_run_side_by_side() -> None:
    with EmbeddedRedis() as one, EmbeddedRedis() as other:
        assert one.port != other.port


def test_a_killed_server_restarts_at_its_url_with_its_data(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path, appendonly=True) as server:
        url = server.url
        with redis.Redis.from_url(url) as client:
            client.set("key", "value")
            server.kill()
            assert server.process.returncode == -signal.SIGKILL
            with pytest.raises(redis.ConnectionError):
                client.ping()
            server.restart()
            assert server.url == url
            assert client.get("key") == b"value"
    assert tmp_path.exists()


def test_a_running_server_can_be_restarted_and_stopped_twice() -> None:
    with EmbeddedRedis() as server:
        first = server.process
        server.restart()
        assert first.returncode == 0
        assert server.process.poll() is None
        server.stop()
        server.stop()
        assert server.process.returncode == 0


def test_a_stopped_process_that_does_not_react_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local.redis.STOP_TIMEOUT", 0.1)
    with EmbeddedRedis() as server:
        server.process.send_signal(signal.SIGSTOP)
    assert server.process.returncode == -signal.SIGKILL


def test_a_server_that_cannot_start_says_what_it_printed() -> None:
    with (
        EmbeddedRedis() as server,
        pytest.raises(EmbeddedRedisError, match="ddress already in use"),
        EmbeddedRedis(port=server.port),
    ):
        pytest.fail("two servers have one port")


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere no system call ties it to its parent"
)
def test_a_server_does_not_outlive_a_killed_parent() -> None:
    script = (
        "import sys; from local.redis import EmbeddedRedis\n"
        "with EmbeddedRedis() as server:\n"
        "    print(server.process.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        parent.kill()
    deadline = time.monotonic() + 5
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)  # no signal comes from a process that is not our child


def test_a_server_on_the_path_is_preferred_to_a_packaged_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    of_redis = fake_server(tmp_path, "redis-server", "Redis server v=7.0.15 sha=0")
    assert find_server() == of_redis
    of_valkey = fake_server(tmp_path, "valkey-server", "Valkey server v=8.1.1 sha=0")
    assert find_server() == of_valkey


def test_a_server_on_the_path_that_is_too_old_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = fake_server(tmp_path, "redis-server", "Redis server v=6.0.16 sha=0")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert find_server() != old


def test_without_a_server_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmbeddedRedisError, match="install valkey or redis"):
        find_server()
