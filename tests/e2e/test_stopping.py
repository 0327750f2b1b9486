"""Stopping roles finish their running answers."""

from __future__ import annotations

import json
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.bots import Ask, Client, is_whole
from tests.support.gateway import Gateway, status, until


@pytest.fixture
def gateway(mortal_gateway: Gateway) -> Gateway:
    return mortal_gateway.at_rest()


def test_a_stopping_worker_finishes_its_answers(gateway: Gateway, ask: Ask) -> None:
    gateway.start(workers=1)
    client = ask(60, gate=10)
    assert client.begun.wait(60)
    gateway.workers[0].send_signal(signal.SIGHUP)  # as from a terminal that is closed
    until(lambda: "event=not_reloaded" in gateway.printed(), 60, "it did not say so")
    gateway.workers[0].terminate()
    gateway.open_gate()
    assert is_whole(client.result(), 60)
    assert gateway.workers[0].wait(60) == 0


def test_a_stopping_front_end_finishes_its_answers_and_accepts_no_requests(
    gateway: Gateway, ask: Ask
) -> None:
    gateway.start(workers=1)
    client = ask(60, gate=10)
    assert client.begun.wait(60)
    gateway.fronts[0].terminate()
    until(lambda: status(f"{gateway.url}/readyz") == 503, 60, "it does not stop")
    refused = ask(1).result()
    assert (refused.status, refused.error) == (503, "line_unavailable")
    gateway.open_gate()
    assert is_whole(client.result(), 60)
    assert gateway.fronts[0].wait(60) == 0


def test_a_stopping_front_end_serves_a_request_that_is_not_in_line_yet(gateway: Gateway) -> None:
    gateway.start(workers=1)
    where = urlsplit(gateway.url)
    content = json.dumps(
        {"model": "gpt-4", "messages": [{"role": "user", "content": "[[sim words=3 delay=3]]"}]}
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {where.netloc}\r\nExpect: 100-continue\r\n"
        f"Authorization: Bearer one\r\nContent-Length: {len(content)}\r\n\r\n"
    ).encode()
    with socket.create_connection((where.hostname, where.port), 60) as client:
        client.sendall(head)
        assert client.recv(100).startswith(b"HTTP/1.1 100 "), "it reads the body"
        gateway.fronts[0].terminate()
        until(lambda: status(f"{gateway.url}/readyz") == 503, 60, "it does not stop")
        client.sendall(content)
        answer = b"".join(iter(lambda: client.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert b"w0 w1 w2" in answer
    assert gateway.fronts[0].wait(60) == 0


def test_clients_get_an_error_if_a_front_end_stops_before_their_answers_end(
    directory: Path,
) -> None:
    pool = ThreadPoolExecutor(4)
    with Gateway(directory, server__drain_timeout="0.5") as gateway:
        gateway.start(workers=1)
        client = Client(pool, gateway.url, "[[sim words=3000]]", "one")
        assert client.begun.wait(60)
        gateway.fronts[0].terminate()
        assert client.result().error == "stopped"
        gateway.wait_idle()
        assert gateway.fronts[0].wait(60) == 0
    pool.shutdown()
