"""Order of reservations when the budget is used up."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http.budget import MemoryBudget, Reservation
from app.openai.errors import TooManyLargeRequests

SIZE = 1000


async def settle() -> None:
    """Let every task run as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


def waiting(reservation: Reservation, size: int) -> asyncio.Task[None]:
    return asyncio.create_task(reservation.grow(size))


async def test_a_reservation_that_fits_does_not_wait(loop: asyncio.AbstractEventLoop) -> None:
    budget = MemoryBudget(SIZE, patience=60)
    with budget.reservation() as one, budget.reservation() as other:
        await one.grow(600)
        await other.grow(400)
        await other.grow(100)  # it holds more already
        assert (one.bytes, other.bytes, budget.left) == (600, 400, 0)
        other.release(100)
        other.release(200)
        assert (other.bytes, budget.left) == (100, 300)
    assert budget.left == SIZE


async def test_when_the_budget_is_used_up_only_the_largest_reservation_may_grow(
    loop: asyncio.AbstractEventLoop,
) -> None:
    budget = MemoryBudget(SIZE, patience=60)
    with budget.reservation() as large, budget.reservation() as small:
        await large.grow(700)
        await small.grow(300)
        more = waiting(small, 301)
        await large.grow(900)
        await large.grow(5000)
        await settle()
        assert not more.done()
        assert budget.left == SIZE - 5300
        large.release()
        await more
    assert budget.left == SIZE


async def test_a_reservation_larger_than_the_budget_is_granted_alone(
    loop: asyncio.AbstractEventLoop,
) -> None:
    budget = MemoryBudget(SIZE, patience=60)
    with budget.reservation() as first, budget.reservation() as second:
        await first.grow(2 * SIZE)
        more = waiting(second, 2 * SIZE)
        await settle()
        assert not more.done()
        first.release()
        await more
    assert budget.left == SIZE


async def test_the_budget_is_granted_in_order(loop: asyncio.AbstractEventLoop) -> None:
    budget = MemoryBudget(SIZE, patience=60)
    reservations = [Reservation(budget, 60) for _ in range(3)]
    with budget.reservation() as before:
        await before.grow(SIZE)
        tasks = [
            waiting(reservation, size)
            for reservation, size in zip(reservations, (500, 600, 100), strict=True)
        ]
        await settle()
    await tasks[0]
    await settle()
    # The third one would fit, but the second one came before it.
    assert [task.done() for task in tasks] == [True, False, False]
    late = waiting(Reservation(budget, 60), 10)
    await settle()
    assert not late.done()
    reservations[0].release()
    await asyncio.gather(*tasks, late)
    assert budget.left == SIZE - 600 - 100 - 10


async def test_a_cancelled_reservation_does_not_block_the_next_one(
    loop: asyncio.AbstractEventLoop,
) -> None:
    budget = MemoryBudget(SIZE, patience=60)
    with budget.reservation() as before:
        await before.grow(900)
        leaving = waiting(Reservation(budget, 60), 500)
        behind = waiting(Reservation(budget, 60), 100)
        await settle()
        assert not behind.done()
        leaving.cancel()
        await behind
        assert budget.left == 0


async def test_waiting_for_the_budget_has_a_deadline(loop: asyncio.AbstractEventLoop) -> None:
    budget = MemoryBudget(SIZE, patience=0.01)
    with budget.reservation() as before, budget.reservation() as late:
        await before.grow(SIZE)
        with pytest.raises(TooManyLargeRequests) as refused:
            await late.grow(1)
        assert (late.bytes, late.waits) == (0, True)
        assert 5 <= int(refused.value.headers["retry-after"]) <= 15
    assert budget.left == SIZE


async def test_the_deadline_is_that_of_the_whole_request(loop: asyncio.AbstractEventLoop) -> None:
    """Even if each piece of a body waits and then gets its part of the budget."""
    budget = MemoryBudget(SIZE, patience=0.05)
    late = Reservation(budget, 0.05)

    async def grow() -> None:
        for size in range(1, SIZE // 2):
            with budget.reservation() as before:
                await before.grow(SIZE - late.bytes)
                loop.call_later(0.01, before.release)
                await late.grow(size)

    with pytest.raises(TooManyLargeRequests):
        await grow()
    assert 1 <= late.bytes <= 5


sizes = st.lists(st.integers(1, 3 * SIZE), min_size=1, max_size=12)


@given(sizes, st.integers(0, 2**32))
def test_every_reservation_is_granted_and_the_budget_is_exceeded_by_one_at_most(
    sizes: list[int], seed: int
) -> None:
    rng = random.Random(seed)
    budget = MemoryBudget(SIZE, patience=60)

    async def request(size: int) -> None:
        with budget.reservation() as reservation:
            while reservation.bytes < size:
                await reservation.grow(min(size, reservation.bytes + rng.randint(1, 400)))
                assert budget.left >= -max(sizes)
                for _ in range(rng.randint(0, 3)):
                    await asyncio.sleep(0)
            if rng.random() < 0.5:
                reservation.release(rng.randint(0, size))
                await asyncio.sleep(0)

    async def all_of_them() -> None:
        tasks = [asyncio.create_task(request(size)) for size in sizes]
        leaving = [task for task in tasks if rng.random() < 0.3]
        for task in leaving:
            for _ in range(rng.randint(0, 10)):
                await asyncio.sleep(0)
            task.cancel()
        async with asyncio.timeout(10):
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        for task, end in zip(tasks, ends, strict=True):
            assert end is None or (task in leaving and isinstance(end, asyncio.CancelledError)), end

    asyncio.run(all_of_them())
    assert budget.left == SIZE
    assert not budget._reserved
    assert not budget._waiting
