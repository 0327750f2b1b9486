"""Connections through the operator's SOCKS proxy."""

from __future__ import annotations

import aiohttp
from aiohttp_socks import (
    ProxyConnectionError,
    ProxyConnector,
    ProxyError,
    ProxyTimeoutError,
    ProxyType,
)

from settings.urls import ProxyUrl
from workers.http.trouble import ProxyFailedError, system_words


def socks_connector(proxy: ProxyUrl, keepalive: float) -> aiohttp.BaseConnector:
    """Return a connector that goes by a SOCKS proxy, with no limit of connections."""
    connector = _SocksConnector(
        host=proxy.host,
        port=proxy.port,
        proxy_type=ProxyType.SOCKS5,
        username=proxy.access.username,
        password=proxy.access.password,
        limit=0,
        keepalive_timeout=keepalive,
    )
    connector.address = f"{proxy.host}:{proxy.port}"
    return connector


class _SocksConnector(ProxyConnector):
    """Fails as aiohttp does. The library's own error is of no kind that its callers catch."""

    address = ""
    """The proxy's host and port."""

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[aiohttp.tracing.Trace],
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.connector.Connection:
        try:
            return await super().connect(req, traces, timeout)
        except ProxyConnectionError as error:
            words = system_words(error.__cause__)
            message = f"the SOCKS proxy {self.address} cannot be connected to: {words}"
            raise ProxyFailedError(message) from None
        except ProxyTimeoutError:
            raise ProxyFailedError(
                f"the SOCKS proxy {self.address} did not answer in time"
            ) from None
        except ProxyError as error:
            raise ProxyFailedError(f"the SOCKS proxy failed: {error}") from None
