"""The HTTP session to the upstream, through the operator's proxy if there is one."""

from __future__ import annotations

from collections.abc import Sequence

import aiohttp
import yarl

from settings.urls import ProxyUrl

KEEPALIVE = 15.0
"""Seconds that an idle connection is kept."""


def open_session(
    proxy: ProxyUrl | None = None,
    connector: aiohttp.BaseConnector | None = None,
    *,
    keepalive: float = KEEPALIVE,
    traces: Sequence[aiohttp.TraceConfig] = (),
) -> aiohttp.ClientSession:
    """Open a session for one upstream, to be closed by the caller.

    All its calls go through `proxy`, or by `connector` if that is given. It has no cookies, since
    one client's must not reach another's conversation, and no limit of connections, since the line
    decides how many conversations there are. `keepalive`: seconds that an idle connection is kept.
    """
    http_proxy: yarl.URL | None = None
    if connector is not None:
        pass
    elif proxy and proxy.scheme == "socks5":
        from workers.http.socks import socks_connector  # here: most workers start without

        connector = socks_connector(proxy, keepalive)
    else:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=keepalive)
        if proxy:
            http_proxy = yarl.URL.build(
                scheme=proxy.scheme,
                user=proxy.access.username,
                password=proxy.access.password,
                host=proxy.host,
                port=proxy.port,
            )
    return aiohttp.ClientSession(
        connector=connector,
        proxy=http_proxy,
        trace_configs=list(traces),
        cookie_jar=aiohttp.DummyCookieJar(),
        max_field_size=32 * 1024,  # Content-Security-Policy alone can pass the default of 8 KB
    )
