"""Arkose tokens: proofs that a browser is at work, which the upstream may require for GPT-4.

A token is valid for one request, so each request fetches its own.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec
import yarl

from wire.events import Failed
from workers.http.unreachable import UnreachableError
from workers.pandora.backend import Backend
from workers.pandora.json_decoding import decode_json
from workers.upstream import UpstreamError

TIMEOUT = 10.0
"""Seconds for one server to return a token, before the next one is asked."""

logger = logging.getLogger(__name__)


class _Token(msgspec.Struct, frozen=True):
    token: str = ""


class ArkoseServers:
    """Servers that offer Pandora-Next's `/api/arkose/token` below each of `urls`."""

    def __init__(self, backend: Backend, urls: Sequence[str], timeout: float = TIMEOUT) -> None:
        self._backend = backend
        self._urls = [str(yarl.URL(f"{url}/api/arkose/token")) for url in urls]
        self._timeout = timeout

    async def token(self) -> str:
        """Fetch a token from the first server, in order, that returns one.

        Raises:
            UpstreamError: none of them does.
        """
        for number, url in enumerate(self._urls, 1):
            try:
                if token := await self._fetch(url):
                    return token
                reason = "no token"
            except UnreachableError as error:
                reason = error.detail
            # The address is not logged: a prefix in it may be a secret.
            logger.warning(
                "a server of arkose.urls returned no token",
                extra={"event": "arkose_refused", "number": number, "reason": reason},
            )
        message = "This model requires an Arkose token, and none could be fetched."
        raise UpstreamError(Failed("upstream_error", message, "arkose_unavailable"))

    async def _fetch(self, url: str) -> str:
        response = await self._backend.call(
            "POST", url, form={"type": "gpt-4"}, timeout=self._timeout
        )
        if response.status != 200 or response.flaw:
            return ""
        decoded = decode_json(response.body, _Token)
        token = decoded.token if decoded else ""
        # It is sent in a header.
        return token if token.isascii() and token.isprintable() else ""
