"""Sweeping: expired objects are removed from the store at regular intervals."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from store.objects import StoreError

logger = logging.getLogger(__name__)


async def keep_sweeping(sweep: Callable[[], Awaitable[int]], subject: str, interval: float) -> None:
    """Run `sweep` at once and then every `interval` seconds, forever. `subject` is for the log."""
    while True:
        try:
            if removed := await sweep():
                logger.info(
                    "removed expired objects from the media store",
                    extra={"event": "media_swept", "what": subject, "removed": removed},
                )
        except StoreError as error:
            logger.warning(
                "expired objects could not be removed from the media store",
                extra={"event": "media_not_swept", "reason": str(error)},
            )
        await asyncio.sleep(interval)
