"""Time after which a worker closes its conversations, by its own clock."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import pytest
from redis.exceptions import ConnectionError, TimeoutError

import settings
from runtime.tasks import background
from wire import VERSION
from wire.events import Delta
from wire.jobs import ChatJob
from wire.line.claims import Claim, Verdict
from wire.line.presence import Presence
from wire.line.worker import WorkerLine
from wire.seal import Seal
from wire.stream.channel import Channel, PublishingLine
from wire.stream.outbox import Outbox
from wire.tokens.job import JobTokens
from workers.attempt import Attempt
from workers.leases import MARGIN, RETRY, Leases

CONFIG = settings.Queue(lease=1.2, heartbeat=0.2)
REFUSED = ConnectionError("Error 111 connecting to 127.0.0.1:1. Connection refused.")
CUT_OFF = TimeoutError("Timeout reading from socket")
NO_ANSWER = TimeoutError("Nothing is received")


class RenewingQueue:
    """The one call of the line that leases need; `fault` returns the current failure."""

    def __init__(self, fault: Callable[[], Exception | None]) -> None:
        self._fault = fault
        self.tokens: dict[str, int] = {}

    async def renew(
        self, presence: Presence, held: Iterable[Claim], tokens: Mapping[str, int]
    ) -> list[tuple[str, Verdict]]:
        """See `wire.line.worker.WorkerLine.renew`."""
        fault = self._fault()
        if fault is NO_ANSWER:
            await asyncio.sleep(60)
        if fault:
            raise fault
        self.tokens |= tokens
        return []


class Impatient(selectors.DefaultSelector):
    """Selector that advances the time at once whenever all tasks sleep."""

    passed = 0.0
    """Seconds."""

    def select(self, timeout: float | None = None) -> Any:
        self.passed += timeout or 0.0
        return super().select(0)


def attempt(id: str) -> Attempt:
    return Attempt(Claim("main", "account", "chat", id, 1, "key", "gpt_4_s", ["front"], b""))


def stopped_after(
    fault: Callable[[float], Exception | None], *, held_after: float = 0.0, watched: float = 2.5
) -> float | None:
    """Seconds from holding a job to its being stopped; None if it was not."""
    clock = Impatient()

    async def watch() -> float | None:
        queue = cast(WorkerLine, RenewingQueue(lambda: fault(clock.passed)))
        seal = Seal(b"a secret")
        outbox = Outbox(cast(Channel, None), cast(PublishingLine, queue), seal, 1 << 20)
        presence = Presence("worker", VERSION, seal.fingerprint, 10)
        leases = Leases(queue, outbox, presence, CONFIG)
        held_one = attempt("job")
        async with background(leases.keep()):
            await asyncio.sleep(held_after)
            held = clock.passed
            leases.add(held_one, held)
            while not held_one.stopped and clock.passed < held + watched:
                await asyncio.sleep(0.01)
            return clock.passed - held if held_one.stopped else None

    def new_loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.SelectorEventLoop(clock)
        loop.time = lambda: clock.passed  # type: ignore[method-assign]  # its own is the machine's
        return loop

    with (
        patch("workers.leases.time", SimpleNamespace(monotonic=lambda: clock.passed)),
        asyncio.Runner(loop_factory=new_loop) as runner,
    ):
        return runner.run(watch())


def test_renewed_leases_are_kept() -> None:
    assert stopped_after(lambda now: None) is None


def test_a_worker_that_is_cut_off_closes_before_its_leases_end() -> None:
    after = stopped_after(lambda now: CUT_OFF)
    assert after is not None
    assert after < CONFIG.lease


def test_a_try_to_renew_that_got_no_answer_in_time_is_followed_by_another_at_once() -> None:
    """Its worker may have been frozen meanwhile: until it is present again, nobody is served."""
    tries: list[float] = []

    def fault(now: float) -> Exception:
        tries.append(now)
        return NO_ANSWER

    after = stopped_after(fault)
    assert after is not None
    assert after < CONFIG.lease
    assert tries[1] == pytest.approx(max(CONFIG.heartbeat, RETRY))


def test_conversations_go_on_while_redis_is_down_for_everyone() -> None:
    assert stopped_after(lambda now: REFUSED) is None


def test_a_worker_cut_off_after_a_restart_of_redis_still_closes_in_time() -> None:
    """One refusal used to switch the closing off until a renewal worked again."""
    after = stopped_after(lambda now: REFUSED if now < 0.5 else CUT_OFF)
    assert after is not None
    assert after < 0.5 + CONFIG.lease


def test_a_job_claimed_after_a_cut_off_has_its_whole_lease() -> None:
    """It used to be closed at once, by a clock that did not advance while nothing was held."""
    fault = lambda now: CUT_OFF if now < 1.7 else None  # noqa: E731
    assert stopped_after(fault, held_after=1.5) is None


def test_by_default_a_lost_heartbeat_does_not_cost_a_conversation() -> None:
    assert settings.Queue().lease - 2 * settings.Queue().heartbeat > MARGIN


async def test_the_tokens_so_far_are_told_with_each_renewal() -> None:
    queue = RenewingQueue(lambda: None)
    line, seal = cast(WorkerLine, queue), Seal(b"a secret")
    outbox = Outbox(cast(Channel, None), cast(PublishingLine, queue), seal, 1 << 20)
    leases = Leases(line, outbox, Presence("worker", VERSION, seal.fingerprint, 10), CONFIG)
    answers, unread = attempt("answers"), attempt("unread")
    answers.tokens = JobTokens(ChatJob(VERSION, "answers", "gpt_4_s", "bearer", []))
    answers.tokens.add([Delta("x" * 40)])
    for each in (answers, unread):
        leases.add(each, time.monotonic())
    async with asyncio.timeout(30), background(leases.keep()):
        while not queue.tokens:
            await asyncio.sleep(0)
    assert queue.tokens == {"answers": 10, "unread": 0}
