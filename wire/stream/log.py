"""A job's log: its events, sealed, for readers that missed them on the channel.

Written in coarser steps than the channel, and always before the ending is published (in the same
script). Only one attempt of a job ever publishes, so a log never mixes two. A log that would become
longer than `settings.queue.max_log_bytes` is written no further, and its job is marked `unlogged`;
only the ending is still added.
"""

from __future__ import annotations

from typing import NamedTuple

from wire.events import Batch, decode_frame, encode_frame
from wire.line import keys
from wire.seal import Seal
from wire.stream.channel import Channel

PAGE = 100
"""Entries that are read at once: a long answer must not block the loop of its reader."""


def seal_entry(seal: Seal, batch: Batch) -> bytes:
    """Seal a batch as an entry of its job's log."""
    return seal.seal(encode_frame([batch]), keys.log(batch.job))


class Entry(NamedTuple):
    """A batch from a log. `at` is its position there."""

    at: str
    batch: Batch


async def read(channel: Channel, seal: Seal, job: str, after: str = "") -> list[Entry]:
    """Read the next `PAGE` of a job's log after a position, or from its start; oldest first."""
    return [
        Entry(at, batch)
        for at, entry in await channel.read(job, after, PAGE)
        for batch in decode_frame(seal.open(entry, keys.log(job)))
    ]
