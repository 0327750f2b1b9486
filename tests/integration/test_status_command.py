"""`python -m app status` with a real Redis, and without one."""

from __future__ import annotations

import json

import pytest
import redis

import app.__main__
from local.redis import EmbeddedRedis, free_port
from wire.line import keys


@pytest.fixture
def status(
    redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Status:
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    monkeypatch.setenv("GATEWAY__REDIS__URL", redis_server.url)
    monkeypatch.setenv("GATEWAY_SECRET", "the secret of the tests")
    return Status(monkeypatch, capsys)


class Status:
    """The command, run within this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[object, str]:
        self._monkeypatch.setattr("sys.argv", ["app", "status", *arguments])
        with pytest.raises(SystemExit) as ended:
            app.__main__.main()
        return ended.value.code, self._capsys.readouterr().out


def test_without_roles_it_says_so(status: Status) -> None:
    code, output = status()
    assert code == 2
    assert output.startswith("cannot serve: no front end is running; no worker is alive; ")
    code, output = status("--json")
    found = json.loads(output)
    assert code == 2
    assert (found["status"], found["waiting"]) == ("unavailable", 0)


def test_data_of_another_version_are_left_alone(
    status: Status, redis_server: EmbeddedRedis
) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        client.set(keys.version, "3")
        code, output = status()
        assert (code, client.get(keys.version)) == (2, b"3")
    assert output.startswith("cannot serve: The data in Redis are of version 3")


def test_without_redis_it_says_why_in_the_same_form(
    status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY__REDIS__URL", f"redis://127.0.0.1:{free_port()}/0")
    reason = "Redis cannot be used (connection refused: no server listens there)"
    assert status() == (2, f"cannot serve: {reason}\n")
    code, output = status("--json")
    found = json.loads(output)
    assert (code, found["reasons"], found["waiting"]) == (2, [reason], None)
