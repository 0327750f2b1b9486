"""The seam between the line and whatever answers: a job in, events out.

Pandora-Next is one kind (`workers/pandora/`); any server with few slots could stand beside it,
and the line must not know the difference.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from wire.events import Event, Failed
from wire.jobs import ChatJob


class UpstreamError(Exception):
    """The upstream gave no whole answer. `failed` says whose fault that is.

    `passing`: it may go well the next time, and would have gone wrong for anybody this time.
    `capped_for`: the account may not use the job's family of models for so many seconds.
    """

    def __init__(
        self, failed: Failed, *, passing: bool = False, capped_for: float | None = None
    ) -> None:
        super().__init__(failed.fault)
        self.failed = failed
        self.passing = passing
        self.capped_for = capped_for


class UpstreamBusy(Exception):
    """The account is in the middle of another answer: the job should wait and try again."""


class Upstream(Protocol):
    """Something that answers chat jobs, a few at a time."""

    def answer(self, job: ChatJob) -> AsyncGenerator[Sequence[Event], None]:
        """Hold one conversation and yield its events in order, `Done` last.

        Each yield is a sign of life and may be empty; keep-alive pings of the upstream yield
        nothing. `Started` comes right before the first other event but `Failed`, so that a failure
        before any answer is a failure before any event. The generator must be closed (`aclosing`):
        closing it, or cancelling it, ends the conversation upstream at once. It sets no deadline
        of its own beyond connecting.

        Raises:
            UpstreamBusy: before any event, when the account already has a conversation running.
            UpstreamError: at any point; nothing is yielded after it.
        """
        ...
