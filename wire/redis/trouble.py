"""Reasons for which Redis cannot be used, in words for an operator.

The text of an error is not shown, since it may quote what was sent. Redis begins its errors with a
word in capitals, which redis-py keeps or turns into a class; in the error of a script it is in the
middle.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import redis.exceptions as errors
from redis.asyncio.sentinel import MasterNotFoundError

_FULL = "OOM: its memory is full (maxmemory)"
_REPLICA = "READONLY: it is a replica, not the master"
_ACCESS = "AUTH: the user or password in redis.url is wrong, missing or not expected"
_PERMISSION = "NOPERM: its user may not use a command or a key of the gateway"
_LOADING = "LOADING: it has just started and is reading its data"
_CLUSTER = "it is a cluster, which is not supported"
_LATE = "no answer in time"


class NoTlsAnswerError(errors.TimeoutError):
    """The handshake was not answered, as by a Redis that expects no TLS."""


_CLASSES: tuple[tuple[type[BaseException], str], ...] = (
    (errors.OutOfMemoryError, _FULL),
    (errors.ReadOnlyError, _REPLICA),
    (errors.AuthenticationError, _ACCESS),
    (errors.NoPermissionError, _PERMISSION),
    (errors.BusyLoadingError, _LOADING),
    (MasterNotFoundError, "no Sentinel names the master"),
    (socket.gaierror, "DNS: the host name in redis.url cannot be resolved"),
    (ssl.SSLCertVerificationError, "TLS: its certificate is not trusted"),
    (ssl.SSLError, "TLS: the handshake failed"),
    (ConnectionRefusedError, "connection refused: no server listens there"),
    (FileNotFoundError, "the Unix socket in redis.url does not exist"),
    (
        NoTlsAnswerError,
        "TLS: no answer to the handshake, as from a Redis without TLS (or a firewall)",
    ),
    (errors.TimeoutError, _LATE),
    (TimeoutError, _LATE),
)

_WORDS = {
    "OOM": _FULL,
    "MISCONF": "MISCONF: it cannot write to its disk, so it refuses commands that change data",
    "READONLY": _REPLICA,
    "MASTERDOWN": "MASTERDOWN: it is a replica that has lost its master",
    "NOREPLICAS": "NOREPLICAS: too few replicas follow it (min-replicas-to-write)",
    "NOPERM": _PERMISSION,
    "LOADING": _LOADING,
    "DB index": "the database in redis.url does not exist",
    "max number of clients": "it has as many clients as it allows (maxclients)",
    "unknown command": "it lacks a command: that was renamed, or Redis is older than 6.2",
    "cluster": _CLUSTER,
    "MOVED": _CLUSTER,
}
"""Words in the messages of errors that have no class of their own, or come from a script."""


def trouble(error: BaseException) -> str:
    """Describe why Redis cannot be used, given the error of a client."""
    for cause in _causes(error):
        for kind, reason in _CLASSES:
            if isinstance(cause, kind):
                return reason
    if isinstance(error, errors.ResponseError):
        for word, reason in _WORDS.items():
            if word in str(error):
                return reason
    if isinstance(error, errors.ConnectionError | OSError):
        return "the connection failed"
    return type(error).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and those that it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
