"""Reasons for which a server cannot be reached, in words for an operator, for the log alone.

The text of an error is not shown: some quote the headers of the request, or the proxy's password.
An address is that of a host, without a path, whose prefix may be a secret.
"""

from __future__ import annotations

import os
import socket
import ssl

import aiohttp
import yarl
from aiohttp.client_exceptions import ClientConnectorDNSError

from runtime.public_connector import ForbiddenAddressError

PROXY_LOGIN = 407
"""Status of a proxy that wants another user or password."""


class ProxyFailedError(aiohttp.ClientConnectionError):
    """The operator's proxy failed. The text is a reason for an operator."""


def trouble(error: BaseException) -> str:
    """Describe why no response came, given the error of a client."""
    match error:
        case aiohttp.ClientConnectorError():
            proxy = "proxy " if isinstance(error, aiohttp.ClientProxyConnectionError) else ""
            return f"{_connector(error)} ({proxy}{_address(error)})"
        case aiohttp.ClientHttpProxyError():
            return proxy_trouble(error.status)
        case ProxyFailedError():
            return str(error)
        case aiohttp.ConnectionTimeoutError():
            return "no connection in time (connect_timeout)"
        case aiohttp.SocketTimeoutError() | TimeoutError():
            return "connected, but no answer in time"
        case aiohttp.ServerDisconnectedError():
            return "it closed the connection without an answer, as a server does that expects TLS"
        case aiohttp.ClientPayloadError():
            return "it broke off its answer"
        case aiohttp.InvalidURL():
            return "its address is not a URL"
        case aiohttp.ClientResponseError():
            return "its answer is not HTTP"
        case OSError():
            return system_words(error)
        case _:
            return type(error).__name__


def proxy_trouble(status: int) -> str:
    """Describe why the operator's proxy did not let a request pass, given its answer."""
    if status == PROXY_LOGIN:
        return "the proxy refuses the user or password in its setting (407)"
    return f"the proxy cannot reach the server ({status})"


def system_words(error: BaseException | None) -> str:
    """Return the system's own words for an error; names have negative numbers, and their own."""
    number = getattr(error, "errno", None) or 0
    if number > 0:
        return os.strerror(number)
    return getattr(error, "strerror", None) or type(error).__name__


def host_of(url: yarl.URL) -> str:
    """Return the host and the port of a URL, for the log."""
    host = f"[{url.host}]" if ":" in (url.host or "") else url.host
    return f"{host}:{url.port}"


def _connector(error: aiohttp.ClientConnectorError) -> str:
    match error, error.os_error:
        case ClientConnectorDNSError(), _:
            return f"DNS: the host name cannot be resolved: {system_words(error.os_error)}"
        case _, socket.gaierror():
            return f"DNS: the host name cannot be resolved: {system_words(error.os_error)}"
        case _, ForbiddenAddressError():
            return "its address is not public (files.allow_networks)"
        case aiohttp.ClientConnectorCertificateError(), _:
            why = getattr(error.certificate_error, "verify_message", "")
            return f"TLS: its certificate is not trusted: {why}"
        case _, ssl.SSLCertVerificationError(verify_message=why):
            return f"TLS: its certificate is not trusted: {why}"
        case _, ssl.SSLError(reason=why):
            hint = ", as from a server without TLS" if why == "WRONG_VERSION_NUMBER" else ""
            return f"TLS: the handshake failed: {str(why).lower().replace('_', ' ')}{hint}"
        case _, ConnectionRefusedError():
            return "connection refused: no server listens there"
        case _:
            return f"it cannot be connected to: {system_words(error.os_error)}"


def _address(error: aiohttp.ClientConnectorError) -> str:
    return host_of(yarl.URL.build(scheme="http", host=error.host, port=error.port))
