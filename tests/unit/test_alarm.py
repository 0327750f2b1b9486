"""An alarm rings once, at the time it was moved to last."""

from __future__ import annotations

import asyncio
import gc
import math
import weakref
from collections.abc import Callable

import pytest

from runtime.alarm import Alarm


class Timers:
    """The timers of an event loop whose clock moves only by `move`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.started = 0
        self._due: dict[asyncio.TimerHandle, Callable[[], object]] = {}
        monkeypatch.setattr(loop, "time", lambda: self.now)
        monkeypatch.setattr(loop, "call_at", self._call_at)

    def _call_at(self, at: float, call: Callable[[], object]) -> asyncio.TimerHandle:
        self.started += 1
        timer = asyncio.TimerHandle(at, call, (), asyncio.get_running_loop())
        self._due[timer] = call
        return timer

    def move(self, to: float) -> None:
        """Move the clock, and run the timers that are due."""
        self.now = to
        for timer, call in list(self._due.items()):
            if timer.when() <= to:
                del self._due[timer]
                if not timer.cancelled():
                    call()


async def test_an_alarm_rings_once_at_the_time_that_was_set_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched:
        timers = Timers(asyncio.get_running_loop(), patched)
        rung: list[float] = []
        alarm = Alarm(lambda: rung.append(timers.now))
        alarm.set(10.0)
        timers.move(9.0)
        alarm.set(19.0)  # later
        timers.move(18.0)
        assert rung == []
        timers.move(19.0)
        timers.move(100.0)
        assert rung == [19.0]
        alarm.set(200.0)
        alarm.set(150.0)  # sooner
        timers.move(150.0)
        timers.move(300.0)
        assert rung == [19.0, 150.0]
        alarm.set(400.0)
        alarm.set(math.inf)
        timers.move(500.0)
        alarm.set(600.0)
        alarm.stop()
        timers.move(700.0)
        assert rung == [19.0, 150.0]


async def test_an_alarm_that_is_put_off_for_every_token_hardly_ever_starts_a_timer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched:
        timers = Timers(asyncio.get_running_loop(), patched)
        alarm = Alarm(lambda: None)
        for token in range(1000):
            timers.move(token * 0.01)
            alarm.set(timers.now + 60.0)
        assert timers.started == 1
        alarm.stop()


async def test_a_stopped_alarm_and_its_owner_are_no_cycle() -> None:
    class Owner:
        def __init__(self) -> None:
            self.alarm = Alarm(self.ring)

        def ring(self) -> None: ...

    owner = Owner()
    owner.alarm.set(asyncio.get_running_loop().time() + 60.0)
    owner.alarm.stop()
    gone = weakref.ref(owner)
    gc.disable()
    try:
        del owner
        assert gone() is None
    finally:
        gc.enable()
