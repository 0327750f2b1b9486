"""Warning for a gateway that only takes gateway keys, of which Redis has none."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from settings.client_access import ClientAccess
from wire.redis.outage import REDIS_ERRORS

logger = logging.getLogger(__name__)

INTERVAL = 10.0
"""Seconds between two looks."""

WARNING = (
    "no gateway key has been issued in this Redis, so every request is refused; issue one with"
    " `python -m app keys new NAME`, or restore a backup with `python -m app keys import`"
)


class NoKeys:
    """Looks for gateway keys if no other ones are admitted; `count` returns their number."""

    def __init__(self, access: ClientAccess, count: Callable[[], Awaitable[int]]) -> None:
        self._access = access
        self._count = count

    @property
    def note(self) -> str:
        """A warning about the settings, or empty."""
        return self._access.note

    async def warning(self) -> str:
        """Return the warning, or "". Raises `REDIS_ERRORS` if Redis cannot be used."""
        if not self._access.needs_gateway_keys or await self._count():
            return ""
        return WARNING

    async def keep_logging(self) -> None:
        """Log the warning whenever it begins to apply, forever."""
        logged = False
        while True:
            with contextlib.suppress(*REDIS_ERRORS):
                applies = bool(await self.warning())
                if applies and not logged:
                    logger.warning(WARNING, extra={"event": "no_gateway_keys"})
                logged = applies
            await asyncio.sleep(INTERVAL)
