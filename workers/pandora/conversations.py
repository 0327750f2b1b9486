"""What stays behind in an account: its history of conversations."""

from __future__ import annotations

import asyncio
import logging
from urllib.parse import quote

import aiohttp
import yarl

TIMEOUT = 10.0
"""Seconds that the upstream has to delete one conversation."""

_POOL = "pk-"

_log = logging.getLogger(__name__)


class History:
    """Asks under `root`, the upstream's URL up to `/backend-api`."""

    def __init__(self, session: aiohttp.ClientSession, root: str) -> None:
        self._session = session
        self._root = root

    async def delete(self, bearer: str, conversation_id: str) -> bool:
        """Delete a conversation as the web page does. Whether it is gone; raises nothing."""
        path = f"{self._root}/conversation/{quote(conversation_id, safe='')}"
        try:
            async with (
                asyncio.timeout(TIMEOUT),
                self._session.patch(
                    yarl.URL(path, encoded=True),
                    json={"is_visible": False},
                    headers={"Authorization": f"Bearer {bearer}"},
                    allow_redirects=False,
                ) as response,
            ):
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = type(error).__name__
        else:
            # A pool may have asked another of its accounts, which does not know it.
            if status == 200 or (status == 404 and not bearer.startswith(_POOL)):
                return True
            reason = f"http_{status}"
        _log.warning(
            "The upstream did not delete a conversation: %s",
            reason,
            extra={"event": "deletion_refused", "reason": reason},
        )
        return False
