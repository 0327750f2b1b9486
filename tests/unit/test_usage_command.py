"""Tables and CSV of usage, from the numbers that Redis holds."""

from __future__ import annotations

import csv
from datetime import date

from app.commands.usage import as_csv, summarize, table
from wire.line.usage import Numbers, Use

BOT = "0123456789abcdef"
NAMES = {BOT: "my bot"}
ONE, TWO = date(2026, 11, 27), date(2026, 11, 28)
USED: dict[Use, Numbers] = {
    Use(ONE, BOT, "gpt-4"): {"requests": 3, "ended:done": 1, "output_tokens": 20, "units": 14},
    Use(TWO, BOT, "gpt-4"): {"ended:cancelled": 1, "ended:worker_lost": 1, "slot_ms": 1250},
    Use(TWO, "passthrough", "=cmd\n1"): {"requests": 1000, "input_tokens": 5, "units": 0.5},
}


def test_a_table_has_a_row_for_each_key_and_the_sums() -> None:
    assert list(table(summarize(USED, NAMES, "key"), "key")) == [
        "KEY               NAME    REQUESTS  DONE  CANCELLED  FAILED  TOKENS IN  TOKENS OUT"
        "  SLOT SECONDS  UNITS",
        "0123456789abcdef  my bot         3     1          1       1          0          20"
        "           1.2     14",
        "passthrough                   1000     0          0       0          5           0"
        "             0    0.5",
        "total                         1003     1          1       1          5          20"
        "           1.2   14.5",
    ]


def test_rows_may_be_models_and_days_instead() -> None:
    models = [row.names for row in summarize(USED, NAMES, "model")]
    assert models == [("=cmd\n1",), ("gpt-4",)]
    days = summarize(USED, NAMES, "day")
    assert [row.names for row in days] == [("2026-11-27",), ("2026-11-28",)]
    assert days[1].numbers["requests"] == 1000


def test_csv_has_every_reason_of_endings_and_no_formulas() -> None:
    lines = list(as_csv(summarize(USED, NAMES, "model"), "model"))
    assert "\n" not in "".join(lines)
    odd, usual = csv.DictReader(lines)
    assert odd["model"] == "'=cmd?1"
    assert (odd["requests"], odd["tokens_in"], odd["units"]) == ("1000", "5", "0.5")
    endings = {name: value for name, value in usual.items() if name.startswith("ended:")}
    assert endings == {"ended:cancelled": "1", "ended:done": "1", "ended:worker_lost": "1"}


def test_without_usage_there_is_only_the_head() -> None:
    assert [line.split()[0] for line in table([], "day")] == ["DAY", "total"]
    assert len(list(as_csv([], "day"))) == 1
