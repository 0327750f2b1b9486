"""Watches the version of the data in Redis: roles of different versions must not share them.

A role may start while Redis is unreachable, and Redis may return with other data than before, or
lose them while it runs.
"""

from __future__ import annotations

import asyncio
import contextlib

from wire.line.upkeep import UpkeepLine
from wire.redis.outage import REDIS_ERRORS


async def keep_version(line: UpkeepLine, interval: float) -> None:
    """Check the version every `interval` seconds, forever; note it in a Redis that has lost it.

    Raises:
        WrongVersionError: the data are of another version, so this process must end.
    """
    while True:
        # Other tasks log that Redis is unreachable.
        with contextlib.suppress(*REDIS_ERRORS):
            await line.check_version()
        await asyncio.sleep(interval)
