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


def socks_connector(proxy: ProxyUrl, keepalive: float) -> aiohttp.BaseConnector:
    """Return a connector that goes by a SOCKS proxy, with no limit of connections."""
    return _SocksConnector(
        host=proxy.host,
        port=proxy.port,
        proxy_type=ProxyType.SOCKS5,
        username=proxy.access.username,
        password=proxy.access.password,
        limit=0,
        keepalive_timeout=keepalive,
    )


class _SocksConnector(ProxyConnector):
    """Fails as aiohttp does. The library's own error is of no kind that its callers catch."""

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[aiohttp.tracing.Trace],
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.connector.Connection:
        try:
            return await super().connect(req, traces, timeout)
        except (ProxyError, ProxyConnectionError, ProxyTimeoutError):
            raise aiohttp.ClientConnectionError("the SOCKS proxy failed") from None
