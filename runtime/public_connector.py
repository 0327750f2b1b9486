"""Connections to public addresses alone, for URLs that a stranger supplies (SSRF guard).

The guard is where a socket is created: it checks the very address that is then connected to, for
every name, every literal address in any spelling, every redirect, and every name server that gives
a different answer the second time (DNS rebinding). Nothing is resolved beforehand.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from runtime.ssrf_guard import may_connect
from settings.networks import Network

LOOKUPS = 16
"""Names that are resolved at the same time."""

LOOKUP_PATIENCE = 10.0
"""Seconds that resolving a name may take, including the wait for a thread."""


class ForbiddenAddressError(OSError):
    """Strangers may not reach this address through us."""

    def __init__(self) -> None:
        # With the same text for every address of a name, aiohttp raises this very error.
        super().__init__("not public")


@contextmanager
def public_connector(allowed: Iterable[Network] = ()) -> Iterator[aiohttp.TCPConnector]:
    """A connector for a session, to public addresses and those in the `allowed` networks.

    A forbidden address is a `ClientConnectorError` with a ForbiddenAddressError as its `os_error`.
    """
    threads = ThreadPoolExecutor(LOOKUPS, "names")
    networks = tuple(allowed)
    try:
        yield aiohttp.TCPConnector(
            force_close=True,
            socket_factory=lambda to: _guarded_socket(to, networks),
            resolver=_Resolver(threads),
            ssl=_tls(),
            limit=0,  # slow servers must not delay others
        )
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def _guarded_socket(to: tuple[Any, ...], allowed: tuple[Network, ...]) -> socket.socket:
    """Create the socket that will be connected to an address in the form of `getaddrinfo`."""
    family, kind, protocol, _, address = to
    if not may_connect(str(address[0]), allowed):
        raise ForbiddenAddressError
    return socket.socket(family, kind, protocol)


def _tls() -> ssl.SSLContext:
    """Certificates are checked as by default, and ciphers are those that browsers and curl accept.

    Python's own list leaves out the RSA key exchange, all that some picture hosts offer.
    """
    context = ssl.create_default_context()
    context.set_ciphers("DEFAULT:@SECLEVEL=2")
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


class _Resolver(AbstractResolver):
    """Resolves names in threads of its own.

    A name server chosen by a stranger may be arbitrarily slow. The loop's own threads are few, and
    resolve the address of Redis.
    """

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        look_up = partial(
            socket.getaddrinfo,
            host,
            port,
            family=family,
            type=socket.SOCK_STREAM,
            flags=socket.AI_ADDRCONFIG,
        )
        # Not the deadline of the caller: aiohttp continues to resolve after that is cancelled.
        try:
            async with asyncio.timeout(LOOKUP_PATIENCE):
                found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        except TimeoutError:
            raise OSError("no name server answered in time") from None
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Do nothing: the threads belong to the connector's context."""
