"""Reasons for which Redis cannot be used, in words for an operator.

The text of an error is not shown, since it may quote what was sent. The reason is also shown by
`/readyz`, which needs no key, so an address is kept apart from it, for the log (`address_of`).

Redis begins its errors with a word in capitals, which redis-py keeps or turns into a class; in the
error of a script it is in the middle.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable, Iterator

import redis.exceptions as errors
from redis.asyncio.sentinel import MasterNotFoundError

_FULL = "OOM: its memory is full (maxmemory)"
_REPLICA = "READONLY: it is a replica, not the master"
_ACCESS = "AUTH: the user or password in redis.url is wrong, missing or not expected"
_PERMISSION = "NOPERM: its user may not use a command or a key of the gateway"
_LOADING = "LOADING: it has just started and is reading its data"
_CLUSTER = "it is a cluster, which is not supported"
_LATE = "no answer in time"


class MasterError(errors.ConnectionError):
    """The master behind Sentinels cannot be used. The text is a reason for an operator."""


class NoTlsAnswerError(errors.TimeoutError):
    """The handshake was not answered, as by a Redis that expects no TLS."""


def _untrusted(error: BaseException) -> str:
    # The rest of the text names the host.
    why = getattr(error, "verify_message", "").partition(" for ")[0]
    return f"TLS: its certificate is not trusted{why and f': {why}'}"


def _handshake(error: BaseException) -> str:
    why = (getattr(error, "reason", None) or "").lower().replace("_", " ")
    hint = ", as from a Redis without TLS" if why == "wrong version number" else ""
    return f"TLS: the handshake failed{why and f': {why}'}{hint}"


_CLASSES: tuple[tuple[type[BaseException], str | Callable[[BaseException], str]], ...] = (
    (errors.OutOfMemoryError, _FULL),
    (errors.ReadOnlyError, _REPLICA),
    (errors.AuthenticationError, _ACCESS),
    (errors.NoPermissionError, _PERMISSION),
    (errors.BusyLoadingError, _LOADING),
    (errors.InvalidResponse, "its answer is not that of a Redis: another server listens there"),
    (MasterNotFoundError, "no Sentinel names the master"),
    (MasterError, str),
    (socket.gaierror, "DNS: the host name in redis.url cannot be resolved"),
    (ssl.SSLCertVerificationError, _untrusted),
    (ssl.SSLError, _handshake),
    (ConnectionRefusedError, "connection refused: no server listens there"),
    (PermissionError, "the Unix socket in redis.url may not be opened by the user of this process"),
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
    "CLUSTERDOWN": _CLUSTER,
    "CROSSSLOT": _CLUSTER,
    "protected mode": "it is in protected mode: without a password, it refuses other machines",
    "BUSY Redis": "BUSY: a script of another program runs for too long",
    "No such master": "No such master with that name",
    "WRONGTYPE": "WRONGTYPE: another program has keys of the same names in this database",
    "closed by server": "it closed the connection: it restarts, or is a Redis that expects TLS",
    "reset by peer": "it broke the connection: it restarts, or does not accept this machine",
}
"""Words in the messages of errors that have no class of their own, or come from a script."""


def trouble(error: BaseException) -> str:
    """Describe why Redis cannot be used, given the error of a client."""
    for cause in _causes(error):
        for kind, reason in _CLASSES:
            if isinstance(cause, kind):
                return reason if isinstance(reason, str) else reason(cause)
    for word, text in _WORDS.items():
        if isinstance(error, errors.RedisError) and word in str(error):
            return text
    if isinstance(error, errors.ConnectionError | OSError):
        return "the connection failed"
    return f"it refused a command: {_code(error)}"


def _code(error: BaseException) -> str:
    """Return the word in capitals with which Redis begins an error."""
    if found := re.match(r"[A-Z]{2,30}\b", str(error)):
        return found[0]
    return "ERR" if isinstance(error, errors.ResponseError) else type(error).__name__


def note_address(error: BaseException, address: str) -> None:
    """Note the address of the server at an error that it, or the way to it, has caused."""
    if not getattr(error, "__notes__", None):
        error.add_note(address)


def address_of(error: BaseException) -> dict[str, str]:
    """Return the address that was noted at an error, as a field for the log."""
    for cause in _causes(error):
        for note in getattr(cause, "__notes__", ()):
            return {"address": note}
    return {}


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and those that it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
