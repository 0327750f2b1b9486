"""Rows of the tables of `python -m app top`."""

from __future__ import annotations

from msgspec.structs import replace

from app.commands import rows
from tests.support.observed import BOARD, BUSY, NOW, PROCESSES
from wire.line.board import Pause


def test_running_jobs_come_first_then_the_line_each_with_the_reason_to_wait() -> None:
    cells = [row.cells for row in rows.line_rows(BOARD)]
    assert cells[0] == (
        *("-", "telegram-bot", "gpt-4", "running", "main/anna", "26s", "1m04s", "412"),
    )
    assert cells[3][4] == "llama"
    assert cells[5] == ("1", "translator", "gpt-4", "waiting", "free slot", "~6s", "31s", "")
    assert cells[9][4] == "model used up 1m35s"
    tones = {row.cells[4].rstrip("0123456789ms "): row.tone for row in rows.line_rows(BOARD)}
    assert tones["limit of its key"] == ""
    assert tones["tried again"] == "warning"


def test_a_paused_key_without_jobs_is_shown_so_that_it_can_be_resumed() -> None:
    pauses = [Pause(what="key", name=key) for key in ("a1", "ffffffffffff")]
    shown = {row.id: row for row in rows.key_rows(replace(BOARD, pauses=pauses))}
    assert shown["a1"].cells == ("telegram-bot", "1", "2", "1m04s", "paused")
    assert shown["ffffffffffff"].cells == ("passthrough ffffffff", "", "", "", "paused")
    assert shown["b2"].cells[-1] == ""


def test_accounts_in_trouble_come_first_below_their_upstream() -> None:
    shown = [(row.id, *row.cells) for row in rows.account_rows(BOARD)]
    assert shown[:4] == [
        ("upstream llama", "llama", "ready", "2/4", ""),
        ("upstream main", "main", "ready", "3/3", ""),
        ("account main/dora", "  dora", "cooling", "0/1", "2m20s"),
        ("account main/emil", "  emil", "aside", "0/1", ""),
    ]


def test_workers_come_before_front_ends() -> None:
    draining = [replace(process, draining=process.id == "w2") for process in PROCESSES]
    shown = [row.cells for row in rows.process_rows(draining)]
    assert shown[0] == ("gw-1:2210", "worker", "3/16", "84M", "4ms")
    assert shown[1][1] == "drains"
    assert shown[2] == ("gw-1:2201", "front", "7", "98M", "4ms")


def test_a_filter_looks_at_every_cell_and_at_the_id_in_any_case() -> None:
    every = list(rows.line_rows(BOARD))
    assert {row.cells[1] for row in rows.filtered(every, "WECHAT")} == {"wechat-bot"}
    assert [row.id for row in rows.filtered(every, every[3].id)] == [every[3].id]
    assert rows.filtered(every, "") == every


def test_the_columns_share_the_width_and_fit_into_80_of_them() -> None:
    assert sum(rows.widths(rows.LINE, 79)) <= 79
    assert max(sum(column.width for column in each) for each in (rows.KEYS, rows.ACCOUNTS)) < 40
    assert sum(rows.widths(rows.LINE, 200)) >= 197


def test_the_headline_has_waits_and_tokens_once_there_is_a_history() -> None:
    assert rows.headline(BUSY) == "slots 5/7  waiting 8  wait p50 6s p95 26s  157 tokens/s"
    assert rows.headline(replace(BUSY, minutes=[])) == "slots 5/7  waiting 8"


def test_a_job_without_a_forecast_has_none() -> None:
    job = replace(BOARD.waiting[0], place=None, wait=None, why=None, arrived=NOW - 2)
    [row] = rows.line_rows(replace(BOARD, running=[], waiting=[job]))
    assert row.cells == ("", "translator", "gpt-4", "waiting", "", "", "2s", "")
