"""Failures of the network, in one form that shows nothing of an address or a header."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp

from runtime.public_connector import ForbiddenAddressError
from wire.events import Failed
from workers.http.trouble import PROXY_LOGIN, ProxyFailedError, proxy_trouble, trouble
from workers.upstream import UpstreamError

UNREACHABLE = Failed(
    "upstream_down", "The upstream could not be reached. Retry the request.", "upstream_unreachable"
)


class UnreachableError(UpstreamError):
    """The server could not be reached, sent no response, or was too slow.

    `forbidden`: the upstream referred to an address that is not public. `broken`: the connection
    was there, and broke before a response.

    `reason` is the exception's name, which clients may see in a code; `detail` is the whole reason
    with the address, for the log alone.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(UNREACHABLE, passing=True)
        cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
        self.forbidden = isinstance(cause, ForbiddenAddressError)
        self.reason = type(cause if self.forbidden else error).__name__
        self.timed_out = isinstance(error, TimeoutError)
        self.broken = isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError))
        self.detail = trouble(error)


def passed(response: aiohttp.ClientResponse) -> aiohttp.ClientResponse:
    """Return a response, unless it is the refusal of the operator's proxy. Within `reaching`."""
    if response.status == PROXY_LOGIN:
        response.close()
        raise ProxyFailedError(proxy_trouble(response.status))
    return response


@contextmanager
def reaching() -> Iterator[None]:
    """Translate failures of the network to UnreachableError, without a cause: see there."""
    try:
        yield
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise UnreachableError(error) from None
