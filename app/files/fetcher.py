"""Fetch client-supplied URLs without exposing the internal network (SSRF guard).

The guard is where a socket is created: it checks the very address that is then connected to, for
every name, every literal address in any spelling, every redirect, and every name server that gives
a different answer the second time (DNS rebinding). Nothing is resolved beforehand, and no proxy
from the environment is used.

A URL is part of a prompt, so it is never in a log line or an error.
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

from app.files.ssrf_guard import may_connect
from settings.networks import Network

MAX_REDIRECTS = 5

LOOKUPS = 16
"""Names that are resolved at the same time."""

LOOKUP_PATIENCE = 10.0
"""Seconds that resolving a name may take, including the wait for a thread."""

LONGEST_URL = 64 * 1024
"""Characters. Servers accept far less, and parsing a very long URL would block the event loop."""

_HEADERS = {
    # Some hosts refuse clients without a User-Agent.
    "User-Agent": "Mozilla/5.0 (compatible; pandora-line)",
    "Accept": "*/*",
    "Accept-Encoding": "identity",  # content that grows when it is decompressed has no known size
}
_WRONG_SCHEME = "The URL of the file must begin with `http://`, `https://` or `data:`."
_REDIRECTS = (301, 302, 303, 307, 308)


class FetchError(Exception):
    """The URL cannot be fetched. The text is for the client and contains no address."""


class _ForbiddenAddressError(OSError):
    """Clients may not reach this address through us."""


class Fetched:
    """A response whose body has not been read: its media type without parameters, "" if none."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        self.size = response.content_length
        """Bytes, if the server declares them."""
        self._content = response.content

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives.

        Raises:
            FetchError: it is incomplete.
        """
        with _failing():
            async for piece in self._content.iter_any():
                yield piece


class Fetcher:
    """Fetches from public addresses and from the `allowed` networks.

    Sets no deadline. Works only inside its `running` context.
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
            limit=0,  # a request fetches one file at a time; slow servers must not delay others
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
        """Fetch a client-supplied URL, following a few redirects.

        Raises:
            FetchError: the server refuses, cannot be reached, or its address is not allowed.
        """
        assert self._session is not None, "the fetcher is not running"  # noqa: S101
        if len(url) > LONGEST_URL:
            raise FetchError(f"The URL of the file is longer than {LONGEST_URL} characters.")
        with _failing():
            location = yarl.URL(url)
            for _ in range(1 + MAX_REDIRECTS):
                if location.scheme not in ("http", "https") or not location.host:
                    raise FetchError(_WRONG_SCHEME)
                async with self._session.get(
                    location, headers=_HEADERS, allow_redirects=False
                ) as response:
                    if response.status not in _REDIRECTS:
                        _check(response)
                        yield Fetched(response)
                        return
                    location = location.join(yarl.URL(response.headers.get("Location", "")))
        raise FetchError("The file could not be fetched: there were too many redirects.")

    def _socket(self, to: tuple[Any, ...]) -> socket.socket:
        """Create the socket that will be connected to an address in the form of `getaddrinfo`."""
        family, kind, protocol, _, address = to
        if not may_connect(str(address[0]), self._allowed):
            # With the same text for every address of a name, aiohttp raises this very error.
            raise _ForbiddenAddressError("not public")
        return socket.socket(family, kind, protocol)


class _Resolver(AbstractResolver):
    """Resolves names in threads of its own.

    A name server chosen by a client may be arbitrarily slow. The loop's own threads are few, and
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
        # Not the deadline of the fetch: aiohttp continues to resolve after the fetch is cancelled.
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
        """Do nothing: the threads belong to the fetcher."""


def _check(response: aiohttp.ClientResponse) -> None:
    if response.status != 200:
        raise FetchError(
            f"The file could not be fetched: its server responded with {response.status}."
        )
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise FetchError("The file could not be fetched: its server compressed the response.")


@contextmanager
def _failing() -> Iterator[None]:
    """Translate network errors to FetchError, without a cause: their messages contain addresses."""
    try:
        yield
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, _ForbiddenAddressError):
            raise FetchError(
                "The file was not fetched: its address is not public; the operator can allow it"
                " with files.allow_networks."
            ) from None
        raise FetchError("The file could not be fetched: its server is unreachable.") from None
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
        raise FetchError(_WRONG_SCHEME) from None
    except (aiohttp.ClientError, OSError) as error:
        raise FetchError(f"The file could not be fetched ({type(error).__name__}).") from None
    except ValueError:
        raise FetchError("The URL of the file is invalid.") from None
