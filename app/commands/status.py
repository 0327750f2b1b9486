"""`python -m app status`: state of the gateway in one line, and as a status for scripts.

It reads Redis alone, so it also works when no front end is running. The status is 0 if requests are
served, 1 if they are with limitations, 2 if they are not, or Redis cannot be used.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Iterator, Sequence

import msgspec

from app.admin.boards import RedisGone
from app.commands.durations import duration
from app.commands.observer import Observation, observer
from app.commands.safe_text import one_line
from app.commands.troubles import NOT_IN_USE, fatal, lesser, longest_newcomer_wait, newcomer_wait
from runtime.command_line import new_parser
from settings import SettingsError
from settings.loader import load
from wire.line.scripts import WrongVersionError

PATIENCE = 5.0
"""Seconds for everything."""

CODES = {"serving": 0, "degraded": 1, "unavailable": 2}
_WORDS = {"serving": "serving", "degraded": "degraded", "unavailable": "cannot serve"}


class LaneStatus(msgspec.Struct, frozen=True):
    """Jobs of one lane; `newcomer_wait` is in seconds, and null if it is not served."""

    lane: str
    waiting: int
    running: int
    slots: float
    newcomer_wait: float | None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """State of the gateway. The numbers are null if Redis cannot be used."""

    status: str
    reasons: list[str]
    running: int | None = None
    slots: int | None = None
    waiting: int | None = None
    newcomer_wait: float | None = None
    workers: int | None = None
    front_ends: int | None = None
    own_accounts_in_trouble: int | None = None
    lanes: list[LaneStatus] = []


def main(arguments: Sequence[str]) -> None:
    """Print the state. The status is that of `CODES`, and 2 for wrong settings as well."""
    parser = new_parser("app status", __doc__ or "")
    parser.add_argument("--json", action="store_true", help="print JSON, with the lanes")
    given = parser.parse_args(arguments)
    try:
        status = asyncio.run(_read())
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(CODES["unavailable"])
    text = msgspec.json.encode(status).decode() if given.json else one_line(line(status))
    sys.stdout.write(f"{text}\n")
    sys.exit(CODES[status.status])


async def _read() -> Status:
    config = load()
    try:
        async with asyncio.timeout(PATIENCE), observer(config) as observing:
            return status_of(await observing.observe())
    except RedisGone as error:
        return Status(status="unavailable", reasons=[f"Redis cannot be used ({error})"])
    except TimeoutError:
        return Status(status="unavailable", reasons=["Redis cannot be used (no answer in time)"])
    except WrongVersionError as error:
        return Status(status="unavailable", reasons=[str(error)])


def status_of(seen: Observation) -> Status:
    """Judge an observation."""
    board = seen.board
    broken, troubles = list(fatal(seen)), list(lesser(seen))
    return Status(
        status="unavailable" if broken else "degraded" if troubles else "serving",
        reasons=broken + troubles,
        running=board.running_total,
        slots=board.slots,
        waiting=board.waiting_total,
        newcomer_wait=longest_newcomer_wait(board),
        workers=len(seen.our_workers),
        front_ends=len(seen.front_ends),
        own_accounts_in_trouble=_in_trouble(seen),
        lanes=[
            LaneStatus(lane.lane, lane.waiting, lane.running, lane.slots, newcomer_wait(lane))
            for lane in board.lanes
            if lane.waiting or lane.running
        ],
    )


def _in_trouble(seen: Observation) -> int:
    board = seen.board
    return sum(each.state in NOT_IN_USE for each in board.own_accounts) + board.more_accounts


def line(status: Status) -> str:
    """Describe the state in one line."""
    parts = ", ".join(_numbers(status)) if status.running is not None else ""
    return f"{_WORDS[status.status]}: " + "; ".join(filter(None, [*status.reasons, parts]))


def _numbers(status: Status) -> Iterator[str]:
    yield f"{status.running} of {status.slots} slots in use"
    yield f"{status.waiting} waiting"
    if status.newcomer_wait is not None:
        wait = duration(math.ceil(status.newcomer_wait))
        yield f"about {wait} for a newcomer" if status.newcomer_wait else "no wait for a newcomer"
    yield f"workers {status.workers}"
    yield f"front ends {status.front_ends}"
    if status.own_accounts_in_trouble:
        yield f"keys' own accounts in trouble {status.own_accounts_in_trouble}"
