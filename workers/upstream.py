"""The seam between the line and the server that answers: a job in, events out.

Pandora-Next is one kind of upstream (`workers/pandora/`); any server with few slots could be
another, and the line must not know the difference.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from wire.events import Event, Failed
from wire.jobs import ChatJob


class UpstreamError(Exception):
    """The upstream gave no complete answer. `failed` says whose fault that is.

    `passing`: the failure is temporary, and any other job would have failed too.
    `capped_for`: seconds for which the account may not use the job's family of models.
    """

    def __init__(
        self, failed: Failed, *, passing: bool = False, capped_for: float | None = None
    ) -> None:
        super().__init__(failed.fault)
        self.failed = failed
        self.passing = passing
        self.capped_for = capped_for


class UpstreamBusy(Exception):
    """The account has another conversation running: the job should wait and be tried again."""


class Upstream(Protocol):
    """A server that answers chat jobs, a few at a time."""

    def answer(self, job: ChatJob) -> AsyncGenerator[Sequence[Event], None]:
        """Hold one conversation and yield its events in order, `Done` last.

        Each yield is a sign of life and may be empty; keep-alive pings of the upstream yield
        nothing. `Started` is yielded right before the first event other than `Failed`, so that a
        failure before any answer is a failure before any event. The generator must be closed
        (`aclosing`): closing it, or cancelling it, ends the conversation upstream at once. It sets
        no deadline of its own beyond connecting.

        Raises:
            UpstreamBusy: before any event, when the account already has a conversation running.
            UpstreamError: at any point; nothing is yielded after it.
        """
        ...
