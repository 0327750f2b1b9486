"""Limits of the open connections of one front-end process, so that a few clients cannot use up all.

A connection either waits for a request (until its last byte) or serves one. When there are as many
as the limit, a new connection takes the place of the oldest of those that wait: so thousands
of clients that send nothing, or a byte now and then, keep nobody out. If all of them serve a
request, the new one is refused.
"""

from __future__ import annotations

import logging
import resource
import time
from collections import Counter
from collections.abc import Callable, Sequence

import settings
from app.http.address import address_name, is_in, parse_address
from settings.networks import Network

logger = logging.getLogger(__name__)

RESERVE = 400
"""File descriptors that are kept for other things: Redis, fetches, files, libraries."""

FEWEST = 16
"""Connections that are accepted however few descriptors there are."""

_LOG_INTERVAL = 10.0


class Connection:
    """One open connection. `close` ends it at once."""

    __slots__ = ("address", "close")

    def __init__(self, address: str, close: Callable[[], None]) -> None:
        self.address = address
        self.close = close


class Connections:
    """Open connections: at most `limit` in all, and `per_address` of each address (0: any number).

    The addresses in `proxies` are not limited on their own.
    """

    def __init__(self, limit: int, per_address: int, proxies: Sequence[Network]) -> None:
        self._limit = limit
        self._per_address = per_address
        self._proxies = proxies
        self._of_address: Counter[str] = Counter()
        self._open: set[Connection] = set()
        self._waiting: dict[Connection, None] = {}  # the oldest first
        self._logged = -_LOG_INTERVAL

    def __len__(self) -> int:
        """Return the number of open connections."""
        return len(self._open)

    def open(self, peer: object, close: Callable[[], None]) -> Connection | None:
        """Count a new connection; None if it is refused. `peer` is the socket's own name for it."""
        address = self._name(peer)
        if address and self._of_address[address] >= self._per_address > 0:
            self._log("connections of one address are refused", "address_refused", address)
            return None
        if len(self._open) >= self._limit:
            if not self._waiting:
                self._log("connections are refused", "connections_refused", address)
                return None
            self._log("connections without a request are closed", "connections_closed", address)
            oldest = next(iter(self._waiting))
            self.remove(oldest)
            oldest.close()
        connection = Connection(address, close)
        self._open.add(connection)
        self._of_address[address] += 1
        self.waits(connection)
        return connection

    def waits(self, connection: Connection) -> None:
        """Note that a connection waits for its next request."""
        if connection in self._open:
            self._waiting.pop(connection, None)
            self._waiting[connection] = None

    def serves(self, connection: Connection) -> None:
        """Note that a connection has received a whole request."""
        self._waiting.pop(connection, None)

    def remove(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        if connection in self._open:
            self._open.remove(connection)
            self._waiting.pop(connection, None)
            self._of_address[connection.address] -= 1
            if not self._of_address[connection.address]:
                del self._of_address[connection.address]

    def _name(self, peer: object) -> str:
        """The address that is counted, or "" for one without a limit of its own."""
        match peer:
            case (str(host), *_):
                address = parse_address(host)
            case _:
                return ""  # a Unix socket
        return "" if address is None or is_in(address, self._proxies) else address_name(address)

    def _log(self, sentence: str, event: str, address: str) -> None:
        now = time.monotonic()
        if now - self._logged >= _LOG_INTERVAL:
            self._logged = now
            fields = {"event": event, "open": len(self._open), "address": address or "any"}
            logger.warning("%s: too many are open", sentence, extra=fields)


def limited_connections(server: settings.Server) -> Connections:
    """Make the limits of the settings, below the number of descriptors that the system allows."""
    limit = min(server.max_connections, _descriptors(server.max_connections + RESERVE) - RESERVE)
    limit = max(limit, FEWEST)
    if limit < server.max_connections:
        logger.warning(
            "server.max_connections is lowered, since the system allows no more open files",
            extra={"event": "connections_lowered", "max_connections": limit},
        )
    return Connections(limit, server.max_connections_per_address, server.proxies)


def _descriptors(wanted: int) -> int:
    """Raise the limit of open files to the wanted one, as far as possible; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    except (ValueError, OSError):  # macOS has a lower limit of its own
        return soft
    return raised
