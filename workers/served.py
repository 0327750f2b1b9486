"""The upstreams that a worker serves, each with its settings and what it offers to the line."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import msgspec
from msgspec.structs import replace

import settings
from settings.credentials import Secret
from wire.about import decode_about, encode_about
from wire.events import Ending, Failed
from wire.jobs import ChatJob, Job, RelayedJob
from wire.line.claims import Claim
from wire.line.offers import Offer
from wire.line.worker import WorkerLine
from wire.redis.outage import REDIS_ERRORS
from wire.stream.endings import REFUSED
from wire.stream.outbox import Outbox
from wire.stream.publication import Publication
from wire.tokens.job import JobTokens
from workers.accounts import PoolAccounts
from workers.conversation import hold_conversation
from workers.secret_text import without_secret
from workers.upstream import Upstream, UpstreamBusy, UpstreamError

logger = logging.getLogger(__name__)

K = TypeVar("K", ChatJob, RelayedJob)

RESTS: dict[settings.UpstreamKind, tuple[float, float]] = {
    "pandora": (5.0, 60.0),
    "openai": (1.0, 30.0),
}
"""Shortest and longest time in seconds for which a busy account gets no job, by the kind of its
upstream."""

SURVEY, SURVEY_SOON = 60.0, 5.0
"""Seconds between two surveys of a server, and between those that did not find out all. One follows
at once when it begins or ceases to refuse our credential."""


class Surveyed(msgspec.Struct, frozen=True):
    """Result of a survey; `is_complete` is False if another one should follow soon.

    `offer` is None if the server could not be asked.
    """

    offer: Offer | None
    is_complete: bool = True


class ServedUpstream(Generic[K]):
    """One upstream, under its name in the settings.

    `kind` is the type of its jobs. `survey` finds out what it offers now. `accounts` are those of
    the operator there, if there are any.
    """

    def __init__(
        self,
        name: str,
        limits: settings.Upstream,
        kind: type[K],
        upstream: Upstream[K],
        survey: Callable[[], Awaitable[Surveyed]],
        accounts: PoolAccounts | None = None,
    ) -> None:
        self.name = name
        self.limits = limits
        self.accounts = accounts
        self._kind: type[K] = kind
        self._upstream: Upstream[K] = upstream
        self.survey = survey
        self._refused_us = False
        self._changed = False

    @property
    def rests(self) -> tuple[float, float]:
        """Shortest and longest time in seconds for which an account that is busy there gets no job,
        unless the upstream names a time itself.
        """
        return RESTS[self.limits.kind]

    def with_token(self, job: Job, claim: Claim) -> Job:
        """Put in the token of the job's account, if that is one of the operator's.

        Raises:
            UpstreamBusy: the account is not known here, or not any more.
        """
        if claim.on_own_account or claim.account == self.name:
            return job
        token = self.accounts.token(claim.account) if self.accounts else Secret()
        if not token:
            logger.warning(
                "the account %s is not in the settings of this worker",
                claim.account,
                extra={"event": "account_unknown", "account": claim.account},
            )
            raise UpstreamBusy
        return replace(job, bearer=token.reveal())

    async def converse(
        self, job: Job, publication: Publication, outbox: Outbox, tokens: JobTokens
    ) -> Ending:
        """Hold a job's conversation; see `hold_conversation`.

        Raises:
            msgspec.ValidationError: the job is for an upstream of another kind.
        """
        if not isinstance(job, self._kind):
            raise msgspec.ValidationError(f"the upstream {self.name} has no jobs of this kind")
        try:
            ending = await hold_conversation(
                job, publication, self._upstream, outbox, self.limits, tokens
            )
        except UpstreamBusy as busy:
            if busy.refused_us and self.accounts is None:
                self._note_credential(refused=True)
            raise
        except UpstreamError as error:
            if not publication.claim.on_own_account:
                error.failed = without_secret(error.failed, job.bearer)
            raise
        finally:
            if publication.begun:
                self._note_credential(refused=False)
        if publication.claim.on_own_account or not isinstance(ending, Failed):
            return ending
        # A refusal of our own token is not the client's fault.
        return REFUSED if ending.fault == "unauthorized" else without_secret(ending, job.bearer)

    def _note_credential(self, *, refused: bool) -> None:
        if refused != self._refused_us:
            self._refused_us = refused
            self._changed = True

    async def keep_offering(self, line: WorkerLine, heartbeat: float) -> None:
        """Tell the line at every heartbeat what the upstream offers, forever."""
        clock = asyncio.get_running_loop().time
        while True:
            self._changed = False
            found = await self.survey()
            until = clock() + (SURVEY if found.is_complete else SURVEY_SOON)
            while clock() < until and not self._changed:
                # An outage of Redis is logged where leases are renewed.
                with contextlib.suppress(*REDIS_ERRORS):
                    if found.offer is not None:
                        await line.offer(self._current(found.offer))
                await asyncio.sleep(heartbeat)

    def _current(self, offer: Offer) -> Offer:
        """Add the accounts that there are now, or a refusal of our only credential: anyone may ask
        some servers for their models.
        """
        if self.accounts is not None:
            return self.accounts.add_to(offer)
        if not self._refused_us:
            return offer
        about = replace(decode_about(offer.about), trouble="refused_us")
        return replace(offer, about=encode_about(about))


AnyServed = ServedUpstream[ChatJob] | ServedUpstream[RelayedJob]
