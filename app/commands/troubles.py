"""Troubles of a gateway, in words: why it cannot serve new requests, and lesser ones. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from app.admin.boards import NamedBoard
from app.commands.durations import duration
from app.commands.observer import Observation
from wire import VERSION
from wire.line.board import Board, BoardAccount, BoardLane, BoardUpstream, Pause

NOT_IN_USE = ("cooling", "aside", "parked", "paused")
"""States of an account that is in trouble; a full one is not."""

_UPSTREAM = {
    "circuit_open": "fails for everyone",
    "paused": "is paused",
    "refuses_us": "refuses all our accounts",
    "no_worker": "is served by no worker",
}
_ACCOUNT = {
    "cooling": "cools down",
    "aside": "is set aside",
    "paused": "is paused",
}


def fatal(seen: Observation) -> Iterator[str]:
    """Reasons why new requests are not served at all."""
    board = seen.board
    if not seen.front_ends:
        yield "no front end is running"
    if not seen.our_workers:
        yield "no worker is alive"
    elif not board.upstreams:
        yield "no worker has described its upstream yet"
    elif all(upstream.state != "ready" for upstream in board.upstreams):
        yield from (_upstream(upstream, board.at) for upstream in board.upstreams)


def lesser(seen: Observation) -> Iterator[str]:
    """Reasons why some requests are served late, or not at all."""
    board = seen.board
    if board.settling:
        yield f"settling for another {duration(board.settling)}"
    states = [upstream.state for upstream in board.upstreams]
    if "ready" in states:
        troubled = (each for each in board.upstreams if each.state != "ready")
        yield from (_upstream(upstream, board.at) for upstream in troubled)
    for upstream in board.upstreams:
        for account in upstream.accounts:
            if account.state in NOT_IN_USE:
                yield describe_account(account, board.at)
    yield from (_pause(pause, board) for pause in board.pauses if pause.what in ("all", "key"))
    if foreign := sum(worker.fingerprint != seen.fingerprint for worker in seen.workers):
        yield f"workers with another GATEWAY_SECRET: {foreign}"
    if any(worker.version != VERSION for worker in seen.workers):
        yield "some workers are of another version"


def describe_account(account: BoardAccount, now: float) -> str:
    """Describe the trouble of an account: why, and for how much longer."""
    name = f"account {account.account}"
    if account.upstream and not account.account.startswith(f"{account.upstream}/"):
        name += f" of {account.upstream}"
    if account.state == "parked":
        used_up = ", ".join(
            f"{model} for another {duration(until - now)}"
            for model, until in sorted(account.parked.items())
        )
        return f"{name} has used up {used_up}"
    reason = f" ({account.reason.replace('_', ' ')})" if account.reason else ""
    return f"{name} {_ACCOUNT.get(account.state, account.state)}{reason}{_left(account.until, now)}"


def newcomer_wait(lane: BoardLane) -> float | None:
    """Approximate wait of a new key's first request: each waiting key goes once before it.

    None if no upstream runs jobs of the lane.
    """
    if not lane.slots:
        return None
    if not lane.waiting and lane.running < lane.slots:
        return 0.0
    return (lane.keys + 1) * lane.length / lane.slots


def longest_newcomer_wait(board: Board) -> float | None:
    """The longest of the waits of newcomers in all lanes; None if no lane is served."""
    waits = map(newcomer_wait, board.lanes)
    return max((wait for wait in waits if wait is not None), default=None)


def _upstream(upstream: BoardUpstream, now: float) -> str:
    words = _UPSTREAM.get(upstream.state, upstream.state)
    return f"upstream {upstream.name} {words}{_left(upstream.until, now)}"


def _pause(pause: Pause, board: NamedBoard) -> str:
    what = f"key {board.name_of(pause.name)}" if pause.what == "key" else "intake"
    by = f" by {pause.by}" if pause.by else ""
    return f"{what} is paused{by}{_left(pause.until, board.at)}"


def _left(until: float | None, now: float) -> str:
    return f" for another {duration(until - now)}" if until and until > now else ""
