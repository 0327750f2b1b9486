"""Ends the jobs of revoked gateway keys. All front ends take part; the first one ends a job.

A key stays listed as revoked until it has no job any more: one that runs may wait once more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from wire.keyring import Keyring, identity
from wire.line.upkeep import UpkeepLine
from wire.redis.outage import REDIS_ERRORS
from wire.seal import Seal
from wire.stream.endings import KEY_REVOKED, finish_waiting

logger = logging.getLogger(__name__)

INTERVAL = 0.5
"""Seconds between two looks for revoked keys."""


async def keep_ending_revoked(
    line: UpkeepLine, seal: Seal, keyring: Keyring, *, ends_running: bool
) -> None:
    """Look for revoked keys again and again, forever. `ends_running`: running jobs have to end."""
    while True:
        # The next call does the work; other tasks log that Redis is unreachable.
        with contextlib.suppress(*REDIS_ERRORS):
            for id in await keyring.revoked():
                if not await end_jobs(line, seal, id, ends_running=ends_running):
                    await keyring.forget_revoked(id)
        await asyncio.sleep(INTERVAL)


async def end_jobs(line: UpkeepLine, seal: Seal, id: str, *, ends_running: bool) -> int:
    """End the waiting jobs of a gateway key, and perhaps the running ones.

    Returns the number of jobs that it had, of which some may end later.
    """
    key = seal.name("account", identity(id))
    others, waiting = await line.revoke(key, ends_running=ends_running)
    ended = [await finish_waiting(line, seal, *job, KEY_REVOKED) for job in waiting]
    if any(ended):
        logger.info(
            "waiting jobs of a revoked key were ended",
            extra={"event": "jobs_of_revoked_key_ended", "key": id, "jobs": sum(ended)},
        )
    return others + len(waiting)
