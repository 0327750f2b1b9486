"""Failures of the network, in one form that shows nothing of an address or a header."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp

from runtime.public_connector import ForbiddenAddressError
from wire.events import Failed
from workers.upstream import UpstreamError

UNREACHABLE = Failed(
    "upstream_down", "The upstream could not be reached. Retry the request.", "upstream_unreachable"
)


class UnreachableError(UpstreamError):
    """The server could not be reached, sent no response, or was too slow.

    `forbidden`: the upstream referred to an address that is not public. `broken`: the connection
    was there, and broke before a response.

    `reason` is the exception's name and `detail` adds the system's own words. Nothing else of it is
    safe to show: the text names the address, and some quote the request's headers.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(UNREACHABLE, passing=True)
        self.reason = type(error).__name__
        self.timed_out = isinstance(error, TimeoutError)
        self.forbidden = isinstance(error, ForbiddenAddressError)
        self.broken = isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError))
        strerror = error.strerror if isinstance(error, OSError) else None
        self.detail = f"{self.reason} ({strerror})" if strerror else self.reason


@contextmanager
def reaching() -> Iterator[None]:
    """Translate failures of the network to UnreachableError, without a cause: see there."""
    try:
        yield
    except aiohttp.ClientConnectorError as error:
        forbidden = isinstance(error.os_error, ForbiddenAddressError)
        raise UnreachableError(error.os_error if forbidden else error) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise UnreachableError(error) from None
