"""Operators at a port of their own, which each front-end process serves."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from local.redis import free_port
from tests.support.gateway import Gateway, serving, status, until

TOKEN = "a-token-of-the-operators"
AS_PROGRAM = {"authorization": f"Bearer {TOKEN}"}
PROCESSES = 2


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Gateway]:
    directory: Path = tmp_path_factory.mktemp("gateway")
    with Gateway(
        directory, admin__token=TOKEN, admin__port=str(port), admin__host="127.0.0.1"
    ) as gateway:
        yield gateway.start(processes=PROCESSES)


@pytest.fixture(scope="module")
def admin(port: int) -> str:
    return f"http://127.0.0.1:{port}"


@contextmanager
def stream(admin: str) -> Iterator[Iterator[str]]:
    """The lines of an event stream, of which one has been read."""
    with httpx.stream("GET", f"{admin}/admin/api/events", headers=AS_PROGRAM, timeout=30) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        next(lines)
        yield lines


def test_each_port_serves_its_own_paths_alone(gateway: Gateway, admin: str) -> None:
    for path in ("/admin", "/admin/login", "/admin/api/board", "/admin/api/events"):
        hidden = httpx.get(gateway.url + path, headers=AS_PROGRAM)
        unknown = httpx.get(f"{gateway.url}/unknown", headers=AS_PROGRAM)
        assert (hidden.status_code, hidden.headers.keys()) == (404, unknown.headers.keys())
        assert httpx.post(gateway.url + path, headers=AS_PROGRAM).status_code == 404
    for path in ("/v1/models", "/v1/chat/completions", "/metrics", "/docs", "/openapi.json"):
        answer = httpx.get(admin + path, headers=AS_PROGRAM | {"origin": "https://a.page"})
        assert answer.status_code == 404
        assert "access-control-allow-origin" not in answer.headers
    assert status(f"{admin}/healthz") == status(f"{admin}/readyz") == 200
    assert httpx.get(f"{admin}/admin/api/board", headers=AS_PROGRAM).json()["running_total"] == 0
    assert httpx.get(f"{admin}/admin/api/board").status_code == 401


def test_event_streams_end_at_a_reload_and_go_on_at_the_new_front_ends(
    gateway: Gateway, admin: str
) -> None:
    former = serving(gateway.fronts[0])
    with stream(admin) as one, stream(admin) as other:
        os.kill(gateway.fronts[0].pid, signal.SIGHUP)
        assert [line for lines in (one, other) for line in lines], "whole, to the end"
    until(
        lambda: len(now := serving(gateway.fronts[0])) == PROCESSES and not now & former,
        30,
        "the former front ends are still there",
    )
    with stream(admin):
        pass


def test_event_streams_do_not_delay_a_stop(gateway: Gateway, admin: str) -> None:
    with stream(admin) as lines:
        gateway.fronts[0].terminate()
        assert list(lines)
    assert gateway.fronts[0].wait(30) == 0
