"""The HTTP session to the upstream, through the operator's proxy if there is one."""

from __future__ import annotations

import aiohttp
import yarl
from aiohttp_socks import ProxyConnectionError, ProxyConnector, ProxyError, ProxyTimeoutError

_KEEPALIVE = 15.0


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


def open_session(proxy: str = "") -> aiohttp.ClientSession:
    """A session for `Pandora`, to be closed by the caller.

    Without cookies, since one client's must not reach another's conversation, and without a limit
    of connections, since the line above decides how many conversations there are.

    `proxy` is `http://` or `socks5://`, with user and password if it wants them, or "" for none.
    All that the session does goes through it. A SOCKS proxy looks up names itself.
    """
    connector: aiohttp.BaseConnector
    hop: yarl.URL | None = None
    if proxy.startswith("socks"):
        # `socks5h` is what others call a proxy that looks up names; this library always does.
        url = "socks5" + proxy[proxy.index("://") :]
        connector = _SocksConnector.from_url(url, limit=0, keepalive_timeout=_KEEPALIVE)
    else:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE)
        hop = yarl.URL(proxy) if proxy else None
    return aiohttp.ClientSession(
        connector=connector,
        proxy=hop,
        cookie_jar=aiohttp.DummyCookieJar(),
        max_field_size=32 * 1024,  # Content-Security-Policy alone can pass the default of 8 KB
    )
