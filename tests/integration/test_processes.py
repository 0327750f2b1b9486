"""Figures of processes in a real Redis."""

from __future__ import annotations

import asyncio
import os

import pytest
from msgspec.structs import replace

from benchmarks.line import WholeLine
from settings import Queue, Settings
from tests.support.line import LASTING
from tests.support.requests import BEARER, BODY, CHAT
from tests.support.sanic_adapter import Client
from tests.support.scripted import HELLO, ScriptedUpstream
from wire.line import keys
from wire.line.processes import Processes, ProcessFigures
from wire.line.scripts import Scripts
from wire.redis.client import Redis
from wire.upkeep.processes import showing
from workers.worker import Worker

OWN = ProcessFigures(
    id="f1", role="front_end", host="a", pid=1, started=1.5, version=4, fingerprint="f"
)


@pytest.fixture
def config() -> Settings:
    return Settings(queue=replace(LASTING, heartbeat=0.05))


async def listed(processes: Processes) -> list[str]:
    return [each.id for each in await processes.list()]


async def test_processes_of_all_secrets_are_listed_until_their_figures_expire(
    redis: Redis,
) -> None:
    ours, theirs = (Processes(Scripts(redis, name), LASTING) for name in ("ours", "theirs"))
    brief = Processes(Scripts(redis, "ours"), Queue(lease=0.03, heartbeat=0.01))
    await ours.show(OWN)
    await theirs.show(replace(OWN, id="w1", role="worker", fingerprint="theirs"))
    await brief.show(replace(OWN, id="f2"))
    async with asyncio.timeout(30):
        while await listed(ours) != ["f1", "w1"]:
            await asyncio.sleep(0.02)
    assert (await theirs.list())[0] == OWN
    await ours.show(OWN)  # removes the expired id
    assert await redis.zcard(keys.processes) == 2
    await ours.remove("f1")
    assert await listed(ours) == ["w1"]


async def test_figures_that_only_another_release_can_read_are_omitted(
    redis: Redis, queue: WholeLine
) -> None:
    await queue.processes.show(OWN)
    await queue.processes.show(replace(OWN, id="new"))
    await redis.set(keys.process("new"), b'{"id": "new", "role": "of another release"}')
    assert await listed(queue.processes) == ["f1"]


async def test_a_process_shows_itself_and_its_work_while_it_lives(
    redis: Redis, queue: WholeLine
) -> None:
    jobs = 2

    def add_work(figures: ProcessFigures) -> ProcessFigures:
        return replace(figures, jobs=jobs)

    async with showing(queue.processes, "w1", "worker", add_work, 0.01):
        async with asyncio.timeout(30):
            while not (found := await queue.processes.list()):
                await asyncio.sleep(0.01)
        assert (found[0].pid, found[0].jobs) == (os.getpid(), 2)
        assert found[0].memory > 1_000_000
        assert found[0].open_files > 3
        jobs = 3
        async with asyncio.timeout(30):
            while (await queue.processes.list())[0].jobs != jobs:
                await asyncio.sleep(0.01)
    assert await listed(queue.processes) == []


async def test_processes_show_their_work_and_a_draining_worker_says_so(
    client: Client, worker: Worker, upstream: ScriptedUpstream
) -> None:
    over = asyncio.Event()
    upstream.script = (HELLO[:1], over, HELLO[1:])
    processes = worker.line.processes

    async def shown() -> list[tuple[str, int, int, bool]]:
        found = await processes.list()
        return [(each.role, each.streams, each.jobs, each.draining) for each in found]

    answer = asyncio.create_task(client.post(CHAT, json=BODY, headers=BEARER))
    async with asyncio.timeout(30):
        while await shown() != [("front_end", 1, 0, False), ("worker", 0, 1, False)]:
            await asyncio.sleep(0.01)
        worker.drain()
        while await shown() != [("front_end", 1, 0, False), ("worker", 0, 1, True)]:
            await asyncio.sleep(0.01)
        over.set()
        assert (await answer).status_code == 200
        while await shown() != [("front_end", 0, 0, False)]:
            await asyncio.sleep(0.01)
