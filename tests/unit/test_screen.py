"""The screen of `python -m app top`, by its keys, in a terminal of 80 by 24."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec.structs import replace
from textual.pilot import Pilot

from app.admin.actions import (
    ActionError,
    Actions,
    CancelResult,
    DrainResult,
    PauseResult,
    ResumeResult,
    WakeResult,
)
from app.admin.boards import Unreadable
from app.admin.operator import Operator
from app.commands.observer import Observation
from app.commands.screen import Table, TopScreen
from tests.support.observed import BOARD, BUSY
from wire.line.board import Pause, PauseKind

WHO = Operator(name="ana", via="terminal")


class Recorder(Actions):
    """Actions that only note what they were asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    async def cancel(self, who: Operator, id: str) -> CancelResult:
        self.asked.append((who.name, "cancel", id))
        return CancelResult("cancelled", id, "cancelled")

    async def pause(
        self, who: Operator, what: PauseKind, name: str = "", seconds: float | None = None
    ) -> PauseResult:
        self.asked.append((who.name, "pause", what, name))
        return PauseResult("paused", Pause(what=what, name=name))

    async def resume(self, who: Operator, what: PauseKind, name: str = "") -> ResumeResult:
        self.asked.append((who.name, "resume", what, name))
        return ResumeResult("resumed", what, name)

    async def wake(self, who: Operator, account: str) -> WakeResult:
        self.asked.append((who.name, "wake", account))
        return WakeResult("woken", account)

    async def drain(self, who: Operator, worker: str) -> DrainResult:
        self.asked.append((who.name, "drain", worker))
        raise ActionError(503, "redis_unavailable", "Nothing was changed: Redis is gone.")


class Source:
    """Observations that a test gives."""

    def __init__(self) -> None:
        self._given: asyncio.Queue[Observation | Unreadable] = asyncio.Queue()

    async def changes(self) -> AsyncIterator[Observation | Unreadable]:
        while True:
            yield await self._given.get()
            self._given.task_done()

    async def give(self, seen: Observation | Unreadable, pilot: Pilot[str]) -> None:
        self._given.put_nowait(seen)
        await self._given.join()
        await pilot.pause()


class Screen:
    """The screen as its user sees it."""

    def __init__(self, app: TopScreen, pilot: Pilot[str], source: Source, acted: Recorder) -> None:
        self.app = app
        self.acted = acted
        self._pilot = pilot
        self._source = source

    async def press(self, *keys: str) -> None:
        await self._pilot.press(*keys)

    async def give(self, seen: Observation | Unreadable) -> None:
        await self._source.give(seen, self._pilot)

    def choose(self, table: str, row: int) -> None:
        found = self.app.query_one(f"#{table}", Table)
        found.focus()
        found.move_cursor(row=row)

    @property
    def text(self) -> str:
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(part.text for part in strip) for strip in strips)

    @property
    def notices(self) -> list[str]:
        return [notice.message for notice in self.app._notifications]


@asynccontextmanager
async def shown() -> AsyncIterator[Screen]:
    source, acted = Source(), Recorder()
    app = TopScreen(source.changes, acted, WHO)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = Screen(app, pilot, source, acted)
        await screen.give(BUSY)
        yield screen


async def test_everything_is_on_one_screen_of_80_by_24() -> None:
    async with shown() as screen:
        lines = screen.text.splitlines()
        assert len(lines) == 24
        assert lines[0].startswith("slots 5/7  waiting 8  wait p50 6s p95 26s  157 tokens/s")
        assert lines[1].startswith("account main/dora cools down (rate limited)")
        for text in ("telegram-bot", "free slot", "dora", "gw-1:2210", "q Quit"):
            assert text in screen.text
        # The widest cells are cut, and no column is lost.
        assert "nightly-repo… qwen3-8b" in screen.text
        assert all(title in screen.text for title in ("TOKENS", "OLDEST", "IN USE", "LAG"))
        await screen.press("question_mark")
        assert "drain the chosen worker" in screen.text
        await screen.press("escape", "q")
        assert screen.app._exit


FIRST, SECOND = BOARD.running[:2]


async def test_an_action_asks_once_and_is_about_the_chosen_row() -> None:
    async with shown() as screen:
        for table, row, keys, *asked in (
            ("line", 1, "cy", "cancel", SECOND.id),
            ("line", 1, "cn"),
            ("line", 0, "d"),  # there is no worker in it
            ("line", 0, "py", "pause", "all", ""),
            ("keys", 1, "py", "pause", "key", "b2"),
            ("accounts", 0, "py", "pause", "upstream", "llama"),
            ("accounts", 0, "w"),  # it is no account
            ("accounts", 2, "wy", "wake", "main/dora"),
            ("accounts", 4, "wy", "pause", "account", "main/anna"),
            ("processes", 0, "dy", "drain", "w1"),
            ("processes", 2, "d"),  # a front end
        ):
            screen.acted.asked.clear()
            screen.choose(table, row)
            await screen.press(*keys)
            assert screen.acted.asked == ([("ana", *asked)] if asked else [])
        assert "The job is cancelled." in screen.notices
        assert "Nothing was changed: Redis is gone." in screen.notices


async def test_the_chosen_job_stays_chosen_while_the_line_moves_or_is_filtered() -> None:
    async with shown() as screen:
        screen.choose("line", 2)
        await screen.give(replace(BUSY, board=replace(BOARD, running=BOARD.running[2:])))
        assert "wechat-bot    gpt-4         running" not in screen.text
        await screen.press("slash", *"desk", "enter", "c", "y")
        assert screen.acted.asked == [("ana", "cancel", BOARD.running[2].id)]
        assert "translator" not in screen.text
        await screen.press("escape")
        assert "translator" in screen.text


async def test_pauses_are_shown_and_ended_and_an_outage_of_redis_is_called_so() -> None:
    async with shown() as screen:
        job = replace(FIRST, model="[red]a\x1b[2J\nb[/]")
        pauses = [Pause(what="all", by="bob")]
        board = replace(BOARD, pauses=pauses, running=[job])
        await screen.give(replace(BUSY, board=board))
        assert "intake is paused by bob" in screen.text
        assert "[red]a?[2J?b…" in screen.text
        await screen.press("p", "y")
        assert screen.acted.asked == [("ana", "resume", "all", "")]
        await screen.give(Unreadable(reason="connection refused"))
        assert "Redis cannot be used (connection refused); this is old" in screen.text
        assert "telegram-bot" in screen.text
        await screen.give(BUSY)
        assert "Redis cannot be used" not in screen.text
