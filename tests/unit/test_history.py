"""Figures of minutes: what was gained in each, and quantiles of their buckets."""

from __future__ import annotations

import asyncio

import pytest

from runtime.tasks import background
from wire.line.history import (
    FIRST_TOKENS,
    WAITS,
    Counts,
    History,
    Minute,
    Turn,
    counts_of,
    next_minute,
    quantile,
    record_of,
    total,
)
from wire.line.metrics import tally
from wire.line.snapshot import Snapshot, SortSnapshot
from wire.upkeep.history import keep_recording

SNAPSHOT = Snapshot(
    {"chat": SortSnapshot(7, 2, 3), "images": SortSnapshot(1, 1, 1)}, {}, workers=1, slots=4
)


def gained(before: Counts, now: Counts, minutes: int = 1) -> Minute:
    minute = next_minute(Turn(100 + minutes, 60.0, record_of(100, before)), now, SNAPSHOT)
    assert minute is not None
    return minute


def test_a_minute_has_the_gauges_of_its_end_and_what_was_counted_since_the_one_before() -> None:
    before = Counts(accepted=5, done=3, refusals={"key_full": 2}, waits=(1, 0, 2))
    now = Counts(
        accepted=9, done=4, failed=1, refusals={"key_full": 2, "line_full": 3}, waits=(1, 4, 2)
    )
    assert gained(before, now) == Minute(
        at=6060,
        waiting=8,
        running=3,
        slots=4,
        accepted=4,
        done=1,
        failed=1,
        refusals={"line_full": 3},
        waits=(0, 4, 0),
    )


def test_after_a_gap_the_counters_are_of_the_whole_time_since_the_last_recording() -> None:
    minute = gained(Counts(done=1), Counts(done=11), minutes=5)
    assert (minute.seconds, minute.done) == (300, 10)


def test_counters_that_began_at_zero_again_give_no_negative_figures() -> None:
    before = Counts(accepted=500, refusals={"line_full": 9}, input_tokens=7, waits=(9, 3))
    minute = gained(before, Counts(accepted=2, refusals={}, input_tokens=8, waits=(1, 4)))
    assert (minute.accepted, minute.input_tokens, minute.waits) == (2, 1, (1, 1))
    assert minute.refusals == {}


@pytest.mark.parametrize("before", [b"", b"of another release"])
def test_without_counters_of_before_nothing_is_known_of_a_minute(before: bytes) -> None:
    assert next_minute(Turn(101, 60.0, before), Counts(done=8000), SNAPSHOT) is None


def test_buckets_of_a_release_with_more_bounds_are_combined() -> None:
    assert gained(Counts(waits=(1,)), Counts(waits=(1, 2))).waits == (0, 2)


def test_a_sum_of_minutes_has_all_their_counts() -> None:
    minutes = [Minute(at=60 * n, done=n, refusals={"r": 1}, waits=(1, n)) for n in (1, 2, 3)]
    assert total(minutes) == Counts(done=6, refusals={"r": 3}, waits=(3, 6))
    assert total([]) == Counts()


def test_the_counts_are_those_of_the_metrics_over_all_lanes() -> None:
    counts = counts_of(
        tally(
            {
                b'gateway_jobs_total{lane="chat"}': b"9",
                b'gateway_jobs_total{lane="images"}': b"1",
                b'gateway_endings_total{lane="chat",reason="done"}': b"4",
                b'gateway_endings_total{lane="images",reason="done"}': b"1",
                b'gateway_endings_total{lane="chat",reason="cancelled"}': b"2",
                b'gateway_endings_total{lane="chat",reason="worker_lost"}': b"1",
                b'gateway_endings_total{lane="chat",reason="upstream_error"}': b"1",
                b'gateway_refusals_total{lane="chat",reason="circuit_open"}': b"6",
                b'gateway_usage_tokens_total{direction="input"}': b"70",
                b'gateway_usage_tokens_total{direction="output"}': b"20",
                b'gateway_wait_seconds_bucket{lane="chat",le="0.1"}': b"3",
                b'gateway_wait_seconds_bucket{lane="images",le="0.1"}': b"1",
                b'gateway_first_token_seconds_bucket{lane="chat",le="+Inf"}': b"2",
            }
        )
    )
    assert (counts.accepted, counts.done, counts.failed, counts.cancelled) == (10, 5, 2, 2)
    assert (counts.input_tokens, counts.output_tokens) == (70, 20)
    assert counts.refusals == {"circuit_open": 6}
    assert counts.waits == (4, *[0] * len(WAITS))
    assert counts.first_tokens == (*[0] * len(FIRST_TOKENS), 2)


async def test_recording_goes_on_after_an_outage_of_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wire.upkeep.history.RETRY", 0.0)
    recorded = asyncio.Event()
    turns: list[Turn | OSError] = [OSError("away"), Turn(0, 0.0, b""), Turn(7, 60.0, b"")]

    class Ring(History):
        def __init__(self) -> None:
            pass

        async def take_turn(self) -> Turn:
            turn = turns.pop(0)
            if isinstance(turn, OSError):
                raise turn
            return turn

        async def record(self, turn: Turn, snapshot: Snapshot) -> None:
            assert (turn.minute, snapshot) == (7, SNAPSHOT)
            recorded.set()

    async def take_snapshot() -> Snapshot:
        return SNAPSHOT

    async with background(keep_recording(Ring(), take_snapshot)), asyncio.timeout(30):
        await recorded.wait()
    assert turns == []


def test_quantiles_are_spread_over_their_bucket_and_end_at_the_last_bound() -> None:
    bounds = (1.0, 2.0, 4.0)
    assert quantile(0.5, (), bounds) is None
    assert quantile(0.5, (0, 0, 0, 0), bounds) is None
    assert quantile(0.5, (10, 0, 0, 0), bounds) == 0.5
    assert quantile(0.75, (2, 0, 2, 0), bounds) == 3.0
    assert quantile(0.5, (2, 0, 2, 0), bounds) == 1.0
    assert quantile(0.95, (1, 0, 0, 9), bounds) == 4.0
    assert quantile(0.0, (0, 1, 0, 0), bounds) == 1.0
    assert quantile(1.0, (0, 1, 0, 0), bounds) == 2.0
