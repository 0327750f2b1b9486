"""One attempt at a job, on the worker that claimed it."""

from __future__ import annotations

import asyncio
import time
from typing import Literal

from runtime import tracing
from settings.credentials import Secret
from wire.line.claims import Claim, Verdict
from wire.stream.publication import Publication
from wire.tokens.job import JobTokens

Stop = Literal[Verdict, "drain"]
"""Reason for stopping an attempt. `drain`: this worker is stopping and its time is up."""


class Attempt:
    """The state of one attempt: its events, its conversation and the reason for its stop."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.publication = Publication(claim)
        self.stopped: Stop | None = None
        self.key = ""
        """Fingerprint of the job's key, once the request has been read."""
        self.token = Secret()
        """The token with which the job runs, once the request has been read."""
        self.blob_keys: list[str] = []
        """The job's blobs, once the request has been read."""
        self.tokens: JobTokens | None = None
        """Counts the job's tokens, once the request has been read."""
        self.claimed = time.time()
        self.span = tracing.NOTHING
        """Its span in the trace of its request, once that has been read."""
        self._conversation: asyncio.Task[object] | None = None

    @property
    def tokens_so_far(self) -> int:
        """About the tokens of the answer so far."""
        return self.tokens.so_far if self.tokens else 0

    def bind(self, conversation: asyncio.Task[object]) -> None:
        """Name the task that `stop` cancels."""
        self._conversation = conversation
        if self.stopped:
            conversation.cancel()

    def stop(self, reason: Stop) -> None:
        """Close the conversation upstream at once. The first reason counts."""
        if self.stopped is None:
            self.stopped = reason
            if self._conversation is not None:
                self._conversation.cancel()
