"""Servers that an answer of the upstream refers to, for a download, an upload or a WebSocket.

A worker stands inside the operator's network, so it connects to public addresses alone, as a front
end does for a client's URLs, to the networks of `files.allow_networks`, and to the servers that the
settings name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import aiohttp
import yarl

from runtime.public_connector import ForbiddenAddressError, public_connector
from runtime.ssrf_guard import may_name
from settings import Settings
from settings.networks import Network
from workers.http.session import open_session


class Referrals:
    """Sessions for URLs: `own` for the servers of the settings, `public` for all others, if any."""

    def __init__(
        self,
        own: aiohttp.ClientSession,
        servers: Iterable[str],
        public: aiohttp.ClientSession | None = None,
        allowed: Iterable[Network] = (),
    ) -> None:
        self._own = own
        self._own_hosts = {yarl.URL(server).host for server in servers}
        self._public = public
        self._allowed = tuple(allowed)

    def session(self, url: yarl.URL) -> aiohttp.ClientSession:
        """Return the session to use for a URL.

        Raises:
            ForbiddenAddressError: the URL names an address that may not be reached.
        """
        if url.host in self._own_hosts:
            return self._own
        # Through a proxy this is the only check: it looks up names, and connects, by itself.
        if self._public is None or not may_name(url.host or "", self._allowed):
            raise ForbiddenAddressError
        return self._public


@asynccontextmanager
async def open_referrals(own: aiohttp.ClientSession, config: Settings) -> AsyncIterator[Referrals]:
    """The sessions that the settings require, besides the upstream's `own`."""
    servers = [config.upstream.require_base_url(), *config.arkose.urls]
    if config.media.use_pandora_file_server:
        servers.append(config.media.pandora_file_server)
    allowed = config.files.allow_networks
    if config.upstream.proxy:
        yield Referrals(own, servers, own, allowed)
        return
    with public_connector(allowed) as connector:
        async with open_session(connector=connector) as public:
            yield Referrals(own, servers, public, allowed)
