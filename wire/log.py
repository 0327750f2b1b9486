"""A job's log: its events in a Redis Stream, for whoever missed them on the channel.

Written in coarser steps than the channel, and always before the ending is published (in the same
script). Only one attempt of a job ever publishes, so a log never mixes two.
"""

from __future__ import annotations

from arq.connections import ArqRedis

from wire.events import Batch, decode_frame, encode_frame
from wire.queue import log_key
from wire.seal import Seal


def seal_entry(seal: Seal, batch: Batch) -> bytes:
    """A batch as it stands in the log of its job."""
    return seal.seal(encode_frame([batch]), log_key(batch.job))


async def append(redis: ArqRedis, seal: Seal, batches: list[Batch]) -> None:
    """Write one entry to the log of each batch's job, all in one round trip."""
    async with redis.pipeline(transaction=False) as pipe:
        for batch in batches:
            # Never makes a log: `Queue.begin` did, with a lifetime, and one that has expired since
            # must not come back without.
            box = seal_entry(seal, batch)
            pipe.xadd(log_key(batch.job), {"box": box}, nomkstream=True)
        await pipe.execute()


async def read(redis: ArqRedis, seal: Seal, job: str) -> list[Batch]:
    """Everything logged of a job so far, oldest first."""
    key = log_key(job)
    entries = await redis.xrange(key)
    return [
        batch for _, fields in entries for batch in decode_frame(seal.open(fields[b"box"], key))
    ]
