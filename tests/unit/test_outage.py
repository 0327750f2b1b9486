"""Outages of Redis as one process sees them: the log, and repeated calls."""

from __future__ import annotations

import logging
import socket
import ssl
from itertools import chain, repeat

import pytest
from redis.exceptions import ConnectionError, OutOfMemoryError, ResponseError

from wire.redis.outage import Outage, retry
from wire.redis.trouble import trouble

logger = logging.getLogger(__name__)


def test_an_outage_is_logged_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    outage = Outage(logger, "renew leases")
    for error in (ConnectionError("refused"), OutOfMemoryError(), TimeoutError()):
        with outage.tolerated():
            raise error
    assert outage.reason == "no answer in time"
    assert outage.since is not None
    for _ in range(2):
        with outage.tolerated():
            pass
    assert outage.reason == ""
    assert [record.getMessage() for record in caplog.records] == [
        "Redis is unavailable (the connection failed): cannot renew leases",
        "Redis is available again: can renew leases",
    ]


def test_an_outage_hides_no_other_error() -> None:
    outage = Outage(logger, "renew leases")
    with pytest.raises(KeyError), outage.tolerated():
        raise KeyError
    assert outage.since is None


@pytest.mark.parametrize(
    ("error", "for_everyone"), [(ConnectionRefusedError(), True), (TimeoutError(), False)]
)
def test_an_outage_says_if_other_processes_have_it_too(error: OSError, for_everyone: bool) -> None:
    outage = Outage(logger, "renew leases")
    with outage.tolerated():
        raise error
    assert outage.is_for_everyone is for_everyone


async def test_a_call_is_repeated_until_redis_serves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wire.redis.outage.RETRY_PAUSE", 0.0)
    failures = chain(repeat(ConnectionError(), 3), repeat(None))

    async def call() -> str:
        if (error := next(failures)) is not None:
            raise error
        return "served"

    assert await retry(call) == "served"


async def test_a_call_is_repeated_no_longer_than_its_deadline() -> None:
    async def call() -> None:
        raise ConnectionError

    with pytest.raises(TimeoutError):
        await retry(call, within=0.01)


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (ssl.SSLCertVerificationError(), "TLS: its certificate is not trusted"),
        (ssl.SSLError(), "TLS: the handshake failed"),
        (socket.gaierror(), "DNS: the host name in redis.url cannot be resolved"),
        (ConnectionRefusedError(), "connection refused: no server listens there"),
        (OSError(), "the connection failed"),
    ],
)
def test_the_reason_of_a_failed_connection_is_the_error_behind_it(
    cause: OSError, reason: str
) -> None:
    """redis-py says ConnectionError for all of them, and the log said no more."""
    error = ConnectionError("Error 1 connecting to a:1")
    error.__cause__ = cause
    assert trouble(error) == reason


def test_the_text_of_an_error_is_not_shown() -> None:
    assert "hush" not in trouble(ResponseError("ERR wrong: hush"))
