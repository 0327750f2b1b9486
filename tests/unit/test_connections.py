"""Limits of open connections."""

from __future__ import annotations

import logging
import resource

import pytest

import settings
from app.http.connections import FEWEST, Connection, Connections, limited_connections
from settings.networks import PRIVATE, networks


class Clients:
    """Clients of a front end; `closed` are the numbers of those that lost their connection."""

    def __init__(self, connections: Connections) -> None:
        self.closed: list[int] = []
        self._connections = connections
        self._number = 0

    def connect(self, host: str = "9.9.9.9") -> Connection | None:
        number = self._number
        self._number += 1
        return self._connections.open((host, 1234), lambda: self.closed.append(number))

    def request(self, host: str = "9.9.9.9") -> Connection:
        connection = self.connect(host)
        assert connection is not None
        self._connections.serves(connection)
        return connection


def test_a_new_connection_takes_the_place_of_the_one_that_waits_the_longest() -> None:
    connections = Connections(4, 0, ())
    clients = Clients(connections)
    first, busy, third = clients.connect(), clients.request(), clients.connect()
    assert first
    assert third
    connections.serves(first)
    connections.waits(first)  # an answer later, it waits again
    clients.connect()
    assert clients.closed == []
    clients.connect()
    clients.connect()
    assert clients.closed == [2, 0]
    connections.remove(busy)
    assert clients.connect()
    assert clients.closed == [2, 0]


def test_a_connection_is_refused_if_all_others_serve_a_request() -> None:
    clients = Clients(Connections(2, 0, ()))
    clients.request()
    last = clients.request()
    assert clients.connect() is None
    assert clients.closed == []
    clients._connections.remove(last)
    assert clients.connect()


@pytest.mark.parametrize(
    ("hosts", "accepted"),
    [
        (["9.9.9.9"] * 5, 3),
        (["9.9.9.9", "::ffff:9.9.9.9"] * 2, 3),
        (["9.9.9.9", "9.9.9.8"] * 3, 6),
        (["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4"], 3),
        (["10.1.2.3"] * 5, 5),
        (["fe80::1%eth0"] * 5, 3),
        (["127.0.0.1"] * 5, 5),
    ],
)
def test_one_address_has_a_limit_of_its_own_unless_it_is_a_proxy(
    hosts: list[str], accepted: int
) -> None:
    clients = Clients(Connections(100, 3, PRIVATE))
    assert sum(clients.connect(host) is not None for host in hosts) == accepted


def test_a_closed_connection_no_longer_counts_for_its_address() -> None:
    connections = Connections(100, 1, networks(["10.0.0.0/8"]))
    clients = Clients(connections)
    for _ in range(3):
        connection = clients.connect()
        assert connection is not None
        connections.remove(connection)
        connections.remove(connection)


def test_a_client_at_a_unix_socket_has_no_address() -> None:
    assert Connections(100, 1, ()).open("", lambda: None)


def test_many_refusals_leave_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    clients = Clients(Connections(1, 0, ()))
    clients.request()
    with caplog.at_level(logging.WARNING):
        assert [clients.connect() for _ in range(1000)] == [None] * 1000
    assert [record.event for record in caplog.records] == ["connections_refused"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("soft", "hard", "raised", "limit"),
    [
        (1024, 524_288, 10_400, 10_000),
        (1024, 4096, 4096, 3696),
        (1024, 1024, 1024, 624),
        (256, 256, 256, FEWEST),
        (1024, resource.RLIM_INFINITY, 10_400, 10_000),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None, 10_000),
        (65_536, 65_536, None, 10_000),
    ],
)
def test_the_limit_of_open_files_is_raised_and_the_limit_of_connections_stays_below_it(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, raised: int | None, limit: int
) -> None:
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: given.append(limits))
    assert limited_connections(settings.Server())._limit == limit
    assert given == ([] if raised is None else [(raised, hard)])
