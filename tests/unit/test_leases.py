"""When a worker lets its conversations go, by its own clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import cast

from redis.exceptions import ConnectionError, TimeoutError

import settings
from background import background
from wire.claims import Claim, Verdict
from wire.presence import Presence
from wire.queue import Queue
from wire.seal import Seal
from workers.attempt import Attempt
from workers.leases import MARGIN, Leases

CONFIG = settings.Queue(lease=1.2, heartbeat=0.2)
REFUSED = ConnectionError("Error 111 connecting to 127.0.0.1:1. Connection refused.")
CUT_OFF = TimeoutError("Timeout reading from socket")


class RenewingQueue:
    """The one call of the line that leases need; `fault` says what is wrong at a moment."""

    def __init__(self, fault: Callable[[float], Exception | None]) -> None:
        self._fault = fault
        self._begun = time.monotonic()

    async def renew(self, presence: Presence, held: Iterable[Claim]) -> list[tuple[str, Verdict]]:
        """See `wire.queue.Queue`."""
        if fault := self._fault(time.monotonic() - self._begun):
            raise fault
        return []


async def stopped_after(
    fault: Callable[[float], Exception | None], *, held_after: float = 0.0, watched: float = 2.5
) -> float | None:
    """Seconds from holding a job to its being stopped; None if it was not."""
    queue = cast(Queue, RenewingQueue(fault))
    leases = Leases(queue, Seal(b"a secret"), "worker", 10, CONFIG)
    attempt = Attempt(Claim("chat", "job", 1, "account", "gpt_4_s", ["front"], b""))
    async with background(leases.keep()):
        await asyncio.sleep(held_after)
        held = time.monotonic()
        leases.hold(attempt, held)
        with suppress(asyncio.TimeoutError):
            async with asyncio.timeout(watched):
                while not attempt.stopped:
                    await asyncio.sleep(0.01)
        return time.monotonic() - held if attempt.stopped else None


async def test_renewed_leases_are_kept() -> None:
    assert await stopped_after(lambda now: None) is None


async def test_a_worker_that_is_cut_off_closes_before_its_leases_end() -> None:
    after = await stopped_after(lambda now: CUT_OFF)
    assert after is not None
    assert after < CONFIG.lease


async def test_conversations_go_on_while_redis_is_down_for_everyone() -> None:
    assert await stopped_after(lambda now: REFUSED) is None


async def test_a_worker_cut_off_after_a_restart_of_redis_still_closes_in_time() -> None:
    """One refusal used to switch the closing off until a renewal worked again."""
    after = await stopped_after(lambda now: REFUSED if now < 0.5 else CUT_OFF)
    assert after is not None
    assert after < 0.5 + CONFIG.lease


async def test_a_job_claimed_after_a_cut_off_has_its_whole_lease() -> None:
    """It used to be closed at once, by a clock that stood still while nothing was held."""
    fault = lambda now: CUT_OFF if now < 1.7 else None  # noqa: E731
    assert await stopped_after(fault, held_after=1.5) is None


def test_by_default_a_lost_heartbeat_does_not_cost_a_conversation() -> None:
    assert settings.Queue().lease - 2 * settings.Queue().heartbeat > MARGIN
