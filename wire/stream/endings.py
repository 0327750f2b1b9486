"""Endings that somebody other than a job's own worker gives: to jobs of the dead, or waiting."""

from __future__ import annotations

from collections.abc import Iterable

from wire.events import UNNUMBERED, Batch, Failed, encode_frame
from wire.line import keys
from wire.line.claims import StalledJob
from wire.line.status import EndState
from wire.line.view import LineView
from wire.seal import Seal
from wire.stream import log

WAITED_TOO_LONG = Failed("waited_too_long", "The request waited too long.")


async def finish_stalled(line: LineView, seal: Seal, job: StalledJob, failed: Failed) -> bool:
    """End a job whose worker is gone. False if somebody else has, or it goes on after all."""
    # Its worker knows how far the answer came, we do not.
    batch = Batch(job.id, job.attempt, UNNUMBERED, [failed])
    entry, frames = log.seal_entry(seal, batch), _frames(seal, batch, job.front_ends)
    state = _state(failed)
    reason = "cancelled" if state == "cancelled" else "worker_lost"
    return await line.finish(job.id, job.attempt, state, entry, frames, reason=reason)


async def end_waiting(
    line: LineView, seal: Seal, id: str, front_ends: Iterable[str], failed: Failed
) -> bool:
    """End a job that waits. False if it does not wait any more."""
    batch = Batch(id, 0, 0, [failed])
    entry, frames = log.seal_entry(seal, batch), _frames(seal, batch, front_ends)
    return await line.finish_waiting(id, _state(failed), entry, frames, reason=failed.fault)


def _state(failed: Failed) -> EndState:
    return "cancelled" if failed.fault == "cancelled" else "failed"


def _frames(seal: Seal, batch: Batch, front_ends: Iterable[str]) -> dict[str, bytes]:
    frame = encode_frame([batch])
    return {id: seal.seal(frame, keys.front_end(id)) for id in front_ends}
