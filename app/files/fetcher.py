"""Fetching what a client names by URL, without becoming the client's hand in our own network.

The guard stands where a socket is made: it sees the very address that is then connected to, for
every name, every literal address in whatever spelling, every redirect, and every answer of a name
server that says something else the second time. Nothing is looked up beforehand, and no proxy of
the environment is used.

A URL is part of a prompt, so it is in no log and in no error.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import aiohttp
import yarl
from aiohttp.abc import AbstractResolver, ResolveResult

from app.files.ssrf_guard import Network, may_connect

MAX_REDIRECTS = 5

LOOKUPS = 16
"""Names that are looked up at once."""

LOOKUP_PATIENCE = 10.0
"""Seconds that a name may take, its wait for one of the threads included."""

_HEADERS = {
    # Some hosts serve nobody who does not say what they are.
    "User-Agent": "Mozilla/5.0 (compatible; pandora-line)",
    "Accept": "*/*",
    "Accept-Encoding": "identity",  # what grows when it is unpacked has no size
}
_REDIRECTS = (301, 302, 303, 307, 308)


class FetchError(Exception):
    """Something cannot be fetched. The text is for the client and names no address."""


class _ForbiddenAddressError(OSError):
    """The address is not one that clients may reach through us."""


class Fetched:
    """An answer that has begun: its media type without parameters, "" if it names none."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        self.size = response.content_length
        """Bytes, if it says how many."""
        self._content = response.content

    async def pieces(self) -> AsyncIterator[bytes]:
        """The bytes, as they come.

        Raises:
            FetchError: they do not all come.
        """
        with _failing():
            async for piece in self._content.iter_any():
                yield piece


class Fetcher:
    """Fetches from public addresses, and from the networks that are `allowed`.

    Sets no deadline. It is a context, in which alone it works.
    """

    def __init__(self, allowed: Iterable[Network] = ()) -> None:
        self._allowed = tuple(allowed)
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work for as long as the context lasts."""
        threads = ThreadPoolExecutor(LOOKUPS, "names")
        connector = aiohttp.TCPConnector(
            force_close=True,
            socket_factory=self._socket,
            resolver=_Resolver(threads),
            limit=0,  # a request fetches one file at a time; slow servers must not hold up others
        )
        try:
            async with aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None),
                max_field_size=32 * 1024,
            ) as self._session:
                yield
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def open(self, url: str) -> AsyncIterator[Fetched]:
        """Ask for what is at a URL, by way of a few redirects.

        Raises:
            FetchError: it is not there, or we do not go there.
        """
        assert self._session is not None, "the fetcher is not running"  # noqa: S101
        with _failing():
            where = yarl.URL(url)
            for _ in range(1 + MAX_REDIRECTS):
                if where.scheme not in ("http", "https") or not where.host:
                    raise FetchError(
                        "The URL of a file is no http:// or https:// URL, and no data: URL."
                    )
                async with self._session.get(
                    where, headers=_HEADERS, allow_redirects=False
                ) as response:
                    if response.status not in _REDIRECTS:
                        _check(response)
                        yield Fetched(response)
                        return
                    where = where.join(yarl.URL(response.headers.get("Location", "")))
        raise FetchError("The file could not be fetched: it is redirected too often.")

    def _socket(self, to: tuple[Any, ...]) -> socket.socket:
        """A socket for an address as `getaddrinfo` describes it, which it will be connected to."""
        family, kind, protocol, _, address = to
        if not may_connect(str(address[0]), self._allowed):
            # The same words for each address of a name: so aiohttp raises this very error.
            raise _ForbiddenAddressError("not public")
        return socket.socket(family, kind, protocol)


class _Resolver(AbstractResolver):
    """Looks names up in threads of its own.

    A client's name may take its name server as long as that likes. The loop's own threads are few,
    and find Redis.
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
        # Not the fetch's own deadline: aiohttp goes on looking up when nobody wants it any more.
        try:
            async with asyncio.timeout(LOOKUP_PATIENCE):
                found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        except TimeoutError:
            raise OSError("no name server has answered in time") from None
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
        """Nothing to close."""


def _check(response: aiohttp.ClientResponse) -> None:
    if response.status != 200:
        raise FetchError(f"The file could not be fetched: its server answered {response.status}.")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise FetchError("The file could not be fetched: its server sends it compressed.")


@contextmanager
def _failing() -> Iterator[None]:
    """Errors of the network as ours. They name the address, and so are no cause."""
    try:
        yield
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, _ForbiddenAddressError):
            raise FetchError(
                "The file is not fetched: its address is not public, and the operator has not"
                " it (files.allow_networks)."
            ) from None
        raise FetchError("The file could not be fetched: its server cannot be reached.") from None
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
        raise FetchError(
            "The URL of a file is no http:// or https:// URL, and no data: URL."
        ) from None
    except (aiohttp.ClientError, OSError) as error:
        raise FetchError(f"The file could not be fetched ({type(error).__name__}).") from None
    except ValueError:
        raise FetchError("The URL of a file is no URL.") from None
