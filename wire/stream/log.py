"""A job's log: its events, sealed, for readers that missed them on the channel.

Written in coarser steps than the channel, and always before the ending is published (in the same
script). Only one attempt of a job ever publishes, so a log never mixes two. A log that would become
longer than `settings.queue.max_log_bytes` gets no more events, and its job is marked `unlogged`;
only the ending is still added.
"""

from __future__ import annotations

from typing import NamedTuple

from wire.events import Batch, decode_frame, encode_frame
from wire.line import keys
from wire.seal import Seal
from wire.stream.channel import Channel

PAGE = 100
"""Entries read per call, so that a long answer does not block the event loop."""


def seal_entry(seal: Seal, batch: Batch) -> bytes:
    """Seal a batch as an entry of its job's log."""
    return seal.seal(encode_frame([batch]), keys.log(batch.job))


class Entry(NamedTuple):
    """A batch from a log; `read` continues behind it with its `position` as `after`."""

    position: str
    batch: Batch


async def read(channel: Channel, seal: Seal, job: str, after: str = "") -> list[Entry]:
    """Read the next `PAGE` of a job's log after a position, or from its start; oldest first.

    Raises:
        SealError: an entry is damaged, or was sealed with another secret.
        msgspec.MsgspecError: an entry has the format of another version.
        redis.RedisError, OSError: Redis is unreachable (`REDIS_ERRORS`).
    """
    return [
        Entry(position, batch)
        for position, entry in await channel.read(job, after, PAGE)
        for batch in decode_frame(seal.open(entry, keys.log(job)))
    ]
