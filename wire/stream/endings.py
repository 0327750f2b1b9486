"""Endings of jobs that their own workers cannot finish: stalled jobs, and waiting ones."""

from __future__ import annotations

from collections.abc import Iterable

from wire.events import UNNUMBERED, Batch, Ending, Failed
from wire.line.claims import Cancellation, StalledJob
from wire.line.status import FinalState
from wire.line.usage import Tokens
from wire.line.view import LineView
from wire.seal import Seal
from wire.stream import log
from wire.stream.frames import seal_frames

CANCELLED = Failed("cancelled", "The request was cancelled.", "cancelled")
BY_OPERATOR = "cancelled_by_operator"
"""Code of the ending of a job that an operator cancelled, and the word under which it is counted.
To older releases it is a job that was cancelled."""

CANCELLED_BY_OPERATOR = Failed(
    "cancelled", "The operator of this gateway cancelled the request.", BY_OPERATOR
)
KEY_REVOKED = Failed("key_revoked", "This API key has been revoked.")
WAITED_TOO_LONG = Failed(
    "waited_too_long", "The request waited too long. Retry when fewer requests are waiting."
)

REFUSED_US = "upstream_refused_us"
"""Code of a failure because the upstream refuses the credential of the operator."""

REFUSED = Failed(
    "upstream_error",
    "The upstream refuses the credential of this gateway. Its operator has to correct it.",
    REFUSED_US,
)


CANCELLATIONS: dict[Cancellation, Failed] = {
    "cancel": CANCELLED,
    "revoked": KEY_REVOKED,
    "operator": CANCELLED_BY_OPERATOR,
}
"""Ending of a job that was cancelled, by the reason for it."""


def counted_as(failed: Failed) -> str:
    """Return the word under which an ending is counted."""
    return BY_OPERATOR if failed == CANCELLED_BY_OPERATOR else failed.fault


def end_state(ending: Ending) -> FinalState:
    """Return the final state of a job with this ending."""
    if isinstance(ending, Failed):
        return "cancelled" if ending.fault == "cancelled" else "failed"
    return "done"


async def finish_stalled(
    line: LineView, seal: Seal, job: StalledJob, failed: Failed, tokens: Tokens
) -> bool:
    """Finish a job whose worker is gone. False: it has been finished, or it goes on after all."""
    # Its worker knows how many events were published, we do not.
    used = (tokens.input, tokens.output)
    batch = Batch(job.id, job.attempt, UNNUMBERED, [failed], used)
    entry, frames = log.seal_entry(seal, batch), seal_frames(seal, job.front_ends, batch)
    state = end_state(failed)
    reason = counted_as(failed) if job.cancelled else "worker_lost"
    return await line.finish(
        job.id, job.attempt, state, entry, frames, reason=reason, tokens=tokens
    )


async def finish_waiting(
    line: LineView, seal: Seal, id: str, front_ends: Iterable[str], failed: Failed
) -> bool:
    """Finish a waiting job. False: it is not waiting any more."""
    batch = Batch(id, 0, 0, [failed])
    entry, frames = log.seal_entry(seal, batch), seal_frames(seal, front_ends, batch)
    reason = counted_as(failed)
    return await line.finish_waiting(id, end_state(failed), entry, frames, reason=reason)
