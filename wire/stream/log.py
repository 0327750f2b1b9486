"""A job's log: its events in a Redis Stream, for readers that missed them on the channel.

Written in coarser steps than the channel, and always before the ending is published (in the same
script). Only one attempt of a job ever publishes, so a log never mixes two. A log that would become
longer than `settings.queue.max_log_bytes` is written no further, and its job is marked `unlogged`;
only the ending is still added.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from wire.events import Batch, decode_frame, encode_frame
from wire.line import keys
from wire.redis.client import Redis
from wire.seal import Seal

PAGE = 100
"""Entries that are read at once: a long answer must not block the loop of its reader."""


def seal_entry(seal: Seal, batch: Batch) -> bytes:
    """Seal a batch as an entry of its job's log."""
    return seal.seal(encode_frame([batch]), keys.log(batch.job))


async def append(redis: Redis, entries: Mapping[str, bytes]) -> None:
    """Write one sealed entry to the log of each of these jobs, all in one round trip."""
    async with redis.pipeline(transaction=False) as pipe:
        for job, entry in entries.items():
            # Never creates a log: `WorkerLine.begin` did, with a lifetime, and a log that has
            # expired since must not be created again without one.
            pipe.xadd(keys.log(job), {"box": entry}, nomkstream=True)
        await pipe.execute()


class Entry(NamedTuple):
    """A batch from a log. `at` is its position there."""

    at: str
    batch: Batch


async def read(redis: Redis, seal: Seal, job: str, after: str = "") -> list[Entry]:
    """Read the next `PAGE` of a job's log after a position, or from its start; oldest first."""
    key = keys.log(job)
    entries = await redis.xrange(key, f"({after}" if after else "-", count=PAGE)
    return [
        Entry(at.decode(), batch)
        for at, fields in entries
        for batch in decode_frame(seal.open(fields[b"box"], key))
    ]
