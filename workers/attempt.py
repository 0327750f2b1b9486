"""One try at a job, on the worker that claimed it."""

from __future__ import annotations

import asyncio
from typing import Literal

from wire.line.claims import Claim
from wire.stream.outbox import Answer

Stop = Literal[
    "cancel",  # nobody wants the answer any more
    "lost",  # our lease is gone: somebody else ends the job, we must not
    "drain",  # this worker is stopping and its time is up
]


class Attempt:
    """What the worker knows of a job it holds."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.answer = Answer(claim)
        self.stopped: Stop | None = None
        self.held: list[str] = []
        """What the job has in the store of large parts, once that is known."""
        self._conversation: asyncio.Task[object] | None = None

    def converse(self, conversation: asyncio.Task[object]) -> None:
        """Name the task that `stop` has to cancel."""
        self._conversation = conversation
        if self.stopped:
            conversation.cancel()

    def stop(self, why: Stop) -> None:
        """End the conversation upstream at once. The first reason counts."""
        if self.stopped is None:
            self.stopped = why
            if self._conversation is not None:
                self._conversation.cancel()
