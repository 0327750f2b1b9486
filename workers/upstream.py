"""The seam between the line and the server that answers: a job in, events out.

Pandora-Next is one kind of upstream (`workers/pandora/`), OpenAI-compatible servers are another
(`workers/openai/`), and the line does not know the difference.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol, TypeVar

from wire.events import Event, Failed
from wire.jobs import ChatJob, RelayedJob
from wire.line.offers import AsideReason

J = TypeVar("J", ChatJob, RelayedJob, contravariant=True)

BROKEN_OFF = Failed(
    "upstream_error", "The upstream broke off its answer. Retry the request.", "answer_broken_off"
)
NO_ANSWER = Failed("upstream_error", "The upstream sent no answer. Retry the request.", "no_answer")


class UpstreamError(Exception):
    """The upstream gave no complete answer. `failed` says whose fault that is.

    `passing`: the failure is temporary, and any other job would have failed too; `doubtful`: unless
    the request itself is at fault. `retries`: number of further tries that the job gets, if that is
    not the operator's setting. `capped_for`: seconds for which the account may not use the job's
    family of models.
    """

    def __init__(
        self,
        failed: Failed,
        *,
        passing: bool = False,
        capped_for: float | None = None,
        retries: int | None = None,
        doubtful: bool = False,
    ) -> None:
        super().__init__(failed.fault)
        self.failed = failed
        self.passing = passing
        self.capped_for = capped_for
        self.retries = retries
        self.doubtful = doubtful


class UpstreamBusy(Exception):
    """The account can hold no more conversations now: the job should wait and be tried again.

    `pause`: seconds for which it should not be tried, 0 if the upstream did not say. `refused_us`:
    the upstream refused the operator's own credential, which is not the client's fault; `aside`:
    it will refuse that for every job.
    """

    def __init__(
        self, pause: float = 0.0, *, refused_us: bool = False, aside: AsideReason | None = None
    ) -> None:
        super().__init__()
        self.pause = pause
        self.refused_us = refused_us
        self.aside = aside


class Upstream(Protocol[J]):
    """A server that answers jobs of one kind, a few at a time."""

    def answer(self, job: J) -> AsyncGenerator[Sequence[Event], None]:
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
