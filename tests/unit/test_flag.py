"""A flag that the tasks of one connection wait for."""

from __future__ import annotations

import asyncio

from app.http.flag import Flag


async def test_setting_it_wakes_every_task_that_waits_even_if_it_is_cleared_at_once() -> None:
    flag = Flag()
    waiting = [asyncio.create_task(flag.wait()) for _ in range(2)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    flag.set()
    flag.clear()
    await asyncio.wait_for(asyncio.gather(*waiting), 60)
    assert not flag.is_set()


async def test_nobody_waits_for_a_flag_that_is_set() -> None:
    flag = Flag(is_set=True)
    await asyncio.wait_for(flag.wait(), 60)
    assert flag.is_set()


async def test_a_task_that_was_cancelled_while_it_waited_is_no_obstacle() -> None:
    flag = Flag()
    cancelled = asyncio.create_task(flag.wait())
    other = asyncio.create_task(flag.wait())
    await asyncio.sleep(0)
    cancelled.cancel()
    flag.set()
    await asyncio.wait_for(other, 60)
    assert cancelled.cancelled() or cancelled.cancelling()
