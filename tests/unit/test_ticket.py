"""Events that a feature gets from its job."""

from __future__ import annotations

from typing import cast

import settings
from app.line import Line, Ticket
from wire.events import Batch, Event, Started
from wire.line.admission import NewJob
from wire.stream.reply import Reply

SOON = 0.01


class Running:
    """A line in which the job runs, and begins after a number of calls."""

    config = settings.Settings(
        queue=settings.Queue(max_wait=SOON),
        upstream=settings.Upstream(connect_timeout=SOON, first_event_timeout=SOON),
    )

    def __init__(self, reply: Reply, begins: list[Event]) -> None:
        self._reply = reply
        self._begins = begins
        self._asked = 0

    async def give_up_waiting(self, id: str, key: str, lane: str) -> None:
        self._asked += 1
        if self._asked == 3:
            self._reply.accept(Batch(id, 1, 0, self._begins))


async def test_a_job_that_runs_has_not_waited_too_long_however_long_its_files_take() -> None:
    begins: list[Event] = [Started("m")]
    reply = Reply("job", 1000)
    line = cast(Line, Running(reply, begins))
    assert (
        await Ticket(line, reply, NewJob(id="job", key="k", front_end="f"), None).events() == begins
    )
