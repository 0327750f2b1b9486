"""One job in the line, as the feature that waits for it holds it."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from app.openai.errors import WaitedTooLong
from wire.events import Event
from wire.line.admission import Accepted
from wire.line.status import JobStatus
from wire.stream.reply import Reply

if TYPE_CHECKING:
    from app.line import Line


class Ticket:
    """One job in the line, and its events. `id` is the job's, `place` where it began to wait.

    The job may be another than was submitted: one accepted earlier under the same idempotency key.
    """

    def __init__(
        self, line: Line, reply: Reply, reader: str, account: str, place: Accepted | None
    ) -> None:
        self.id = reply.job
        self.place = place
        self._line = line
        self._reply = reply
        self._reader = reader
        self._account = account
        self._clock = asyncio.get_running_loop().time
        self._give_up = self._clock() + line.config.queue.longest_wait
        self.left = False
        """Whether the job has been let go of before its ending."""

    @property
    def begun(self) -> bool:
        """Whether anything of the answer has come."""
        return self._reply.begun

    async def events(self, patience: float | None = None) -> list[Event]:
        """The next events, at least one; or none, when `patience` (seconds) has passed.

        Raises:
            WaitedTooLong: the job did not begin in time. It has been ended.
        """
        until = None if patience is None else self._clock() + patience
        while True:
            soonest = until
            if not self.begun and (until is None or self._give_up < until):
                soonest = self._give_up
            events = await self._reply.events(soonest)
            if events or soonest == until:
                return events
            await self._extend_or_give_up()

    async def _extend_or_give_up(self) -> None:
        # A job that has got its slot may still begin, if its files take long; its worker ends it.
        if await self._line.end_if_waiting(self.id, self._account):
            raise WaitedTooLong
        upstream = self._line.config.upstream
        self._give_up += upstream.connect_timeout + upstream.first_event_timeout

    def leave(self, *, enough: bool = False) -> None:
        """Let go of the job, of which nothing more is wanted: at once, beside what the caller does.

        `enough`: because its client has got all it asked for.
        Ask for no more events after this, unless there is still an ending to come.
        """
        if not self.left:
            self.left = True
            self._line.let_go(self._reply, self._reader, enough=enough)

    @property
    def headers(self) -> dict[str, str]:
        """What the client is told of its place when its answer begins."""
        headers = {"x-queue-id": self.id}
        if self.place is not None:
            headers["x-queue-position"] = str(self.place.place)
            headers["x-queue-eta"] = str(math.ceil(self.place.wait))
        return headers

    async def status(self) -> JobStatus | None:
        """Where the job is now; None if nobody can say."""
        return await self._line.look(self.id, self._account)
