"""Healing of thousands of replies at once: few reads at a time, and none waits forever."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tests.support.stream import BACKLOG
from wire.events import Batch, Delta, Done, Failed, Started
from wire.seal import Seal
from wire.stream import healing, log
from wire.stream.healing import BATCH, READERS, Healer
from wire.stream.memory import MemoryChannel
from wire.stream.reply import Reply

SEAL = Seal(b"secret")


class Logs(MemoryChannel):
    """Logs that count how many of them are read, and at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.peak = 0
        self._reading = 0

    async def read(self, job: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        self.reads += 1
        self._reading += 1
        self.peak = max(self.peak, self._reading)
        await asyncio.sleep(0)
        self._reading -= 1
        return await super().read(job, after, limit)


class Jobs:
    """Jobs in the line; counts the largest number that was looked up in one call."""

    def __init__(self, waiting: set[str], running: set[str]) -> None:
        self._waiting = waiting
        self._running = running
        self.most = 0

    async def waiting(self, ids: Sequence[str]) -> set[str]:
        self.most = max(self.most, len(ids))
        await asyncio.sleep(0)
        return self._waiting & set(ids)

    async def exists(self, id: str) -> bool:
        return id in self._waiting | self._running

    async def log_incomplete(self, id: str) -> bool:
        return False


class Silent(Jobs):
    """A Redis that never answers."""

    async def exists(self, id: str) -> bool:
        await asyncio.Event().wait()
        return True


def lost(names: Sequence[str]) -> list[Reply]:
    """Replies of these jobs, which may have missed everything."""
    return [Reply(name, BACKLOG) for name in names]


async def all_ended(replies: list[Reply]) -> None:
    async with asyncio.timeout(60):
        while not all(reply.ended for reply in replies):
            await asyncio.sleep(0)


async def test_few_logs_are_read_at_a_time_and_none_of_a_waiting_job() -> None:
    logs = Logs()
    wait = [f"waits-{n}" for n in range(3000)]
    run = [f"runs-{n}" for n in range(300)]
    line = Jobs(set(wait), set(run))
    for name in run:
        answer = Batch(name, 1, 0, [Started("m"), Delta(name), Done("stop")])
        logs.logs[name] = [log.seal_entry(SEAL, answer)]
    waiting, running = lost(wait), lost(run)
    healer = Healer(logs, line, SEAL, 60.0)
    before = len(asyncio.all_tasks())
    async with healer.running():
        for reply in waiting + running:
            healer.heal(reply)
        assert len(asyncio.all_tasks()) <= before + READERS + 2
        await all_ended(running)
        for reply in running:
            assert await reply.events() == [Started("m"), Delta(reply.job), Done("stop")]
    assert logs.peak == READERS
    assert logs.reads == 300
    assert line.most <= BATCH
    assert not any(reply.ended for reply in waiting)


async def test_lost_jobs_are_enqueued_again_unless_their_client_has_left() -> None:
    line = Jobs(set(), set())
    replies = lost([f"lost-{n}" for n in range(100)])
    enqueued: list[str] = []
    healer = Healer(Logs(), line, SEAL, 60.0)
    for reply in replies:

        async def resubmit(reply: Reply = reply) -> None:
            enqueued.append(reply.job)
            line._waiting.add(reply.job)

        reply.resubmit = resubmit
        healer.heal(reply)
    healer.forget(replies[0])
    async with healer.running(), asyncio.timeout(60):
        while len(enqueued) < 99 or healer._deadlines:
            await asyncio.sleep(0)
    assert sorted(enqueued) == sorted(reply.job for reply in replies[1:])


async def test_every_reply_has_its_deadline_even_if_the_readers_are_stuck(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(healing, "HEAL_STEP", 0.001)
    replies = lost([f"job-{n}" for n in range(10 * READERS)])
    healer = Healer(Logs(), Silent(set(), set()), SEAL, 0.01)
    async with healer.running():
        for reply in replies:
            healer.heal(reply)
        await all_ended(replies)
    for reply in replies:
        [failed] = await reply.events()
        assert isinstance(failed, Failed)
        assert failed.code == "line_unavailable"


async def test_a_bug_in_the_healing_of_one_reply_ends_this_reply_alone() -> None:
    class Buggy(Jobs):
        async def exists(self, id: str) -> bool:
            if id == "bad":
                raise KeyError(id)
            return await super().exists(id)

    logs = Logs()
    answer = Batch("good", 1, 0, [Started("m"), Done("stop")])
    logs.logs["good"] = [log.seal_entry(SEAL, answer)]
    bad, good = lost(["bad", "good"])
    healer = Healer(logs, Buggy(set(), {"bad", "good"}), SEAL, 60.0)
    async with healer.running():
        healer.heal(bad)
        healer.heal(good)
        await all_ended([bad, good])
    [failed] = await bad.events()
    assert isinstance(failed, Failed)
    assert failed.code == "internal_error"
    assert await good.events() == [Started("m"), Done("stop")]
