"""The board: the whole line as operators see it at one time, and the story of one job.

Keys are named by their HMACs, as in Redis. All times are in seconds by Redis' clock. Nothing here
holds a part of a request or of an answer.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from wire.line.processes import ProcessFigures
from wire.line.status import State
from wire.line.usage import PASSTHROUGH

Why = Literal[
    "slot",  # it may be claimed, and is when a slot is free and it is its turn
    "key",  # its key has as many jobs as it may have at once, or another job of it goes first
    "account",  # the account of its key is full
    "cooling",  # the accounts that could run it cool down, or are set aside
    "parked",  # the accounts that could run it have used up its model
    "paused",  # an operator has paused its account, or the upstreams that could run it
    "retry",  # it failed, and is tried again at a later time
    "circuit",  # the circuits of the upstreams that could run it are open
    "no_worker",  # no live worker serves its lane
    "settling",  # nothing is claimed for some seconds after a disturbance
]
"""Reason for which a job waits."""


class Requeue(msgspec.Struct, frozen=True, kw_only=True):
    """End of an attempt after which its job waited again; `reason` as in the metrics."""

    at: float
    reason: str
    claimed: float | None = None
    upstream: str = ""
    account: str = ""


class BoardJob(msgspec.Struct, frozen=True, kw_only=True):
    """A waiting or running job.

    It is booked as usage of `book`: the id of a gateway key, or `passthrough`. `predicted` is its
    first forecast, in seconds. Of a waiting job, `place` counts from 1, `wait` is the forecast in
    seconds, and `until` the time at which its reason to wait will be over, if that is known.
    `tokens` are about those of its answer so far. `requeues` are the last few.
    """

    id: str
    state: State
    key: str = ""
    book: str = PASSTHROUGH
    model: str = ""
    lane: str = ""
    arrived: float = 0.0
    deadline: float = 0.0
    predicted: float = 0.0
    attempt: int = 0
    place: int | None = None
    wait: float | None = None
    why: Why | None = None
    until: float | None = None
    upstream: str = ""
    account: str = ""
    worker: str = ""
    claimed: float | None = None
    first_token: float | None = None
    tokens: int = 0
    requeues: list[Requeue] = []


class Story(BoardJob, frozen=True, kw_only=True):
    """A job from its arrival to its ending, if it has ended. `reason` is the word of the ending, as
    in the metrics."""

    ended: float | None = None
    reason: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    slot_ms: int = 0


class BoardLane(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs that the same upstreams may run. `keys` is the number of keys that wait here, `length`
    the expected time for which a job holds its slot, in seconds."""

    lane: str
    waiting: int = 0
    running: int = 0
    slots: float = 0.0
    keys: int = 0
    length: float = 0.0
    upstreams: list[str] = []


class BoardFlow(msgspec.Struct, frozen=True, kw_only=True):
    """The jobs of a key. `oldest` is the arrival of the oldest of those that run or go next."""

    key: str
    book: str = PASSTHROUGH
    waiting: int = 0
    running: int = 0
    oldest: float | None = None
    paused: bool = False


AccountState = Literal["ready", "full", "cooling", "aside", "parked", "paused"]


class BoardAccount(msgspec.Struct, frozen=True, kw_only=True):
    """An account that all keys share, or a key's own one, which has the name of the key.

    `upstream` is empty for a key's own, and `waiting` is the number of the key's waiting jobs.
    `reason` says why it is set aside, `until` is the end of a cool-down. It may hold `slots` jobs,
    now only `learned` (0: as many as `slots`), and holds `held`. `parked` are the families or
    models that it has used up, each until a time; its state is `parked` if it has any.
    """

    account: str
    upstream: str = ""
    state: AccountState = "ready"
    reason: str = ""
    until: float | None = None
    slots: int = 0
    learned: int = 0
    held: int = 0
    waiting: int = 0
    parked: dict[str, float] = {}


UpstreamState = Literal["ready", "circuit_open", "paused", "refuses_us", "no_worker"]


class BoardUpstream(msgspec.Struct, frozen=True, kw_only=True):
    """An upstream that workers have described lately.

    `refuses_us`: all its shared accounts are set aside. `until`: the end of its state, if that is
    known. `lanes` and `accounts` are at most 200; `more_lanes` and `more_accounts` count the
    others.
    """

    name: str
    state: UpstreamState = "ready"
    until: float | None = None
    max_concurrency: int = 0
    slots: int = 0
    held: int = 0
    lanes: list[str] = []
    more_lanes: int = 0
    accounts: list[BoardAccount] = []
    more_accounts: int = 0


PauseKind = Literal["all", "key", "upstream", "account"]


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's hold on the intake of all jobs, of a key's or of an upstream's, or on an
    account. `name` is empty for all."""

    what: PauseKind
    name: str = ""
    since: float = 0.0
    by: str = ""
    until: float | None = None


class Board(msgspec.Struct, frozen=True, kw_only=True):
    """The whole line at one time.

    Long lists hold the first ones only: the 100 lanes with the most keys, the 100 keys with the
    most jobs there (`flows`), 100 of keys' own accounts that cannot be used, the 200 jobs that run
    longest, and 50 waiting ones: those that go next, then those that came first. `more_...` are
    about the numbers of the others: a key counts once in each of its lanes.
    """

    at: float = 0.0
    settling: float = 0.0
    waiting_total: int = 0
    running_total: int = 0
    slots: int = 0
    lanes: list[BoardLane] = []
    more_lanes: int = 0
    flows: list[BoardFlow] = []
    more_flows: int = 0
    upstreams: list[BoardUpstream] = []
    own_accounts: list[BoardAccount] = []
    more_accounts: int = 0
    running: list[BoardJob] = []
    waiting: list[BoardJob] = []
    pauses: list[Pause] = []
    processes: list[ProcessFigures] = []
