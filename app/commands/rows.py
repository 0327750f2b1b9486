"""Rows of the tables of `python -m app top`, made of an observation. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Literal

import msgspec

from app.admin.boards import NamedBoard
from app.commands.durations import short_duration
from app.commands.observer import Observation
from wire.line.board import BoardAccount, BoardJob
from wire.line.history import WAITS, quantile, total
from wire.line.processes import ProcessFigures

Tone = Literal["", "good", "warning", "bad", "dim"]


class Column(msgspec.Struct, frozen=True):
    """A column of a table. It gets `share` of the width that all columns leave."""

    title: str
    width: int
    share: int = 0


class Row(msgspec.Struct, frozen=True):
    """A row. `id` names what an action would be about."""

    id: str
    cells: tuple[str, ...]
    tone: Tone = ""


LINE = (
    Column("PLACE", 6),
    Column("KEY", 13, 2),
    Column("MODEL", 13, 2),
    Column("STATE", 8),
    Column("WHY", 16, 2),
    Column("WAIT", 7),
    Column("AGE", 6),
    Column("TOKENS", 7),
)
KEYS = (
    Column("KEY", 15, 1),
    Column("RUN", 5),
    Column("WAIT", 6),
    Column("OLDEST", 7),
    Column("", 6),
)
ACCOUNTS = (
    Column("UPSTREAM, ACCOUNT", 17, 1),
    Column("STATE", 8),
    Column("IN USE", 7),
    Column("FOR", 6),
)
PROCESSES = (
    Column("PROCESS", 15, 1),
    Column("ROLE", 7),
    Column("WORK", 6),
    Column("MEM", 5),
    Column("LAG", 6),
)

_WHY = {
    "slot": "free slot",
    "key": "limit of its key",
    "account": "account is full",
    "cooling": "cools down",
    "parked": "model used up",
    "paused": "paused",
    "retry": "tried again",
    "circuit": "upstream fails",
    "no_worker": "no worker",
    "settling": "settling",
}
_NORMAL = ("slot", "key", "account")
"""Reasons to wait that are no trouble."""

_STATE = {
    "circuit_open": "fails",
    "refuses_us": "refuses",
    "no_worker": "unserved",
    "parked": "used up",
}


USABLE = ("ready", "full")
"""States of an account that is not in trouble."""


def widths(columns: Sequence[Column], width: int) -> list[int]:
    """Widths of columns in a table of this width; the first ones get what cannot be divided."""
    left = max(0, width - sum(column.width for column in columns))
    shares = sum(column.share for column in columns) or 1
    return [column.width + left * column.share // shares for column in columns]


def line_rows(board: NamedBoard) -> Iterator[Row]:
    """The running jobs, then those that go next."""
    for job in chain(board.running, board.waiting):
        place = str(job.place or "") if job.state == "waiting" else "-"
        yield Row(
            job.id,
            (
                place,
                board.name_of(job.key),
                job.model,
                job.state,
                _why(job, board.at),
                _wait(job),
                short_duration(board.at - job.arrived),
                str(job.tokens or ""),
            ),
            _tone(job),
        )


def _why(job: BoardJob, now: float) -> str:
    if job.state != "waiting":
        return job.account if "/" in job.account else job.upstream
    left = f" {short_duration(job.until - now)}" if job.until else ""
    return _WHY.get(job.why or "", job.why or "") + left


def _wait(job: BoardJob) -> str:
    """The forecast of a waiting job, and the wait that a running one had."""
    if job.state == "waiting":
        return "" if job.wait is None else f"~{short_duration(job.wait)}"
    return short_duration(job.claimed - job.arrived) if job.claimed else ""


def _tone(job: BoardJob) -> Tone:
    if job.state == "running":
        return "good"
    return "" if job.why in _NORMAL else "warning"


def key_rows(board: NamedBoard) -> Iterator[Row]:
    """The keys with the most jobs, and all that are paused."""
    paused = [pause.name for pause in board.pauses if pause.what == "key"]
    for flow in board.flows:
        oldest = short_duration(board.at - flow.oldest) if flow.oldest else ""
        numbers = (str(flow.running or ""), str(flow.waiting or ""), oldest)
        yield _key_row(board, flow.key, numbers, is_paused=flow.paused or flow.key in paused)
    shown = {flow.key for flow in board.flows}
    for key in paused:
        if key not in shown:
            yield _key_row(board, key, ("", "", ""), is_paused=True)


def _key_row(board: NamedBoard, key: str, numbers: Sequence[str], *, is_paused: bool) -> Row:
    cells = (board.name_of(key), *numbers, "paused" if is_paused else "")
    return Row(key, cells, "warning" if is_paused else "")


def account_rows(board: NamedBoard) -> Iterator[Row]:
    """The upstreams, each with its accounts, those in trouble first; then keys' own accounts that
    cannot be used."""
    for upstream in board.upstreams:
        yield Row(
            f"upstream {upstream.name}",
            (
                upstream.name,
                _STATE.get(upstream.state, upstream.state),
                f"{upstream.held}/{upstream.slots}",
                _left(upstream.until, board.at),
            ),
            "good" if upstream.state == "ready" else "bad",
        )
        for account in sorted(upstream.accounts, key=lambda each: each.state in USABLE):
            name = account.account.removeprefix(f"{upstream.name}/")
            yield _account_row(account, f"  {name}", board.at)
    for account in board.own_accounts:
        yield _account_row(account, board.name_of(account.account), board.at)


def _account_row(account: BoardAccount, name: str, now: float) -> Row:
    until = account.until or min(account.parked.values(), default=None)
    in_use = f"{account.held}/{account.learned or account.slots}"
    cells = (name, _STATE.get(account.state, account.state), in_use, _left(until, now))
    tones: dict[str, Tone] = {"ready": "", "full": "", "aside": "bad"}
    return Row(f"account {account.account}", cells, tones.get(account.state, "warning"))


def process_rows(processes: Iterable[ProcessFigures]) -> Iterator[Row]:
    """The workers, then the front ends."""
    for process in sorted(processes, key=lambda each: each.role == "front_end"):
        is_worker = process.role == "worker"
        work = f"{process.jobs}/{process.max_jobs}" if is_worker else str(process.streams)
        role = "drains" if process.draining else "worker" if is_worker else "front"
        yield Row(
            process.id,
            (
                f"{process.host}:{process.pid}",
                role,
                work,
                f"{process.memory >> 20}M",
                f"{process.lag * 1000:.0f}ms",
            ),
            "dim" if process.draining else "warning" if process.lag > 0.5 else "",
        )


def _left(until: float | None, now: float) -> str:
    return short_duration(until - now) if until and until > now else ""


def filtered(rows: Iterable[Row], text: str) -> list[Row]:
    """Rows with a text in one of their cells or their id, in any case."""
    wanted = text.casefold()
    return [row for row in rows if any(wanted in each.casefold() for each in (row.id, *row.cells))]


def headline(seen: Observation) -> str:
    """Slots, waiting jobs, waits of the last hour, and tokens of the last minute."""
    board = seen.board
    parts = [f"slots {board.running_total}/{board.slots}", f"waiting {board.waiting_total}"]
    waits = total(seen.minutes).waits
    median, worst = quantile(0.5, waits, WAITS), quantile(0.95, waits, WAITS)
    if median is not None and worst is not None:
        parts.append(f"wait p50 {short_duration(median)} p95 {short_duration(worst)}")
    if seen.minutes:
        latest = seen.minutes[-1]
        parts.append(f"{latest.output_tokens / latest.seconds:.0f} tokens/s")
    return "  ".join(parts)
