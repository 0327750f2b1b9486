"""`python -m app status`: its line, its status, and the reasons for it."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from app.admin.boards import NamedBoard
from app.commands.observer import Observation
from app.commands.status import CODES, line, status_of
from wire import VERSION
from wire.line.board import BoardAccount, BoardLane, BoardUpstream, Pause
from wire.line.presence import Presence
from wire.line.processes import ProcessFigures

OURS = "ours"
NOW = 1000.0
FRONT_END = ProcessFigures(
    id="f", role="front_end", host="a", pid=1, started=0, version=VERSION, fingerprint=OURS
)
WORKER = Presence("w", VERSION, OURS, 4)
BOARD = NamedBoard(
    at=NOW,
    running_total=4,
    slots=4,
    waiting_total=6,
    lanes=[BoardLane(lane="chat", waiting=6, running=4, slots=4, keys=3, length=20)],
    upstreams=[BoardUpstream(name="main", slots=4, held=4)],
    names={"abc": "my-bot"},
)
HEALTHY = Observation(board=BOARD, fingerprint=OURS, workers=[WORKER], processes=[FRONT_END])


def seen(**changes: object) -> Observation:
    return replace(HEALTHY, board=replace(BOARD, **changes))


def test_a_healthy_gateway_is_described_in_one_line() -> None:
    status = status_of(HEALTHY)
    assert line(status) == (
        "serving: 4 of 4 slots in use, 6 waiting, about 20 s for a newcomer,"
        " workers 1, front ends 1"
    )
    assert CODES[status.status] == 0
    free = seen(waiting_total=0, lanes=[BoardLane(lane="chat", running=3, slots=4, length=20)])
    assert "no wait for a newcomer" in line(status_of(free))


POOL = BoardUpstream(name="pool", slots=2, accounts=[BoardAccount(account="pool/a")])


def account(**fields: object) -> Observation:
    one = msgspec.convert({"account": "pool/a", "upstream": "pool", **fields}, BoardAccount)
    return seen(upstreams=[replace(POOL, accounts=[one])])


@pytest.mark.parametrize(
    ("observed", "reason"),
    [
        (account(state="full"), ""),
        (
            account(state="cooling", reason="rate_limited", until=NOW + 41),
            "account pool/a cools down (rate limited) for another 41 s",
        ),
        (
            account(state="parked", parked={"gpt-4": NOW + 7200}),
            "account pool/a has used up gpt-4 for another 2 h 0 min",
        ),
        (
            account(state="aside", reason="token_refused"),
            "account pool/a is set aside (token refused)",
        ),
        (seen(settling=2.4), "settling for another 2 s"),
        (
            seen(upstreams=[POOL, BoardUpstream(name="main", state="circuit_open", until=NOW + 9)]),
            "upstream main fails for everyone for another 9 s",
        ),
        (
            seen(pauses=[Pause(what="key", name="abc", by="ana")]),
            "key my-bot is paused by ana",
        ),
        (
            seen(pauses=[Pause(what="all", by="ana", until=NOW + 60)]),
            "intake is paused by ana for another 1 min 0 s",
        ),
        (
            replace(HEALTHY, workers=[WORKER, replace(WORKER, fingerprint="another")]),
            "workers with another GATEWAY_SECRET: 1",
        ),
        (
            replace(HEALTHY, workers=[replace(WORKER, version=1)]),
            "some workers are of another version",
        ),
    ],
)
def test_a_gateway_with_limitations_is_degraded_and_says_why(
    observed: Observation, reason: str
) -> None:
    status = status_of(observed)
    assert status.reasons == ([reason] if reason else [])
    assert CODES[status.status] == (1 if reason else 0)


@pytest.mark.parametrize(
    ("observed", "reason"),
    [
        (replace(HEALTHY, processes=[]), "no front end is running"),
        (replace(HEALTHY, workers=[replace(WORKER, max_jobs=0)]), "no worker is alive"),
        (seen(upstreams=[]), "no worker has described its upstream yet"),
        (
            seen(upstreams=[replace(POOL, state="paused")]),
            "upstream pool is paused",
        ),
    ],
)
def test_a_gateway_that_serves_no_newcomer_cannot_serve(observed: Observation, reason: str) -> None:
    status = status_of(observed)
    assert status.reasons == [reason]
    assert CODES[status.status] == 2
    assert line(status).startswith(f"cannot serve: {reason}; ")


def test_trouble_of_keys_own_accounts_is_counted_and_no_limitation_of_the_gateway() -> None:
    own = [BoardAccount(account="abc", state=state) for state in ("aside", "full", "cooling")]
    status = status_of(seen(own_accounts=own))
    assert (status.status, status.own_accounts_in_trouble) == ("serving", 2)
    assert line(status).endswith("keys' own accounts in trouble 2")
