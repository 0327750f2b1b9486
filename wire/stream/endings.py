"""Endings that somebody other than a job's own worker gives: to jobs of the dead, or waiting."""

from __future__ import annotations

from collections.abc import Iterable

from wire.events import UNNUMBERED, Batch, Failed, encode_frame
from wire.line.claims import Lapsed
from wire.line.presence import front_channel
from wire.line.queue import Queue
from wire.line.status import EndState
from wire.seal import Seal
from wire.stream import log

WAITED_TOO_LONG = Failed("waited_too_long", "The request waited too long.")


async def end_lapsed(queue: Queue, seal: Seal, job: Lapsed, failed: Failed) -> bool:
    """End a job whose worker is gone. False if somebody else has, or it goes on after all."""
    # Its worker knows how far the answer came, we do not.
    batch = Batch(job.id, job.attempt, UNNUMBERED, [failed])
    entry, frames = log.seal_entry(seal, batch), _frames(seal, batch, job.fronts)
    state = _state(failed)
    reason = "cancelled" if state == "cancelled" else "worker_lost"
    return await queue.finish(job.id, job.attempt, state, entry, frames, reason=reason)


async def end_waiting(
    queue: Queue, seal: Seal, id: str, fronts: Iterable[str], failed: Failed
) -> bool:
    """End a job that waits. False if it does not wait any more."""
    batch = Batch(id, 0, 0, [failed])
    entry, frames = log.seal_entry(seal, batch), _frames(seal, batch, fronts)
    return await queue.end_waiting(id, _state(failed), entry, frames, reason=failed.fault)


def _state(failed: Failed) -> EndState:
    return "cancelled" if failed.fault == "cancelled" else "failed"


def _frames(seal: Seal, batch: Batch, fronts: Iterable[str]) -> dict[str, bytes]:
    frame = encode_frame([batch])
    return {front: seal.seal(frame, front_channel(front)) for front in fronts}
