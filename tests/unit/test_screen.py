"""The screen of `python -m app top`, by its keys, in a terminal of 80 by 24."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
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
from app.commands.screen import Question, Table, TopScreen
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

    async def give(self, seen: Observation | Unreadable) -> None:
        self._given.put_nowait(seen)
        await self._given.join()


class Noting(TopScreen):
    """The screen, with notices that never go away."""

    def __init__(self, source: Source, acted: Recorder) -> None:
        super().__init__(source.changes, acted, WHO)
        self.notices: list[str] = []

    def notify(self, message: str, **_: object) -> None:
        self.notices.append(message)


class Screen:
    """The screen as its user sees it."""

    def __init__(self, app: Noting, pilot: Pilot[str], source: Source, acted: Recorder) -> None:
        self.app = app
        self.acted = acted
        self._pilot = pilot
        self._source = source

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self._pilot.press(key)

    async def answer(self, key: str, answer: str) -> None:
        """Press a key that asks, and answer."""
        await self.press(key)
        await self.until(lambda: isinstance(self.app.screen, Question))
        await self.press(answer)
        await self.until(lambda: not isinstance(self.app.screen, Question))

    async def hint(self, key: str) -> None:
        """Press a key that asks for something else first."""
        before = len(self.app.notices)
        await self.press(key)
        await self.until(lambda: len(self.app.notices) > before)

    async def give(self, seen: Observation | Unreadable) -> None:
        await self._source.give(seen)

    async def shows(self, *texts: str) -> None:
        await self.until(lambda: all(text in self.text for text in texts))

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await self._pilot.pause()

    def choose(self, table: str, row: int) -> None:
        found = self.app.query_one(f"#{table}", Table)
        found.focus()
        found.move_cursor(row=row)

    @property
    def text(self) -> str:
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(part.text for part in strip) for strip in strips)


@asynccontextmanager
async def shown() -> AsyncIterator[Screen]:
    source, acted = Source(), Recorder()
    app = Noting(source, acted)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = Screen(app, pilot, source, acted)
        await screen.give(BUSY)
        await screen.shows("telegram-bot")
        yield screen


async def test_everything_is_on_one_screen_of_80_by_24() -> None:
    async with shown() as screen:
        # The widest cells are cut, and no column is lost.
        await screen.shows("nightly-repo… qwen3-8b", "TOKENS", "OLDEST", "IN USE", "LAG", "q Quit")
        await screen.shows("free slot", "dora", "gw-1:2210")
        lines = screen.text.splitlines()
        assert len(lines) == 24
        assert lines[0].startswith("slots 5/7  waiting 8  wait p50 6s p95 26s  157 tokens/s")
        assert lines[1].startswith("account main/dora cools down (rate limited)")
        await screen.press("question_mark")
        await screen.shows("drain the chosen worker")
        await screen.press("escape", "q")
        await screen.until(lambda: screen.app._exit)


FIRST, SECOND = BOARD.running[:2]


async def test_an_action_asks_once_and_is_about_the_chosen_row() -> None:
    async with shown() as screen:
        for table, row, key, *asked in (
            ("line", 1, "c", "cancel", SECOND.id),
            ("keys", 1, "p", "pause", "key", "b2"),
            ("accounts", 0, "p", "pause", "upstream", "llama"),
            ("accounts", 2, "w", "wake", "main/dora"),
            ("accounts", 4, "w", "pause", "account", "main/anna"),
            ("processes", 0, "d", "drain", "w1"),
        ):
            screen.acted.asked.clear()
            screen.choose(table, row)
            await screen.answer(key, "y")
            await screen.until(lambda: screen.acted.asked)
            assert screen.acted.asked == [("ana", *asked)]
        await screen.until(lambda: "Nothing was changed: Redis is gone." in screen.app.notices)
        assert screen.app.notices[0] == "The job is cancelled."


async def test_nothing_is_done_without_a_yes_or_a_fitting_row() -> None:
    async with shown() as screen:
        screen.choose("line", 1)
        await screen.press("c")
        await screen.give(replace(BUSY, board=replace(BOARD, running=[], waiting_total=1)))
        await screen.press("n")
        await screen.shows("waiting 1 ")  # the line went on behind the question
        await screen.hint("d")  # there is no worker in it
        screen.choose("accounts", 0)
        await screen.hint("w")  # it is no account
        screen.choose("processes", 2)
        await screen.hint("d")  # a front end
        assert screen.acted.asked == []


async def test_the_chosen_job_stays_chosen_while_the_line_moves_or_is_filtered() -> None:
    async with shown() as screen:
        screen.choose("line", 2)
        await screen.give(replace(BUSY, board=replace(BOARD, running=BOARD.running[2:])))
        await screen.until(lambda: "wechat-bot    gpt-4         running" not in screen.text)
        await screen.press("slash", *"desk", "enter")
        await screen.until(lambda: "translator" not in screen.text)
        await screen.answer("c", "y")
        await screen.until(lambda: screen.acted.asked)
        assert screen.acted.asked == [("ana", "cancel", BOARD.running[2].id)]
        await screen.press("escape")
        await screen.shows("translator")


async def test_pauses_are_shown_and_ended_and_an_outage_of_redis_is_called_so() -> None:
    async with shown() as screen:
        job = replace(FIRST, model="[red]a\x1b[2J\nb[/]")
        pauses = [Pause(what="all", by="bob")]
        board = replace(BOARD, pauses=pauses, running=[job])
        await screen.give(replace(BUSY, board=board))
        await screen.shows("intake is paused by bob", "[red]a?[2J?b…")
        await screen.answer("p", "y")
        await screen.until(lambda: screen.acted.asked)
        assert screen.acted.asked == [("ana", "resume", "all", "")]
        await screen.give(Unreadable(reason="connection refused"))
        await screen.shows("Redis cannot be used (connection refused); this is old", "telegram-bot")
        await screen.give(BUSY)
        await screen.until(lambda: "Redis cannot be used" not in screen.text)
