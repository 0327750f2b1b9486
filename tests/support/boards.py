"""Boards as an operator may see them: empty, busy, and with everything that can be wrong."""

from __future__ import annotations

from itertools import cycle, islice
from math import sin

from app.admin.boards import NamedBoard
from app.admin.ledger import KeyEntry
from wire.line.board import (
    BoardAccount,
    BoardFlow,
    BoardJob,
    BoardLane,
    BoardUpstream,
    Pause,
    Requeue,
    Story,
    Why,
)
from wire.line.history import FIRST_TOKENS, WAITS, Minute
from wire.line.processes import ProcessFigures

NOW = 1_795_881_600.0
"""Unix time of the boards."""

KEYS = {
    "0" * 31 + "1": "telegram-bot",
    "0" * 31 + "2": "翻译机器人",
    "0" * 31 + "3": "<script>alert('x')</script>",
    "0" * 31 + "4": "research / nightly batch",
}
LONG_MODEL = "organisation/very-long-model-name-with-quantisation-" + "q4_k_m-" * 12
MODELS = ("gpt-4o", "llama-3.1-8b-instruct", LONG_MODEL, "gpt-4o-mini")
WHYS: tuple[Why, ...] = ("slot", "key", "parked", "cooling", "paused", "retry", "circuit")


def waiting_jobs(number: int, offset: int = 0) -> list[BoardJob]:
    """Return waiting jobs."""
    whys, keys, models = cycle(WHYS), cycle(KEYS), cycle(MODELS)
    return [
        BoardJob(
            id=f"{offset + at:032x}",
            state="waiting",
            key=key,
            book=key[-16:],
            model=model,
            lane="chat:llama-3.1-8b-instruct",
            arrived=NOW - 90 + at / 100,
            deadline=NOW + 500,
            predicted=40.0,
            place=offset + at + 1,
            wait=3.0 * at,
            why=why,
            until=NOW + 77 if why in ("parked", "cooling", "retry", "circuit") else None,
            requeues=[Requeue(at=NOW - 20, reason="upstream_error")] if why == "retry" else [],
        )
        for at, (key, model, why) in enumerate(
            islice(zip(keys, models, whys, strict=False), number)
        )
    ]


def running_jobs(number: int) -> list[BoardJob]:
    """Return running jobs."""
    return [
        BoardJob(
            id=f"{0xA000 + at:032x}",
            state="running",
            key=key,
            book=key[-16:],
            model=model,
            lane="chat:llama-3.1-8b-instruct",
            arrived=NOW - 60 - at,
            attempt=1,
            claimed=NOW - 12 - at,
            first_token=NOW - 11 - at,
            tokens=120 * at,
            upstream="local" if at % 2 else "openai",
            account=key if at % 2 else "team-a",
            worker="w1",
        )
        for at, (key, model) in enumerate(
            islice(zip(cycle(KEYS), cycle(MODELS), strict=False), number)
        )
    ]


def busy_board(waiting: int = 5000, running: int = 12) -> NamedBoard:
    """Return a board of a gateway with trouble."""
    accounts = [
        BoardAccount(account="team-a", upstream="openai", state="full", slots=8, held=8),
        BoardAccount(account="team-b", upstream="openai", state="cooling", until=NOW + 42, slots=8),
        BoardAccount(
            account="team-c",
            upstream="openai",
            state="parked",
            slots=8,
            parked={"gpt-4o": NOW + 7200, "gpt-4o-mini": NOW + 900},
        ),
        BoardAccount(account="team-d", upstream="openai", state="aside", reason="invalid_api_key"),
    ]
    return NamedBoard(
        at=NOW,
        waiting_total=waiting,
        running_total=running,
        slots=16,
        lanes=[
            BoardLane(
                lane="chat:llama-3.1-8b-instruct",
                waiting=waiting,
                running=running,
                slots=16,
                keys=len(KEYS),
                length=11.0,
                upstreams=["local", "openai"],
            )
        ],
        flows=[
            BoardFlow(
                key=key,
                book=key[-16:],
                waiting=waiting // (at + 1),
                running=running // 4,
                oldest=NOW - 90,
                paused=at == 1,
            )
            for at, key in enumerate(KEYS)
        ],
        more_flows=900,
        upstreams=[
            BoardUpstream(
                name="openai",
                max_concurrency=32,
                slots=32,
                held=8,
                lanes=["chat:gpt-4o"],
                accounts=accounts,
            ),
            BoardUpstream(
                name="local",
                state="circuit_open",
                until=NOW + 17,
                slots=4,
                held=0,
                lanes=["chat:llama-3.1-8b-instruct", "images"],
            ),
        ],
        own_accounts=[
            BoardAccount(account=key, state="parked", parked={"gpt_4_s": NOW + 5000}, waiting=7)
            for key in KEYS
        ],
        more_accounts=4996,
        running=running_jobs(running),
        waiting=waiting_jobs(min(50, waiting)),
        pauses=[Pause(what="key", name="0" * 31 + "2", since=NOW - 300, by="Anna")],
        processes=processes(),
        names=KEYS,
    )


def empty_board() -> NamedBoard:
    """Return the board of a gateway that has nothing to do and no worker."""
    return NamedBoard(at=NOW)


def history(minutes: int = 1440) -> list[Minute]:
    """Return a history with ups, downs and a gap."""
    kept = []
    for ago in range(minutes):
        if 20 <= ago < 26:
            continue
        load = 0.5 + 0.5 * sin(ago / 9) * sin(ago / 200 + 1)
        kept.append(
            Minute(
                at=int(NOW) // 60 * 60 - 60 * ago,
                waiting=round(900 * load**3),
                running=round(4 + 12 * load),
                slots=16 if ago > 10 else 20,
                accepted=round(120 * load),
                refusals={"line_full": round(9 * load**4), "rate_limited": ago % 3 // 2},
                output_tokens=round(40_000 * load),
                waits=_spread(load, 9 * load, len(WAITS) + 1),
                first_tokens=_spread(load, 3 + 2 * load, len(FIRST_TOKENS) + 1),
            )
        )
    return kept[::-1]


def _spread(load: float, middle: float, buckets: int) -> tuple[int, ...]:
    return tuple(round(100 * load * max(0.0, 1 - abs(n - middle) / 6)) for n in range(buckets))


def processes() -> list[ProcessFigures]:
    """Return two front ends and two workers, one of which drains."""
    common = {"host": "gateway-1", "version": 4, "fingerprint": "f" * 8, "open_files": 87}
    return [
        *(
            ProcessFigures(
                id=f"{0xF0 + at:016x}",
                role="front_end",
                pid=100 + at,
                started=NOW - 86_400 * 3,
                memory=180 << 20,
                lag=0.004,
                streams=2500,
                **common,  # type: ignore[arg-type]  # values of several types
            )
            for at in range(2)
        ),
        *(
            ProcessFigures(
                id=f"{0xE0 + at:016x}",
                role="worker",
                pid=200 + at,
                started=NOW - 3600,
                memory=90 << 20,
                lag=0.3 * at,
                jobs=6,
                max_jobs=16,
                upstreams=("local", "openai"),
                draining=bool(at),
                **common,  # type: ignore[arg-type]  # values of several types
            )
            for at in range(2)
        ),
    ]


def key_entries(number: int) -> list[KeyEntry]:
    """Return gateway keys."""
    return [
        KeyEntry(
            id=f"{at + 1:016x}",
            name=name if at < len(KEYS) else f"{name} {at}",
            created=int(NOW) - 86_400 * at,
            expires=int(NOW) - 5 if at == 3 else 0,
            revoked=int(NOW) if at == 5 else 0,
            limits={"weight": 1.0 + at % 3, "max_running": at % 4, "budget_day": 1e6 * (at % 2),
                    "budget_unit": "tokens"},
            today={
                "requests": 12_345.0 // (at + 1),
                "input_tokens": 1e6,
                "output_tokens": 4e5 if at == 7 else 2e5,
            },
        )
        for at, name in enumerate(islice(cycle(KEYS.values()), number))
    ]  # fmt: skip


def story() -> Story:
    """Return the story of a job that was tried twice."""
    return Story(
        id="c" * 32,
        state="done",
        key="0" * 31 + "3",
        model="gpt-4o",
        lane="chat:gpt-4o",
        arrived=NOW - 100,
        predicted=25,
        deadline=NOW + 100,
        attempt=2,
        upstream="openai",
        account="team-a",
        worker="e0",
        requeues=[
            Requeue(
                at=NOW - 70,
                reason="cooled_down",
                claimed=NOW - 75,
                upstream="openai",
                account="team-b",
            )
        ],
        claimed=NOW - 60,
        first_token=NOW - 58.8,
        ended=NOW - 20,
        reason="done",
        input_tokens=1200,
        output_tokens=840,
        slot_ms=40_000,
    )
