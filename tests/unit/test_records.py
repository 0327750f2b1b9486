"""Replies of the scripts become what operators see: times in seconds, states, names."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from wire.line.board import (
    AccountState,
    BoardAccount,
    BoardJob,
    Pause,
    Requeue,
    Story,
    UpstreamState,
)
from wire.line.records import FIELDS, read_account, read_ending, read_job, read_upstream

NOW = 1000.0


def job(*rest: Any, **fields: str) -> list[Any]:
    """A row about a job with these fields, place, wait, reason and time."""
    values = [fields[name].encode() if name in fields else None for name in FIELDS]
    return [b"job", values, *rest]


def test_a_waiting_job_has_its_place_and_reason_and_times_in_seconds() -> None:
    row = job(3, 4500, b"parked", 1_060_000, state="waiting", arrived="1000500", predicted="2500")
    found = read_job(row, BoardJob)
    assert (found.place, found.wait, found.why, found.until) == (3, 4.5, "parked", 1060.0)
    assert (found.id, found.arrived, found.predicted) == ("job", 1000.5, 2.5)


def test_a_running_job_has_neither_and_an_unknown_first_token_if_an_older_release_began_it() -> (
    None
):
    row = job(0, 0, b"", b"", state="running", published="1", claimed="1001000", tokens="7")
    found = read_job(row, BoardJob)
    assert (found.place, found.wait, found.why, found.until) == (None, None, None, None)
    assert (found.first_token, found.claimed, found.tokens) == (None, 1001.0, 7)
    row = job(0, 0, b"", b"", state="running", published="1002000")
    assert read_job(row, BoardJob).first_token == 1002.0


def test_an_ending_is_read_as_the_script_packs_it() -> None:
    requeued = '[{"at":1002000,"reason":"worker_lost","claimed":1001000,"upstream":"gpu"}]'
    packed = msgspec.msgpack.encode(
        {
            "id": "job",
            "state": "failed",
            "reason": "upstream_error",
            "model": "gpt%204",
            "attempt": "1003000",
            "requeued": requeued,
            "ended": 1_004_000.0,
            "slot_ms": 2500,
            "tier": "1",
        }
    )
    found = read_ending(packed, Story)
    assert (found.state, found.reason, found.model) == ("failed", "upstream_error", "gpt 4")
    assert (found.attempt, found.ended, found.slot_ms) == (1003000, 1004.0, 2500)
    assert found.requeues == [
        Requeue(at=1002.0, reason="worker_lost", claimed=1001.0, upstream="gpu")
    ]


def account(held: int = 0, aside: bytes = b"", until: int = 0, learned: int = 0) -> list[Any]:
    return [b"gpu/a", 2, learned, held, aside, until, 0]


@pytest.mark.parametrize(
    ("row", "parked", "state", "until"),
    [
        (account(), {}, "ready", None),
        (account(held=2), {}, "full", None),
        (account(held=1, learned=1), {}, "full", None),
        (account(until=1_010_000), {}, "cooling", 1010.0),
        (account(until=999_000), {}, "ready", None),
        (account(), {"a": 1060.0}, "parked", None),
        (account(until=1_010_000), {"a": 1060.0}, "cooling", 1010.0),
        (account(aside=b"token_refused", until=1_010_000), {}, "aside", 1010.0),
        (account(aside=b"token_refused"), {}, "aside", None),
    ],
)
def test_an_account_has_the_state_that_keeps_it_from_jobs(
    row: list[Any], parked: dict[str, float], state: AccountState, until: float | None
) -> None:
    found = read_account(row, NOW, parked)
    assert (found.state, found.until, found.parked) == (state, until, parked)
    pause = Pause(what="account", name="gpu/a", until=1060.0)
    found = read_account(row, NOW, parked, pause, "gpu")
    assert (found.state, found.until, found.parked) == ("paused", 1060.0, parked)


READY, ASIDE = BoardAccount(account="gpu/a"), BoardAccount(account="gpu/b", state="aside")


@pytest.mark.parametrize(
    ("served", "open_for", "accounts", "state"),
    [
        (1, -1, [READY, ASIDE], "ready"),
        (1, -1, [], "ready"),
        (1, -1, [ASIDE], "refuses_us"),
        (1, 0, [READY], "circuit_open"),
        (0, 0, [READY], "no_worker"),
    ],
)
def test_an_upstream_has_the_state_that_keeps_it_from_jobs(
    served: int, open_for: int, accounts: list[BoardAccount], state: UpstreamState
) -> None:
    row = [served, 4, 4, 1, open_for, 7, [b"chat:a"], [], 5, []]
    found = read_upstream("gpu", row, NOW, accounts)
    assert found.state == state
    assert (found.more_lanes, found.more_accounts) == (6, 5 - len(accounts))
    paused = read_upstream("gpu", row, NOW, accounts, Pause(what="upstream", name="gpu"))
    assert paused.state == ("paused" if served else "no_worker")
