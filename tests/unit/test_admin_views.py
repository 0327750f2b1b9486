"""Views of the operators' page are rendered once for all readers, and only changes are sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence

import pytest
from msgspec.structs import replace

from app.admin.boards import Boards, NamedBoard, RedisGone, Unreadable
from app.admin.ledger import Ledger
from app.admin.page import views
from app.admin.page.look import Look
from app.admin.page.views import Asked, Views
from app.admin.sources import Sources
from tests.support import boards
from wire.line.board import BoardJob

LOOK = Look("en", "/admin")


class FakeBoards(Boards):
    """Boards that a test has made, one after the other."""

    def __init__(self, shown: Sequence[NamedBoard | Unreadable]) -> None:
        self._shown = shown

    async def changes(self) -> AsyncGenerator[NamedBoard | Unreadable]:
        """Yield the boards."""
        for each in self._shown:
            yield each


class FakeSources(Sources):
    """Sources without Redis, which count their readings."""

    def __init__(self, shown: Sequence[NamedBoard | Unreadable] = ()) -> None:
        self.boards = FakeBoards(shown)
        self.readings = 0
        self.fails = False

    async def ledger(self) -> Ledger:
        """Return 1,000 keys."""
        self.readings += 1
        await asyncio.sleep(0)
        if self.fails:
            raise RedisGone
        return Ledger(day="2026-11-28", keys=boards.key_entries(1000), others={})

    async def waiting(self, offset: int, limit: int, key: str) -> list[BoardJob]:
        """Return a page of 5,000 waiting jobs."""
        self.readings += 1
        return boards.waiting_jobs(min(limit, max(0, 5000 - offset)), offset)

    async def names(self, board: NamedBoard, jobs: Sequence[BoardJob]) -> dict[str, str]:
        """Return the names on the board."""
        return board.names

    async def jobs_of(self, keys: Sequence[str]) -> list[tuple[int, int]]:
        """Return numbers of jobs."""
        return [(3, 1)] * len(keys)

    def hmac_of(self, id: str) -> str:
        """Return a name that no board has."""
        return id


@pytest.fixture
def sources() -> FakeSources:
    return FakeSources()


async def test_readers_of_one_view_share_a_rendering(sources: FakeSources) -> None:
    shared, board = Views(sources), boards.busy_board()
    asked = Asked(view="keys")
    drawn = await asyncio.gather(*(shared.rendered(LOOK, asked, board) for _ in range(10)))
    assert sources.readings == 1
    assert all(each is drawn[0] for each in drawn)
    await shared.rendered(Look("zh", "/admin"), asked, board)
    await shared.rendered(LOOK, asked, replace(board, at=board.at + 1))
    assert sources.readings == 3


async def test_a_rendering_that_failed_is_made_again(sources: FakeSources) -> None:
    shared, board = Views(sources), boards.busy_board()
    sources.fails = True
    with pytest.raises(RedisGone):
        await shared.rendered(LOOK, Asked(view="keys"), board)
    sources.fails = False
    assert await shared.rendered(LOOK, Asked(view="keys"), board)


async def test_readers_who_ask_for_much_fill_no_memory(sources: FakeSources) -> None:
    shared, board = Views(sources), boards.busy_board()
    for number in range(views.KEPT + 20):
        await shared.rendered(LOOK, Asked(view="keys", q=f"{number}"), board)
    assert len(shared._shown) == views.KEPT


async def test_a_page_of_a_long_line_has_fifty_jobs_and_the_way_on(sources: FakeSources) -> None:
    shared, board = Views(sources), boards.busy_board()
    html = {}
    for by, offset in (("turn", 0), ("arrival", 4950), ("arrival", 6000)):
        asked = Asked(view="line", by=by, offset=offset)  # type: ignore[arg-type]  # a literal
        html[offset] = (await shared.rendered(LOOK, asked, board))[-1].html
    assert html[0].count("data-key") == html[4950].count("data-key") == 50
    assert "/admin/line?by=arrival" in html[0]
    assert "4,951–5,000 of 5,000" in html[4950]
    assert "Next" not in html[4950]
    assert "No job waits" in html[6000]
    assert "Previous" in html[6000]


@pytest.fixture
def changes() -> Callable[[Sequence[NamedBoard | Unreadable]], AsyncGenerator[bytes]]:
    """Function that returns the events of the view of processes for some boards."""

    def of(shown: Sequence[NamedBoard | Unreadable]) -> AsyncGenerator[bytes]:
        return Views(FakeSources(shown)).changes(LOOK, Asked(view="processes"))

    return of


async def test_only_regions_that_differ_are_sent(
    changes: Callable[[Sequence[NamedBoard | Unreadable]], AsyncGenerator[bytes]],
) -> None:
    board = boards.busy_board()
    drained = replace(board, processes=[p for p in board.processes if p.role == "front_end"])
    shown = (
        board,
        replace(board, at=board.at + 1),
        Unreadable(reason="refused"),
        Unreadable(reason="refused"),
        replace(drained, at=board.at + 4),
    )
    sent = [json.loads(event.split(b"data: ")[1])["regions"] async for event in changes(shown)]
    assert [list(regions) for regions in sent] == [
        ["notices", "workers", "front_ends"],
        ["notices"],
        ["notices", "workers"],
    ]
    assert "Redis is unreachable" in sent[1]["notices"]
    assert sent[2]["notices"] == ""
    assert "No worker runs" in sent[2]["workers"]
