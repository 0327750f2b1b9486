"""Fetch client-supplied URLs without exposing the internal network (`runtime/public_connector`).

No proxy from the environment is used. A URL is part of a prompt, so it is never in a log line or
an error.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager

import aiohttp
import yarl

from app.files.urls import follow, parse_url
from runtime.public_connector import ForbiddenAddressError, public_connector
from settings.networks import Network

MAX_REDIRECTS = 5

LONGEST_URL = 64 * 1024
"""Characters. Servers accept far less, and parsing a very long URL would block the event loop."""

_HEADERS = {
    # Some hosts refuse clients without a User-Agent.
    "User-Agent": "Mozilla/5.0 (compatible; pandora-line)",
    "Accept": "*/*",
    "Accept-Encoding": "identity",  # content that grows when it is decompressed has no known size
}
_INVALID_URL = (
    "The URL of the file is invalid. It must begin with `http://`, `https://` or `data:`."
)
_FILENAME = re.compile(
    r"""filename\*?\s*=(?P<name>[^;]*?\.\w{1,10})["'\s]*(?:;|$)""", re.IGNORECASE
)
_REDIRECTS = (301, 302, 303, 307, 308)


class FetchError(Exception):
    """The URL cannot be fetched. The text is for the client and contains no address."""


class Fetched:
    """A response whose body has not been read.

    `type` is its media type without parameters, `name` the file name that the server gives it, of
    which only the extension is of use, and `in_url` the one in its URL; "" if there is none.
    """

    def __init__(self, response: aiohttp.ClientResponse, url: yarl.URL) -> None:
        named = _FILENAME.search(response.headers.get("Content-Disposition", "")[:1000])
        self.name = named["name"] if named else ""
        self.in_url = url.name
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
        with public_connector(self._allowed) as connector:
            async with aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None),
                max_field_size=32 * 1024,
            ) as self._session:
                yield

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
            location = parse_url(url)
            for _ in range(1 + MAX_REDIRECTS):
                async with self._session.get(
                    location, headers=_HEADERS, allow_redirects=False
                ) as response:
                    if response.status not in _REDIRECTS:
                        _check(response)
                        yield Fetched(response, location)
                        return
                    location = follow(location, response.headers.get("Location", ""))
        raise FetchError("The file could not be fetched: there were too many redirects.")


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
    except aiohttp.InvalidURL:
        raise FetchError(_INVALID_URL) from None
    except (aiohttp.ClientError, OSError) as error:
        raise FetchError(f"The file could not be fetched: {_reason(error)}.") from None
    except ValueError:
        raise FetchError(_INVALID_URL) from None


def _reason(error: aiohttp.ClientError | OSError) -> str:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    match error, cause:
        case (aiohttp.ClientConnectorDNSError(), _) | (_, ForbiddenAddressError()):
            # One wording for both, which does not tell which names the internal network knows.
            return (
                "its host does not exist, or its address is not public (the operator can allow"
                " networks with files.allow_networks)"
            )
        case (aiohttp.ClientConnectorCertificateError(), _) | (_, ssl.SSLCertVerificationError()):
            return "the TLS certificate of its server is not valid"
        case (aiohttp.ClientSSLError(), _) | (_, ssl.SSLError()):
            return "its server and the gateway could not agree on a TLS connection"
        case (_, ConnectionRefusedError()):
            return "its server refused the connection"
        case (aiohttp.ClientConnectorError(), _) if not isinstance(cause, ConnectionError):
            return "its server is unreachable"
        case (aiohttp.ClientResponseError(), _):
            return "its server did not respond in HTTP"
        case _:
            return f"its server broke off the connection ({type(error).__name__})"
