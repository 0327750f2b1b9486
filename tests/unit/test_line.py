"""Requests of thousands of clients on their way into the line."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

import settings
from app import line as line_module
from app.auth import Caller
from app.line import ENQUEUES, Line, SealedJob
from app.openai.errors import LineUnavailable
from app.scheduling import Scheduling
from wire.line.admission import Accepted, NewJob
from wire.line.front_end import FrontEndLine
from wire.redis.client import connect
from wire.seal import Seal
from wire.stream.inbox import Inbox
from wire.stream.reply import Reply


class BusyRedis:
    """The line in a Redis that answers once `gate` is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.active = self.most = 0

    async def enqueue(self, new: NewJob, body: bytes) -> Accepted:
        self.active += 1
        self.most = max(self.most, self.active)
        await self.gate.wait()
        self.active -= 1
        return Accepted(1, 0.0)


class Subscribed:
    """An inbox that receives."""

    def __init__(self) -> None:
        self.subscribed = asyncio.Event()
        self.subscribed.set()

    def open(self, job: str) -> Reply:
        return Reply(job, 1000)


def job(number: int) -> SealedJob:
    return SealedJob(f"job-{number}", "gpt_4_s", Caller(f"{number}", ""), b"sealed", 6)


def busy_line() -> tuple[Line, BusyRedis]:
    redis = BusyRedis()
    line = Line(
        settings.Settings(),
        Seal(b"secret"),
        cast(FrontEndLine, redis),
        cast(Inbox, Subscribed()),
        "front",
    )
    return line, redis


async def test_thousands_of_requests_wait_for_the_connections_to_redis() -> None:
    line, redis = busy_line()
    asked = [asyncio.ensure_future(line.submit(job(n), Scheduling())) for n in range(2000)]
    while redis.active < ENQUEUES:
        await asyncio.sleep(0)
    redis.gate.set()
    tickets = await asyncio.gather(*asked)
    assert [ticket.id for ticket in tickets] == [f"job-{n}" for n in range(2000)]
    assert redis.most == ENQUEUES


async def test_a_request_does_not_wait_forever_for_a_connection_to_redis(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(line_module, "ENQUEUE_PATIENCE", 0.01)
    line, redis = busy_line()
    asked = [asyncio.ensure_future(line.submit(job(n), Scheduling())) for n in range(ENQUEUES)]
    while redis.active < ENQUEUES:
        await asyncio.sleep(0)
    with pytest.raises(LineUnavailable):
        await line.submit(job(99), Scheduling())
    redis.gate.set()
    await asyncio.gather(*asked)


def test_redis_has_connections_left_for_everything_else() -> None:
    url = settings.Redis().role_url
    assert connect(url).connection_pool.max_connections >= ENQUEUES + 20
