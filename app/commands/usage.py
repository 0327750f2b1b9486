"""`python -m app usage`: what keys have used, by key, model or day (UTC).

Prints a table of the days from --from to --to, by default of this month. Tokens, slot time and
units are counted when a request ends, on the day of that.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import io
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import partial
from typing import Literal

import msgspec

from app.commands.safe_text import one_line
from runtime.command_line import new_parser
from settings import Settings, SettingsError
from settings.loader import load
from wire.keyring import Keyring
from wire.line.usage import Numbers, Use, read_usage, total
from wire.redis.client import connect
from wire.redis.outage import REDIS_ERRORS
from wire.redis.trouble import trouble
from wire.seal import Seal, load_secret

By = Literal["key", "model", "day"]

MOST_DAYS = 10_000
"""Days that Redis keeps at most, as `usage.keep_days` may say."""

ENDED = "ended:"
"""Beginning of the names of numbers of endings."""


class Row(msgspec.Struct, frozen=True):
    """Numbers of one key, model or day, named in one column or two."""

    names: tuple[str, ...]
    numbers: Numbers

    @property
    def values(self) -> list[float]:
        """The most important numbers, as `COLUMNS` names them."""
        get = self.numbers.get
        done, cancelled = get("ended:done", 0), get("ended:cancelled", 0)
        ended = sum(number for name, number in self.numbers.items() if name.startswith(ENDED))
        return [
            *(get("requests", 0), done, cancelled, ended - done - cancelled),
            *(get("input_tokens", 0), get("output_tokens", 0)),
            *(round(get("slot_ms", 0) / 1000, 1), get("units", 0)),
        ]


COLUMNS = (
    *("requests", "done", "cancelled", "failed"),
    *("tokens in", "tokens out", "slot seconds", "units"),
)
NAMED: dict[By, tuple[str, ...]] = {"key": ("key", "name"), "model": ("model",), "day": ("day",)}
"""Names of the columns that name a row."""


def main(arguments: Sequence[str]) -> None:
    """Print usage. The status is 0, 1 after a failure, 2 for a wrong command line."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if (given.last - given.first).days > MOST_DAYS:
        parser.error(f"--from: expected at most {MOST_DAYS} days before --to")
    try:
        used, names = asyncio.run(_read(load(), given.first, given.last))
    except SettingsError as error:
        sys.exit(str(error))
    except REDIS_ERRORS as error:
        sys.exit(f"Redis cannot be used: {trouble(error)}.")
    rows = summarize(used, names, given.by)
    lines = as_csv(rows, given.by) if given.csv else table(rows, given.by)
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _parser() -> argparse.ArgumentParser:
    today = datetime.now(UTC).date()
    parser = new_parser("app usage", __doc__ or "")
    begin = today.replace(day=1)
    day = partial(parser.add_argument, type=date.fromisoformat, metavar="DATE")
    day("--from", dest="first", default=begin, help=f"first day ({begin})")
    day("--to", dest="last", default=today, help=f"last day ({today})")
    parser.add_argument("--by", choices=tuple(NAMED), default="key", help="one row for each (key)")
    parser.add_argument("--csv", action="store_true", help="print CSV, with each reason of endings")
    return parser


async def _read(
    config: Settings, first: date, last: date
) -> tuple[dict[Use, Numbers], dict[str, str]]:
    """Read the usage of some days, and the names of gateway keys by their ids."""
    seal = Seal(load_secret(config.directory, os.environ))
    redis = connect(config.redis.role_url, connections=2)
    try:
        records = await Keyring(redis, seal).list()
        return await read_usage(redis, first, last), {record.id: record.name for record in records}
    finally:
        await redis.aclose()


def summarize(used: Mapping[Use, Numbers], names: Mapping[str, str], by: By) -> list[Row]:
    """Return the rows of keys, models or days, in order. `names` are those of gateway keys."""
    parts: defaultdict[tuple[str, ...], list[Numbers]] = defaultdict(list)
    for use, numbers in used.items():
        named: dict[By, tuple[str, ...]] = {
            "key": (use.book, names.get(use.book, "")),
            "model": (use.model,),
            "day": (use.day.isoformat(),),
        }
        parts[named[by]].append(numbers)
    return [Row(named, total(numbers)) for named, numbers in sorted(parts.items())]


def table(rows: Sequence[Row], by: By) -> Iterator[str]:
    """Lines of a table, the last one with the sums."""
    named = len(NAMED[by])
    sums = Row(("total", *[""] * (named - 1)), total(row.numbers for row in rows))
    cells = [[title.upper() for title in (*NAMED[by], *COLUMNS)]]
    for row in (*rows, sums):
        cells.append([*map(one_line, row.names), *map(_digits, row.values)])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        padded = [
            cell.ljust(width) if at < named else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        yield "  ".join(padded).rstrip()


def as_csv(rows: Sequence[Row], by: By) -> Iterator[str]:
    """Lines of CSV: the columns of the table, and one for each reason of an ending."""
    reasons = sorted({name for row in rows for name in row.numbers if name.startswith(ENDED)})
    titles = [title.replace(" ", "_") for title in (*NAMED[by], *COLUMNS, *reasons)]
    yield _csv_line(titles)
    for row in rows:
        endings = [row.numbers.get(reason, 0) for reason in reasons]
        names = map(_inert, map(one_line, row.names))
        yield _csv_line([*names, *map(_digits, [*row.values, *endings])])


def _digits(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _inert(name: str) -> str:
    """A name that no spreadsheet takes for a formula."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@")) else name


def _csv_line(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()
