"""A busy gateway as operators see it: ten keys, two upstreams, some trouble."""

from __future__ import annotations

from msgspec.structs import replace

from app.admin.boards import NamedBoard
from app.commands.observer import Observation
from wire import VERSION
from wire.line.board import (
    BoardAccount,
    BoardFlow,
    BoardJob,
    BoardLane,
    BoardUpstream,
    Why,
)
from wire.line.history import FIRST_TOKENS, WAITS, Minute
from wire.line.presence import Presence
from wire.line.processes import ProcessFigures

NOW = 1_790_000_000.0
SECRET = "ours"
NAMES = {
    "a1": "telegram-bot",
    "b2": "wechat-bot",
    "c3": "support-desk",
    "d4": "translator",
    "e5": "nightly-reports",
    "f6": "discord-bot",
}


def _running(number: int, key: str, model: str, account: str, age: float, tokens: int) -> BoardJob:
    return BoardJob(
        id=f"chatcmpl-{number:032x}",
        state="running",
        key=key,
        book=key,
        model=model,
        lane="chat",
        arrived=NOW - age,
        claimed=NOW - age * 0.6,
        upstream=account.partition("/")[0],
        account=account,
        worker="w1",
        tokens=tokens,
    )


def _waiting(
    place: int, key: str, model: str, age: float, wait: float, why: Why, left: float | None = None
) -> BoardJob:
    return BoardJob(
        id=f"chatcmpl-{1000 + place:032x}",
        state="waiting",
        key=key,
        book=key,
        model=model,
        lane="chat",
        arrived=NOW - age,
        place=place,
        wait=wait,
        why=why,
        until=None if left is None else NOW + left,
    )


RUNNING = [
    _running(1, "a1", "gpt-4", "main/anna", 64, 412),
    _running(2, "b2", "gpt-4", "main/bert", 41, 230),
    _running(3, "c3", "gpt-4", "main/carl", 33, 118),
    _running(4, "e5", "qwen3-8b", "llama", 20, 96),
    _running(5, "f6", "qwen3-8b", "llama", 12, 0),
]
WAITING = [
    _waiting(1, "d4", "gpt-4", 31, 6, "slot"),
    _waiting(2, "a1", "gpt-4", 29, 14, "slot"),
    _waiting(3, "b2", "gpt-4", 28, 21, "slot"),
    _waiting(4, "c3", "gpt-4", 26, 29, "key"),
    _waiting(5, "e5", "gpt-4-browsing", 22, 95, "parked", 95),
    _waiting(6, "a1", "gpt-4", 17, 41, "key"),
    _waiting(7, "b2", "gpt-4", 15, 48, "retry", 9),
    _waiting(8, "d4", "qwen3-8b", 9, 4, "slot"),
]
ACCOUNTS = [
    BoardAccount(account="main/anna", upstream="main", state="full", slots=1, held=1),
    BoardAccount(account="main/bert", upstream="main", state="full", slots=1, held=1),
    BoardAccount(account="main/carl", upstream="main", state="full", slots=1, held=1),
    BoardAccount(
        account="main/dora",
        upstream="main",
        state="cooling",
        reason="rate_limited",
        until=NOW + 140,
        slots=1,
    ),
    BoardAccount(
        account="main/emil", upstream="main", state="aside", reason="token_refused", slots=1
    ),
]
BOARD = NamedBoard(
    at=NOW,
    waiting_total=len(WAITING),
    running_total=len(RUNNING),
    slots=7,
    lanes=[
        BoardLane(lane="chat", waiting=7, running=3, slots=3, keys=5, length=22),
        BoardLane(lane="chat:qwen3-8b", waiting=1, running=2, slots=4, keys=1, length=9),
    ],
    flows=[
        BoardFlow(
            key=key,
            book=key,
            running=sum(job.key == key for job in RUNNING),
            waiting=sum(job.key == key for job in WAITING),
            oldest=min(job.arrived for job in (*RUNNING, *WAITING) if job.key == key),
        )
        for key in NAMES
    ],
    upstreams=[
        BoardUpstream(name="llama", max_concurrency=4, slots=4, held=2),
        BoardUpstream(name="main", max_concurrency=3, slots=3, held=3, accounts=ACCOUNTS),
    ],
    running=RUNNING,
    waiting=WAITING,
    names=NAMES,
)
_PROCESS = ProcessFigures(
    id="f1",
    role="front_end",
    host="gw-1",
    pid=2201,
    started=NOW - 90_000,
    version=VERSION,
    fingerprint=SECRET,
    memory=98 << 20,
    lag=0.004,
    streams=7,
)
PROCESSES = [
    _PROCESS,
    replace(_PROCESS, id="f2", pid=2202, memory=96 << 20, lag=0.003, streams=6),
    replace(_PROCESS, id="w1", role="worker", pid=2210, memory=84 << 20, jobs=3, max_jobs=16),
    replace(
        _PROCESS, id="w2", role="worker", host="gw-2", pid=871, memory=81 << 20, jobs=2, max_jobs=16
    ),
]
_MINUTE = Minute(
    at=int(NOW) // 60 * 60,
    output_tokens=9_420,
    waits=(20, 9, 11, 8, 14, 30, 26, 9, 3, *[0] * (len(WAITS) - 8)),
    first_tokens=(0,) * (len(FIRST_TOKENS) + 1),
)
BUSY = Observation(
    board=BOARD,
    fingerprint=SECRET,
    workers=[Presence("w1", VERSION, SECRET, 16), Presence("w2", VERSION, SECRET, 16)],
    processes=PROCESSES,
    minutes=[_MINUTE],
)
"""Two front ends and two workers. Five accounts share an upstream, two of them are in trouble."""
