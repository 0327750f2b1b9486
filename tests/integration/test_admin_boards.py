"""Boards with the names of keys, read once for all readers."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

import settings
from app.admin import boards
from app.admin.boards import Boards, NamedBoard, RedisGone, Unreadable
from local.redis import EmbeddedRedis
from wire.keyring import Keyring
from wire.line.board import Board, BoardFlow, BoardJob, Pause
from wire.line.operator import OperatorLine
from wire.line.scripts import Scripts
from wire.redis.client import Redis
from wire.seal import Seal

KEY = "1a2b3c4d" * 4


class Watched(OperatorLine):
    """A line that counts how often its board is read."""

    readings = 0
    flows: tuple[BoardFlow, ...] = ()
    paused: tuple[Pause, ...] = ()

    async def board(self) -> Board:
        self.readings += 1
        board = await super().board()
        return Board(at=board.at, flows=list(self.flows), pauses=list(self.paused))


@pytest.fixture
def line(redis: Redis, seal: Seal) -> Watched:
    return Watched(Scripts(redis, seal.fingerprint), settings.Queue())


@pytest.fixture
def read(line: Watched, redis: Redis, seal: Seal) -> Boards:
    return Boards(line, Keyring(redis, seal))


async def test_keys_have_the_names_that_operators_gave_them(
    read: Boards, line: Watched, redis: Redis, seal: Seal
) -> None:
    _, record = await Keyring(redis, seal).new("bot-a", {})
    line.flows = (
        BoardFlow(key="a" * 32, book=record.id),
        BoardFlow(key="b" * 32, book="0123456789abcdef"),
        BoardFlow(key=KEY),
    )
    board = await read.latest()
    assert board.flows == list(line.flows)
    assert board.names == {
        "a" * 32: "bot-a",
        "b" * 32: "key 01234567",
        KEY: "passthrough 1a2b3c4d",
    }
    assert [board.name_of(key) for key in (KEY, "c" * 32, "")] == [
        "passthrough 1a2b3c4d",
        "passthrough cccccccc",
        "",
    ]
    jobs = [BoardJob(id="j", state="waiting", key="a" * 32, book=record.id)]
    assert await read.named(jobs) == {"a" * 32: "bot-a"}


async def test_a_paused_key_without_a_job_has_its_name(
    read: Boards, line: Watched, redis: Redis, seal: Seal
) -> None:
    keyring = Keyring(redis, seal)
    _, record = await keyring.new("bot-a", {})
    key = keyring.key_of(record.id)
    line.paused = (Pause(what="key", name=key), Pause(what="key", name=KEY), Pause(what="all"))
    assert (await read.latest()).names == {key: "bot-a", KEY: "passthrough 1a2b3c4d"}


async def test_any_number_of_readers_share_one_reading(read: Boards, line: Watched) -> None:
    async def follow(number: int) -> list[NamedBoard | Unreadable]:
        async with aclosing(read.changes()) as changes:
            return [await anext(changes) for _ in range(number)]

    first, *others = await asyncio.gather(*(follow(2) for _ in range(50)))
    assert all(seen == first for seen in others)
    assert first[0] != first[1]
    assert line.readings == 2
    assert await read.latest() == first[1]
    assert line.readings == 2


async def test_nothing_is_read_without_readers(
    read: Boards, line: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boards, "INTERVAL", 0.01)
    async with aclosing(read.changes()) as changes:
        for _ in range(5):
            await anext(changes)
        seen = line.readings
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert line.readings == seen == 5


async def test_a_reader_that_leaves_does_not_end_the_reading_of_others(read: Boards) -> None:
    leaving, staying = (asyncio.ensure_future(read.latest()) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    assert (await staying).at


async def test_without_redis_readers_get_the_reason_and_then_boards_again(
    read: Boards, redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boards, "INTERVAL", 0.05)
    async with aclosing(read.changes()) as changes:
        assert isinstance(await anext(changes), NamedBoard)
        redis_server.stop()
        try:
            while isinstance(seen := await anext(changes), NamedBoard):
                pass
            assert seen.reason
            with pytest.raises(RedisGone):
                await read.latest()
        finally:
            redis_server.start()
        async with asyncio.timeout(30):
            while not isinstance(await anext(changes), NamedBoard):
                pass
