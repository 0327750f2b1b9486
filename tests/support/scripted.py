"""An upstream that yields what a test scripts, on the same seam as Pandora-Next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from wire.events import Delta, Done, Event, Started
from wire.jobs import ChatJob

HELLO: list[Event] = [Started("scripted-1"), Delta("hello"), Done("stop")]

Step = Sequence[Event] | float | asyncio.Event | Exception


class ScriptedUpstream:
    """Plays `script` for every job.

    Lists of events are yielded, numbers slept, signals waited for, exceptions raised.
    """

    def __init__(self, *script: Step) -> None:
        self.script: tuple[Step, ...] = script or (HELLO,)
        self.asked: list[ChatJob] = []
        self.active = 0
        self.peak = 0

    async def answer(self, job: ChatJob) -> AsyncGenerator[Sequence[Event], None]:
        """See `workers.upstream.Upstream`."""
        self.asked.append(job)
        self.active += 1
        self.peak = max(self.peak, self.active)
        try:
            for step in self.script:
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, int | float):
                    await asyncio.sleep(step)
                elif isinstance(step, asyncio.Event):
                    await step.wait()
                else:
                    yield step
        finally:
            self.active -= 1


class Judged(ScriptedUpstream):
    """Upstream that answers each attempt as `judge` says."""

    def __init__(self) -> None:
        super().__init__()
        self.judge: Callable[[ChatJob], Any] = lambda job: HELLO

    async def answer(self, job: ChatJob) -> AsyncGenerator[Sequence[Event], None]:
        self.script = (self.judge(job),)
        async for events in super().answer(job):
            yield events

    def first(self, count: int, error: Exception) -> None:
        """Fail the given number of attempts, then answer."""
        begun = len(self.asked)
        self.judge = lambda job: error if len(self.asked) < begun + count else HELLO
