"""The storm: strikes one process after another, brings each back, and watches meanwhile.

All of it happens in the thread that calls, since the kernel ends a child with the thread that
started it; the clients have a thread of their own.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tests.chaos.clients import Crowd, Front
from tests.chaos.plan import Blow, Target
from tests.chaos.usage import Audit
from tests.support.gateway import Gateway, status

TICK = 0.05
"""Seconds between two looks."""

MEND_TIMEOUT = 60.0
"""Seconds within which, after the storm, everything that was struck must be there again."""


@dataclass
class Strike:
    """One blow that was dealt. Times are monotonic; `back` is when Redis answered again."""

    target: Target
    kill: bool
    at: float
    back: float | None = None


@dataclass(frozen=True)
class Sample:
    """Numbers of conversations that the simulator held and of clients that waited, at one time."""

    at: float
    active: int
    clients: int


@dataclass
class _Worker:
    """The place of one worker. `back_at` is set while nobody has it."""

    process: subprocess.Popen[bytes]
    back_at: float | None = None


@dataclass
class _Front:
    """The place of one front end. `front` is set while it serves, `back_at` once it was struck."""

    number: int
    process: subprocess.Popen[bytes]
    front: Front | None
    back_at: float | None = None
    told_to_stop: bool = False


class Storm:
    """Over a gateway that was started, and its clients."""

    def __init__(self, gateway: Gateway, crowd: Crowd, blows: Iterator[Blow], audit: Audit) -> None:
        self.strikes: list[Strike] = []
        self.samples: list[Sample] = []
        self.oddities: list[str] = []
        """Unexpected ends of processes."""
        self._gateway = gateway
        self._crowd = crowd
        self._blows = blows
        self._audit = audit
        self._workers = [_Worker(process) for process in gateway.workers]
        self._stopping: list[subprocess.Popen[bytes]] = []
        self._fronts = [
            _Front(number, process, Front(url))
            for number, (process, url) in enumerate(zip(gateway.fronts, gateway.urls, strict=True))
        ]
        self._redis_back_at: float | None = None
        crowd.up = [place.front for place in self._fronts if place.front is not None]

    def rage(self) -> None:
        """Strike until every client has been served or has disconnected."""
        blow = next(self._blows)
        due = time.monotonic() + blow.after
        while not self._crowd.finished:
            if time.monotonic() >= due:
                self._strike(blow)
                blow = next(self._blows)
                due = time.monotonic() + blow.after
            self._mend()
            self._look()
            time.sleep(TICK)

    def mend_all(self) -> None:
        """Restart everything and wait for stopping processes to end."""
        deadline = time.monotonic() + MEND_TIMEOUT
        while not self._whole():
            if time.monotonic() > deadline:
                self.oddities.append("not everything could be brought back")
                return
            self._mend()
            time.sleep(TICK)

    def _whole(self) -> bool:
        return (
            self._redis_back_at is None
            and all(place.back_at is None for place in self._workers)
            and all(place.front is not None for place in self._fronts)
            and not self._stopping
        )

    # Striking

    def _strike(self, blow: Blow) -> None:
        match blow.target:
            case "worker":
                self._strike_worker(blow)
            case "front":
                self._strike_front(blow)
            case "redis":
                self._strike_redis(blow)

    def _strike_worker(self, blow: Blow) -> None:
        alive = [place for place in self._workers if place.back_at is None]
        if not alive:
            return
        place = alive[blow.pick % len(alive)]
        self._note(blow)
        _signal(place.process, kill=blow.kill)
        if not blow.kill:
            self._stopping.append(place.process)
        place.back_at = time.monotonic() + blow.down

    def _strike_front(self, blow: Blow) -> None:
        alive = [place for place in self._fronts if place.front is not None]
        if not alive:
            return
        place = alive[blow.pick % len(alive)]
        assert place.front is not None
        place.front.struck = self._note(blow).at
        _signal(place.process, kill=blow.kill)
        place.front = None
        place.told_to_stop = not blow.kill
        place.back_at = time.monotonic() + blow.down
        self._crowd.up = [other.front for other in self._fronts if other.front is not None]

    def _strike_redis(self, blow: Blow) -> None:
        if self._redis_back_at is not None:
            return
        self._note(blow)
        if blow.kill:
            self._gateway.redis.kill()
        else:
            self._gateway.redis.stop()
        self._redis_back_at = time.monotonic() + blow.down

    def _note(self, blow: Blow) -> Strike:
        strike = Strike(blow.target, blow.kill, time.monotonic())
        self.strikes.append(strike)
        return strike

    # Mending

    def _mend(self) -> None:
        now = time.monotonic()
        if self._redis_back_at is not None and now >= self._redis_back_at:
            self._gateway.redis.start()
            self._redis_back_at = None
            struck = [strike for strike in self.strikes if strike.target == "redis"]
            struck[-1].back = time.monotonic()
        for worker in self._workers:
            if worker.back_at is None and worker.process.poll() is not None:
                self._odd("a worker", worker.process)
                worker.back_at = now
            if worker.back_at is not None and now >= worker.back_at:
                worker.process, worker.back_at = self._gateway.start_worker(), None
        for process in list(self._stopping):
            if process.poll() is not None:
                self._stopping.remove(process)
                self._see_stopped("a worker", process)
        for front in self._fronts:
            self._mend_front(front, now)

    def _mend_front(self, place: _Front, now: float) -> None:
        if place.back_at is None and place.process.poll() is not None:
            self._odd("a front end", place.process)
            if place.front is not None:
                place.front = None
                self._crowd.up = [other.front for other in self._fronts if other.front is not None]
            place.back_at = now
            place.told_to_stop = False
        if place.back_at is not None:
            if now >= place.back_at and place.process.poll() is not None:
                if place.told_to_stop:
                    self._see_stopped("a front end", place.process)
                place.process = self._gateway.restart_front(place.number)
                place.back_at = None
        elif place.front is None:
            url = self._gateway.urls[place.number]
            if status(f"{url}/healthz") == 200:
                place.front = Front(url)
                self._crowd.up = [*self._crowd.up, place.front]

    def _odd(self, who: str, process: subprocess.Popen[bytes]) -> None:
        self.oddities.append(f"{who} ended by itself, with status {process.returncode}")

    def _see_stopped(self, who: str, process: subprocess.Popen[bytes]) -> None:
        # By the signal itself, if it came before the role was ready for it.
        if process.returncode not in (0, -signal.SIGTERM):
            self._odd(f"{who} that was stopped", process)

    # Watching

    def _look(self) -> None:
        active = self._gateway.stats()["active"]
        self.samples.append(Sample(time.monotonic(), active, self._crowd.open))
        if self._redis_back_at is None:
            self._audit.look()


def _signal(process: subprocess.Popen[bytes], *, kill: bool) -> None:
    if kill:
        process.kill()
        process.wait()
    else:
        process.terminate()
