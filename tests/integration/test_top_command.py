"""`python -m app top` with a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from textual.pilot import Pilot

import app.__main__
import settings
from app.admin.operator import Operator
from app.commands.observer import Observer
from app.commands.screen import Question, Table, TopScreen
from benchmarks.line import WholeLine
from tests.support.line import claim, enqueue, new
from wire.line.admission import Refused
from wire.line.audit import Audit
from wire.redis.client import Redis
from wire.seal import Seal


@pytest.fixture
def config() -> settings.Settings:
    """Default settings."""
    return settings.Settings()


async def test_what_the_screen_shows_and_does_is_what_redis_has(
    queue: WholeLine, redis: Redis, seal: Seal, config: settings.Settings
) -> None:
    for id in ("job-1", "job-2", "job-3"):
        await enqueue(queue, id, key=f"key-of-{id}", model="gpt-4")
    [claimed] = await claim(queue, 1)
    observer = Observer(redis, config, seal)
    screen = TopScreen(observer.changes, observer.actions, Operator(name="ana", via="terminal"))
    async with screen.run_test(size=(80, 24)) as pilot:
        line = screen.query_one("#line", Table)
        await shows(pilot, lambda: len(line.rows) == 3)
        assert line.chosen
        assert (line.chosen.id, line.chosen.cells[3]) == (claimed.id, "running")
        line.move_cursor(row=1)
        cancelled = line.chosen.id
        await answer(pilot, "c")
        await shows(pilot, lambda: len(line.rows) == 2)
        await answer(pilot, "p")
        await shows(pilot, lambda: "paused by ana" in str(screen.query_one("#troubles").render()))
        assert isinstance(await queue.enqueue(new("job-4"), b"body"), Refused)
        await answer(pilot, "p")
        await shows(pilot, lambda: not str(screen.query_one("#troubles").render()).count("paused"))
    done = [
        (entry.who, entry.via, entry.action, entry.target) for entry in await Audit(redis).latest(9)
    ]
    assert done == [
        ("ana", "terminal", "resume", "all"),
        ("ana", "terminal", "pause", "all"),
        ("ana", "terminal", "cancel", f"job {cancelled}"),
    ]


async def answer(pilot: Pilot[str], key: str) -> None:
    """Press a key that asks, and say yes."""
    await pilot.press(key)
    await shows(pilot, lambda: isinstance(pilot.app.screen, Question))
    await pilot.press("y")


async def shows(pilot: Pilot[str], condition: Callable[[], bool]) -> None:
    """Wait until the screen shows something."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)
            await pilot.pause()


def test_without_a_terminal_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["app", "top"])
    with pytest.raises(SystemExit) as ended:
        app.__main__.main()
    assert ended.value.code == 2
    assert (
        "it needs a terminal; scripts use `python -m app status --json`" in capsys.readouterr().err
    )
