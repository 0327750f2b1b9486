"""Arkose tokens: proofs that a browser is at work, which the upstream may want for GPT-4.

Each is good for one request, so each request fetches its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import aiohttp
import msgspec

from wire.events import Failed
from workers.upstream import UpstreamError

TIMEOUT = 10.0
"""Seconds that one server has to give a token; then the next one is asked."""

_MAX_BYTES = 64 * 1024

_log = logging.getLogger(__name__)


class _Answer(msgspec.Struct, frozen=True):
    token: str = ""


class ArkoseServers:
    """Servers with Pandora-Next's `/api/arkose/token` below each of `urls`."""

    def __init__(
        self, session: aiohttp.ClientSession, urls: Sequence[str], timeout: float = TIMEOUT
    ) -> None:
        self._session = session
        self._urls = urls
        self._timeout = timeout

    async def token(self) -> str:
        """A token of the first server, in their order, that has one.

        Raises:
            UpstreamError: none of them has.
        """
        for number, url in enumerate(self._urls, 1):
            try:
                async with asyncio.timeout(self._timeout):
                    if token := await self._ask(url):
                        return token
                reason = "no token"
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                reason = type(error).__name__
            # Not its address: a prefix in it may be a secret.
            _log.warning(
                "Address %d of arkose.urls gave no token: %s",
                number,
                reason,
                extra={"event": "arkose_refused", "number": number, "reason": reason},
            )
        message = "No Arkose token could be had, which this model needs."
        raise UpstreamError(Failed("upstream_error", message, "arkose_unavailable"))

    async def _ask(self, url: str) -> str:
        async with self._session.post(
            f"{url}/api/arkose/token", data={"type": "gpt-4"}, allow_redirects=False
        ) as response:
            if response.status != 200:
                return ""
            body = b""
            async for data in response.content.iter_any():
                body += data
                if len(body) > _MAX_BYTES:
                    return ""
        token = msgspec.json.decode(body, type=_Answer).token
        # It goes into a header.
        return token if token.isascii() and token.isprintable() else ""
