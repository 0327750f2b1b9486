"""Replies of the scripts `board_...`, decoded for operators. Pure.

A job's record may lack fields: a process of an older release wrote it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import unquote

import msgspec

from wire.line.board import (
    AccountState,
    BoardAccount,
    BoardFlow,
    BoardJob,
    BoardLane,
    BoardUpstream,
    Pause,
    Requeue,
    UpstreamState,
)
from wire.line.usage import PASSTHROUGH

J = TypeVar("J", bound=BoardJob)

Row = Sequence[Any]
"""Part of a reply of Redis: texts as bytes, numbers and lists."""

FIELDS = (
    *("state", "key", "book", "model", "lane", "arrived", "deadline", "predicted", "attempt"),
    *("upstream", "account", "worker", "claimed", "published", "tokens", "requeued"),
    *("ended", "reason", "input_tokens", "output_tokens", "slot_ms"),
)
"""Fields of a job's record that operators see."""

_TIMES = ("arrived", "deadline", "predicted", "claimed", "published", "ended", "until", "wait")
_NO_TIME = 0.001  # an older release wrote 1 ms when something was published

_decode_requeues = msgspec.json.Decoder(list[Requeue]).decode


def texts(reply: Iterable[bytes]) -> list[str]:
    """Decode a list of names."""
    return [each.decode() for each in reply]


def read_job(row: Row, form: type[J]) -> J:
    """Read a row of the reply of `board_jobs.lua`."""
    id, values, place, wait, why, until = row
    found = zip(FIELDS, values, strict=True)
    record: dict[str, Any] = {name: value.decode() for name, value in found if value is not None}
    record["id"] = id.decode()
    if place:
        record |= {"place": place, "wait": wait, "why": why.decode(), "until": until or None}
    return _job(record, form)


def read_ending(packed: bytes, form: type[J]) -> J:
    """Read a job in an entry of the stream of endings."""
    return _job(msgspec.msgpack.decode(packed, type=dict[str, Any]), form)


def _job(record: dict[str, Any], form: type[J]) -> J:
    """Convert a record whose values may be texts, and its times, which are in ms."""
    for name in _TIMES:
        if (value := record.get(name)) is not None:
            record[name] = float(value) / 1000
    if (published := record.get("published", 0.0)) > _NO_TIME:
        record["first_token"] = published
    record["model"] = unquote(record.get("model", ""))
    record["requeues"] = [_requeue(each) for each in _decode_requeues(record.get("requeued", "[]"))]
    return msgspec.convert(record, form, strict=False)


def _requeue(each: Requeue) -> Requeue:
    claimed = each.claimed and each.claimed / 1000
    return msgspec.structs.replace(each, at=each.at / 1000, claimed=claimed)


def read_lane(row: Row, running: int) -> BoardLane:
    """Read a row of the reply of `board_lanes.lua`, of a lane with that many running jobs."""
    lane, waiting, keys, slots, length, upstreams, _ = row
    return BoardLane(
        lane=lane.decode(),
        waiting=waiting,
        running=running,
        slots=float(slots),
        keys=keys,
        length=length / 1000,
        upstreams=sorted(texts(upstreams)),
    )


def read_flow(row: Row, *, paused: bool) -> BoardFlow:
    """Read a row of the reply of `board_flows.lua`."""
    key, waiting, running, oldest, book = row
    return BoardFlow(
        key=key.decode(),
        book=book.decode() or PASSTHROUGH,
        waiting=waiting,
        running=running,
        oldest=oldest / 1000 if oldest else None,
        paused=paused,
    )


def read_account(
    row: Row,
    now: float,
    parked: Mapping[str, float],
    pause: Pause | None = None,
    upstream: str = "",
) -> BoardAccount:
    """Read a row of the reply of `board_accounts.lua`.

    `parked` are the families that the account has used up, each until a time.
    """
    account, slots, learned, held, aside, until, waiting = row
    cooling = until / 1000 > now
    state = _account_state(bool(aside), cooling, bool(parked), held >= (learned or slots))
    return BoardAccount(
        account=account.decode(),
        upstream=upstream,
        state="paused" if pause else state,
        reason=aside.decode(),
        until=pause.until if pause else until / 1000 if cooling else None,
        slots=slots,
        learned=learned,
        held=held,
        waiting=waiting,
        parked=dict(parked),
    )


def _account_state(aside: bool, cooling: bool, parked: bool, full: bool) -> AccountState:
    if aside:
        return "aside"
    if cooling:
        return "cooling"
    if parked:
        return "parked"
    return "full" if full else "ready"


def read_upstream(
    name: str, row: Row, now: float, accounts: Sequence[BoardAccount], pause: Pause | None = None
) -> BoardUpstream:
    """Read the reply of `board_upstream.lua`."""
    served, cap, slots, held, open_for, lanes, first, _, number, _ = row
    until = now + open_for / 1000 if open_for >= 0 else None
    state = _upstream_state(bool(served), until is not None, accounts)
    return BoardUpstream(
        name=name,
        state="paused" if pause and served else state,
        until=pause.until if pause and served else until,
        max_concurrency=cap,
        slots=slots,
        held=held,
        lanes=texts(first),
        more_lanes=lanes - len(first),
        accounts=list(accounts),
        more_accounts=number - len(accounts),
    )


def _upstream_state(served: bool, is_open: bool, accounts: Sequence[BoardAccount]) -> UpstreamState:
    if not served:
        return "no_worker"
    if is_open:
        return "circuit_open"
    refused = accounts and all(account.state == "aside" for account in accounts)
    return "refuses_us" if refused else "ready"
