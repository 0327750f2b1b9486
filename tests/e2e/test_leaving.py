"""A client that disconnects frees its place or slot within a second, in every state of its
answer."""

from __future__ import annotations

import json
import socket
import time
from urllib.parse import urlsplit

import pytest
import redis

from tests.support.gateway import Gateway, until

WITHIN = 1.0
"""Seconds that the contract allows."""


class LeavingClient:
    """A client on a plain socket, so that disconnecting is one close and nothing else."""

    def __init__(
        self, gateway: Gateway, prompt: str, *, stream: bool, padding: int = 0, bearer: str = "one"
    ) -> None:
        where = urlsplit(gateway.url)
        body = json.dumps(
            {
                "model": "gpt-4-s",
                "stream": stream,
                "messages": [{"role": "user", "content": prompt + "x" * padding}],
            }
        ).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {where.netloc}\r\n"
            f"Authorization: Bearer {bearer}\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        self._socket = socket.create_connection((where.hostname, where.port), 10)
        self._socket.sendall(head + body)

    def read_until(self, text: bytes) -> None:
        received = b""
        while text not in received:
            chunk = self._socket.recv(65536)
            assert chunk, received
            received += chunk

    def leave(self) -> None:
        self._socket.close()


@pytest.mark.parametrize("padding", [0, 300_000])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "directive", ["words=2000 interval=0.01", "delay=30", "fault=hang", "fault=silence at_word=3"]
)
def test_a_client_that_disconnects_frees_its_slot_within_a_second(
    gateway: Gateway, directive: str, *, stream: bool, padding: int
) -> None:
    client = LeavingClient(gateway, f"[[sim {directive}]]", stream=stream, padding=padding)
    until(lambda: gateway.stats()["active"] == 1, 60, "the conversation did not start")
    if stream and "words" in directive:
        client.read_until(b"w3")  # a busy machine sends more than one word at once
    left = time.monotonic()
    client.leave()
    until(lambda: gateway.stats()["active"] == 0, 60, "the conversation goes on upstream")
    assert time.monotonic() - left < WITHIN
    assert gateway.stats()["aborted"] == 1


@pytest.mark.parametrize("stream", [True, False])
def test_a_waiting_client_that_disconnects_frees_its_place_within_a_second(
    gateway: Gateway, *, stream: bool
) -> None:
    running = LeavingClient(gateway, "[[sim words=2000]]", stream=True)
    until(lambda: gateway.stats()["active"] == 1, 60, "the first did not start")
    waiting = LeavingClient(gateway, "[[sim words=1]]", stream=stream, padding=300_000)
    last = LeavingClient(gateway, "[[sim words=1]]", stream=True)
    with redis.Redis.from_url(gateway.redis.url) as line:
        until(lambda: line.zcard("gateway:waiting:chat") == 2, 60, "not both are in line")
        if stream:
            waiting.read_until(b'"queue":')
        waiting.leave()
        until(lambda: line.zcard("gateway:waiting:chat") == 1, WITHIN, "its place is not free")
    running.leave()
    last.read_until(b"[DONE]")
    last.leave()
    stats = gateway.stats()
    assert (stats["started"], stats["finished"]) == (2, 1), "the cancelled job was not started"


def test_fifty_clients_that_disconnect_at_once_leave_no_job_behind(gateway: Gateway) -> None:
    clients = [
        LeavingClient(
            gateway, "[[sim words=2000]]", stream=n % 2 == 0, bearer=f"leaver-{n}", padding=n * 3000
        )
        for n in range(50)
    ]
    until(lambda: gateway.stats()["active"] == 4, 60, "the slots were not filled")
    for client in clients:
        client.leave()
    with redis.Redis.from_url(gateway.redis.url) as line:
        jobs = ("gateway:waiting:chat", "gateway:leases:main:chat")
        until(
            lambda: not line.exists(*jobs),
            60,
            "the job of a disconnected client still waits or runs",
        )
        until(lambda: gateway.stats()["active"] == 0, 60, "conversations go on upstream")
        last = LeavingClient(gateway, "[[sim words=1]]", stream=True)
        last.read_until(b"[DONE]")
        last.leave()
        until(
            lambda: not line.exists(*jobs),
            60,
            "the job of a disconnected client was enqueued later",
        )
    assert gateway.stats()["active"] == 0, "the job of a disconnected client was started"
