"""Inspection of the line for operators, in several calls that each take Redis little time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from math import inf
from typing import NamedTuple, TypeVar, get_args

import msgspec

from wire.jobs import Sort
from wire.line.board import (
    Board,
    BoardAccount,
    BoardFlow,
    BoardJob,
    BoardLane,
    Pause,
    PauseKind,
)
from wire.line.records import (
    FIELDS,
    J,
    Row,
    read_account,
    read_flow,
    read_job,
    read_lane,
    read_upstream,
    texts,
)

T = TypeVar("T")

Run = Callable[..., Awaitable[Row]]
"""Run a script of the line, given its name and arguments."""

LANES, FLOWS, OWN_ACCOUNTS, RUNNING, WAITING = 100, 100, 100, 200, 50
"""Most of each that a board lists."""

OF_UPSTREAM = 200
"""Lanes, and accounts, of an upstream that a board lists."""

MOST_CALLS = 12
"""Calls for all lanes, or for a list of jobs. A call may look at fewer than these: if keys share a
thousand accounts, at only one."""

LANES_AT_ONCE = 10
JOBS_AT_ONCE = 100
KEYS_AT_ONCE = 50
LEASES_AT_ONCE = 500
LATER_AT_ONCE = 1000

MOST_LATER = 20_000
"""Accounts, families, jobs and orphans that are looked at, of those that resume later."""


_Held = Mapping[tuple[PauseKind, str], Pause]
"""Pauses in force, by their kinds and names."""


class _Running(NamedTuple):
    """A running job, with the time of its claim (ms)."""

    upstream: str
    id: str
    lane: str
    key: str
    claimed: float


class _Lanes(NamedTuple):
    """The lanes with most keys, and the keys with most jobs there: how many, and of how many."""

    listed: list[BoardLane]
    more: int
    jobs: Counter[str]
    keys: int


class _Later(NamedTuple):
    """Families that accounts have used up, each until a time; keys' own accounts among those that
    resume later, and the number of those that are not listed."""

    parked: Mapping[str, Mapping[str, float]]
    own: list[str]
    more: int


class Inspection:
    """Reads the line, and its jobs."""

    def __init__(self, run: Run, gap: int, limits: bytes) -> None:
        self._run = run
        self._gap = gap
        self._limits = limits
        self._fields = msgspec.msgpack.encode(FIELDS)

    async def board(self, pauses: Sequence[Pause]) -> Board:
        """Read the whole line, of which operators have paused some parts."""
        at, settling, waiting, names = await self._run("board", self._gap)
        now = at / 1000
        held = {(each.what, each.name): each for each in pauses if (each.until or inf) > now}
        rows = {name: await self._run("board_upstream", name, OF_UPSTREAM) for name in texts(names)}
        running = [job for name in rows async for job in self._running(name)]
        lanes = await self._lanes(rows, running)
        flows, more_flows = await self._flows(lanes, running, held)
        later = await self._later(rows, held)
        upstreams = []
        for name, row in sorted(rows.items()):
            accounts = await self._accounts(texts(row[-1]), now, later, held, name)
            upstreams.append(read_upstream(name, row, now, accounts, held.get(("upstream", name))))
        first = sorted(running, key=lambda job: job.claimed)[:RUNNING]
        return Board(
            at=now,
            settling=settling / 1000,
            waiting_total=waiting,
            running_total=len(running),
            slots=sum(upstream.slots for upstream in upstreams),
            lanes=lanes.listed,
            more_lanes=lanes.more,
            flows=flows,
            more_flows=more_flows,
            upstreams=upstreams,
            own_accounts=await self._accounts(later.own, now, later, held),
            more_accounts=later.more,
            running=await self.jobs([job.id for job in first], BoardJob),
            waiting=await self._next(),
            pauses=list(held.values()),
        )

    async def jobs(self, ids: Sequence[str], form: type[J]) -> list[J]:
        """Read jobs, in this order; those that are not known are left out."""
        found: list[J] = []
        at = calls = 0
        while at < len(ids) and calls < MOST_CALLS:
            some = ids[at : at + JOBS_AT_ONCE]
            seen, rows = await self._run("board_jobs", self._limits, self._fields, *some)
            found += [read_job(row, form) for row in rows]
            at, calls = at + seen, calls + 1
        return found

    async def waiting(self, offset: int, limit: int, key: str = "") -> list[BoardJob]:
        """Read a page of the waiting jobs, of a key or of all."""
        ids = await self._run("board_waiting", offset, limit, key)
        return await self._still_waiting(texts(ids))

    async def _next(self) -> list[BoardJob]:
        """Read the jobs that go next; if there are few, then those that came first."""
        ids = texts(await self._run("board_next", WAITING))
        found = sorted(await self._still_waiting(ids), key=lambda job: (job.wait, job.place))
        if len(ids) < WAITING:
            first = texts(await self._run("board_waiting", 0, WAITING, ""))
            others = [id for id in first if id not in ids]
            found += await self._still_waiting(others[: WAITING - len(ids)])
        return found[:WAITING]

    async def _still_waiting(self, ids: Sequence[str]) -> list[BoardJob]:
        return [job for job in await self.jobs(ids, BoardJob) if job.state == "waiting"]

    async def _running(self, upstream: str) -> AsyncIterator[_Running]:
        for sort in get_args(Sort):
            offset, seen = 0, LEASES_AT_ONCE
            while seen == LEASES_AT_ONCE:
                seen, rows = await self._run("board_running", upstream, sort, offset, seen)
                for id, lane, key, claimed in rows:
                    names = id.decode(), lane.decode(), key.decode()
                    yield _Running(upstream, *names, float(claimed))
                offset += seen

    async def _lanes(self, upstreams: Mapping[str, Row], running: Sequence[_Running]) -> _Lanes:
        held = Counter(job.lane for job in running)
        waiting: dict[str, int] = {}  # keys
        idle: set[str] = set()
        number = 0
        for name, (_, _, _, _, _, all_lanes, some, busy, *_) in upstreams.items():
            its_waiting = {lane.decode(): keys for lane, keys in busy}
            its_lanes = its_waiting.keys() | set(texts(some))
            its_lanes |= {job.lane for job in running if job.upstream == name}
            waiting |= its_waiting
            idle |= its_lanes
            number += all_lanes - len(its_lanes)
        order = [*sorted(waiting, key=waiting.__getitem__, reverse=True), *held, *sorted(idle)]
        names = list(dict.fromkeys(order))
        listed, jobs = [], Counter[str]()
        for row in await self._lane_rows(names[:LANES]):
            listed.append(read_lane(row, held[row[0].decode()]))
            top = row[-1]
            jobs.update(dict(zip(texts(top[::2]), map(int, top[1::2]), strict=True)))
        return _Lanes(listed, len(names) + number - len(listed), jobs, sum(waiting.values()))

    async def _lane_rows(self, names: Sequence[str]) -> list[Row]:
        found: list[Row] = []
        calls = 0
        while len(found) < len(names) and calls < MOST_CALLS:
            some = names[len(found) : len(found) + LANES_AT_ONCE]
            found += await self._run("board_lanes", FLOWS, *some)
            calls += 1
        return found

    async def _flows(
        self, lanes: _Lanes, running: Iterable[_Running], held: _Held
    ) -> tuple[list[BoardFlow], int]:
        jobs = lanes.jobs + Counter(job.key for job in running)
        keys = [key for key, _ in jobs.most_common(FLOWS)]
        found = [
            read_flow(row, paused=("key", row[0].decode()) in held)
            for some in _parts(keys, KEYS_AT_ONCE)
            for row in await self._run("board_flows", *some)
        ]
        only_run = len(jobs) - len(lanes.jobs)
        return found, max(lanes.keys + only_run, len(jobs)) - len(found)

    async def _later(self, upstreams: Collection[str], held: _Held) -> _Later:
        parked: defaultdict[str, dict[str, float]] = defaultdict(dict)
        own = {name: None for what, name in held if what == "account" and _is_own(name, upstreams)}
        more = offset = 0
        seen = LATER_AT_ONCE
        while seen == LATER_AT_ONCE and offset < MOST_LATER:
            left = max(0, OWN_ACCOUNTS - len(own))
            seen, hidden, found = await self._run("board_later", offset, seen, left, *upstreams)
            offset, more = offset + seen, more + hidden
            for account, family, until in _parts(found, 3):
                name = account.decode()
                if family:
                    parked[name][family.decode()] = until / 1000
                if _is_own(name, upstreams):
                    own[name] = None
        listed = list(own)[:OWN_ACCOUNTS]
        return _Later(parked, listed, more + len(own) - len(listed))

    async def _accounts(
        self, names: Sequence[str], now: float, later: _Later, held: _Held, upstream: str = ""
    ) -> list[BoardAccount]:
        found = []
        for some in _parts(names, KEYS_AT_ONCE):
            for row in await self._run("board_accounts", *some):
                name = row[0].decode()
                parked, pause = later.parked.get(name, {}), held.get(("account", name))
                found.append(read_account(row, now, parked, pause, upstream))
        return found


def _is_own(account: str, upstreams: Collection[str]) -> bool:
    """Tell if an account is a key's own: shared ones are named after their upstreams."""
    return account.partition("/")[0] not in upstreams


def _parts(whole: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield the parts of a sequence, each of this size; the last may be shorter."""
    return (whole[at : at + size] for at in range(0, len(whole), size))
