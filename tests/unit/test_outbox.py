"""Work and memory of an outbox: bounded, however fast an upstream answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from tests.support.stream import memory_stage
from wire.events import OVERHEAD, Citation, Delta, Drawing, Event, Started, size_of
from wire.line.claims import Claim
from wire.seal import Seal
from wire.stream.memory import MemoryChannel, MemoryLine
from wire.stream.outbox import LOG_BYTES, Outbox
from wire.stream.publication import FULL, Publication
from wire.stream.unread import MOST, MOST_BYTES, MOST_UNREAD, Unread

SEAL = Seal(bytes(32))
CLAIM = Claim("main", "account", "chat", "job", 1, "key", "gpt_4_s", ["front"], b"body")


class Piece(str):
    """A text that may only be joined with all others at once."""

    def __add__(self, other: object) -> str:
        raise AssertionError("adding piece by piece copies all pieces before it")

    __radd__ = __add__


@pytest.mark.parametrize("number", [100, 200])
def test_pieces_of_text_are_joined_once(number: int) -> None:
    publication = Publication(CLAIM)
    for n in range(number):
        publication.add([Delta(Piece(f"{n} "))])
    publication.add([Citation("1", None), Delta(Piece("a"), "code"), Delta(Piece("b"))])
    batch = publication.take()
    assert batch.events == [
        Delta("".join(f"{n} " for n in range(number))),
        Citation("1", None),
        Delta("a", "code"),
        Delta("b"),
    ]
    assert publication.take().events == []


class Blocked(MemoryChannel):
    """A channel that publishes nothing until it is released, and writes no logs."""

    def __init__(self) -> None:
        super().__init__()
        self.released = asyncio.Event()
        self.frames = 0

    async def publish(self, channel: str, frame: bytes) -> None:
        await self.released.wait()
        self.frames += 1

    async def append(self, entries: Mapping[str, bytes]) -> None:
        raise ConnectionError


async def test_an_attempt_that_is_faster_than_redis_waits_and_delays_no_other() -> None:
    channel = Blocked()
    line = MemoryLine(channel)
    line.start(CLAIM)
    outbox = Outbox(channel, line, SEAL, max_log_bytes=4 * LOG_BYTES)
    fast = Publication(CLAIM)
    fast.begun = True
    added = 0

    async def flood() -> None:
        nonlocal added
        while True:
            await outbox.publish(fast, [Delta("x"), Citation("1", None)])
            added += 2

    async with outbox.running():
        flooding = asyncio.create_task(flood())
        for _ in range(100):
            await asyncio.sleep(0)
        assert added <= 2 * (FULL / OVERHEAD)  # one batch in flight, one pending
        before = added
        channel.released.set()
        while channel.frames < 3:
            await asyncio.sleep(0)
        assert added > before
        flooding.cancel()


async def test_the_events_that_redis_does_not_log_are_bounded() -> None:
    channel = Blocked()
    channel.released.set()
    line = MemoryLine(channel)
    line.start(CLAIM)
    most = 3 * FULL
    outbox = Outbox(channel, line, SEAL, max_log_bytes=most)
    publication = Publication(CLAIM)
    publication.begun = True
    async with outbox.running(), asyncio.timeout(30):
        for _ in range(20):
            await outbox.publish(publication, [Delta("x" * FULL)])
            assert publication.unlogged_size <= most + 2 * FULL
        while not await line.log_incomplete("job"):
            await asyncio.sleep(0.01)
    assert publication.unlogged_size == 0


async def test_a_long_answer_is_logged_before_the_next_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wire.stream.outbox.LOG_STEP", 3600.0)
    stage = memory_stage()
    outbox = Outbox(stage.channel, stage.line, SEAL, max_log_bytes=100 * LOG_BYTES)
    publication = Publication(await stage.start("job"))
    async with outbox.running(), asyncio.timeout(30):
        await outbox.publish(publication, [Started("m")])
        logged = publication.logged_bytes
        await outbox.publish(publication, [Delta("x" * 2 * LOG_BYTES)])
        while publication.logged_bytes < logged + LOG_BYTES:
            await asyncio.sleep(0.01)


async def test_a_reader_takes_many_events_in_portions_and_short_ones_count() -> None:
    unread = Unread(1 << 20)
    given: list[Event] = [Drawing() for _ in range(3 * MOST)]
    given += [Delta(f"{n} " * 2000) for n in range(100)]
    assert unread.add(given[:1])
    assert unread.add(given[1:])
    taken: list[list[Event]] = []
    while unread.events:
        taken.append(await unread.take())
    assert [event for portion in taken for event in portion] == given
    assert max(map(len, taken)) == MOST
    assert all(sum(map(size_of, portion)) < 2 * MOST_BYTES for portion in taken)
    assert unread.backlog == 0
    assert unread.add([Delta("a")] * MOST)
    assert unread.add([Delta("a", "code")] * (MOST_UNREAD - MOST))
    assert not unread.add([Delta("a")])
