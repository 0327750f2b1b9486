"""One storm from beginning to end: `run(seed, ...)` and its report."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import plan, recovery, verdicts
from tests.chaos.clients import MODEL, Crowd, Told
from tests.chaos.leftovers import leftovers
from tests.chaos.plan import SECRET, Kind, Request, Upstream
from tests.chaos.recovery import Recovery, quantile
from tests.chaos.storm import Storm, Strike
from tests.chaos.usage import Audit, of_budgets, of_usage
from tests.support.gateway import Gateway

FRONTS, WORKERS = 2, 3
CAP = 6
"""Conversations at once in all."""

POOL_CAP = 3
MAX_WAIT = 300.0
"""Seconds: no request is refused or failed for its wait."""

CLEAN_TIMEOUT = 60.0
"""Seconds within which nothing must be left of any job once everything is there again."""

WELL_TIMEOUT = 20.0
"""Seconds within which then a client for each slot must be served."""


@dataclass(frozen=True)
class Weather:
    """Kind of a storm: at least `calm` seconds between most blows."""

    jobs: int
    at_once: int
    calm: float
    lease: float
    heartbeat: float
    sockets: bool


SHORT = Weather(jobs=70, at_once=24, calm=1.5, lease=3.0, heartbeat=0.75, sockets=False)
LONG = Weather(jobs=600, at_once=32, calm=6.0, lease=6.0, heartbeat=1.5, sockets=True)
"""With the leases that the settings have by default."""


@dataclass(frozen=True)
class Report:
    """Result of one storm."""

    seed: int
    seconds: float
    cleaned_in: float
    endings: Counter[str]
    strikes: list[Strike]
    recovery: Recovery
    stats: dict[str, int]
    usage: dict[str, float]
    violations: list[str]

    @property
    def accepted(self) -> int:
        """Number of requests that were not refused at admission."""
        doors = ("not reached", *(f"503 {code}" for code in verdicts.AT_THE_DOOR))
        away = sum(self.endings[ending] for ending in doors)
        return self.endings.total() - away

    def shown(self) -> str:
        """Return the report as text."""
        struck = Counter(
            f"{strike.target} {'SIGKILL' if strike.kill else 'SIGTERM'}" for strike in self.strikes
        )
        times = self.recovery
        lines = [
            f"seed {self.seed}: {self.endings.total()} requests in {self.seconds:.0f} s"
            f" ({self.accepted} accepted), {len(self.strikes)} strikes,"
            f" clean {self.cleaned_in:.1f} s later",
            *_table("struck", struck),
            *_table("endings", self.endings),
            _quantiles("slots usable again", times.slots) + f", {times.cut_short} cut short",
            _quantiles("clients told", times.clients),
            f"recovery p95 {times.p95:.1f} s (target {recovery.TARGET:.0f} s)",
            "simulator: "
            + ", ".join(
                f"{name} {self.stats[name]}"
                for name in (
                    *("started", "finished", "aborted", "orphans"),
                    *("peak", "peak_per_account", "refused", "refused_for_orphans"),
                )
                if name in self.stats
            ),
            "usage: " + ", ".join(f"{name} {n:g}" for name, n in sorted(self.usage.items())),
            f"violations: {len(self.violations)}",
            *(f"  {violation}" for violation in self.violations),
        ]
        return "\n".join(lines)


# Their caps are higher than the gateway's, so that their peak shows a violated one.
SIMULATORS: dict[Upstream, tuple[str, ...]] = {
    "pandora": ("--max-active", "64", "--per-account", "1", "--per-pool", str(POOL_CAP)),
    "openai": ("--kind", "openai", "--slots", "64", "--models", MODEL),
}


def run(seed: int, weather: Weather, directory: Path, upstream: Upstream = "pandora") -> Report:
    """Let one storm rage over a gateway of its own. `directory` takes what the roles print."""
    requests = plan.requests(seed, weather.jobs, _kinds(weather, upstream))
    afterwards = _afterwards()
    with Gateway(
        directory,
        simulator=SIMULATORS[upstream],
        upstream__kind=upstream,
        upstream__max_concurrency=str(CAP),
        upstream__per_pool_concurrency=str(POOL_CAP),
        upstream__first_event_timeout="3",
        upstream__idle_timeout="2",
        workers__max_jobs="3",
        workers__drain_timeout="1",
        server__drain_timeout="2",
        queue__max_wait=str(MAX_WAIT),
        queue__lease=str(weather.lease),
        queue__heartbeat=str(weather.heartbeat),
        redis__outage_grace="15",
        stream__grace="0.5",
        stream__keepalive_interval="1",
        **_listed([*requests, *afterwards] if upstream == "openai" else []),
    ) as gateway:
        gateway.start(workers=WORKERS, fronts=FRONTS)
        gateway.reset(echo=True, step=9)
        crowd = Crowd(requests, weather.at_once, gateway.simulator)
        audit = Audit(gateway.redis.url, gateway.secret)
        storm = Storm(gateway, crowd, plan.blows(seed, weather.calm), audit)
        began = time.monotonic()
        crowd.start()
        storm.rage()
        raged = time.monotonic()
        storm.mend_all()
        left = _wait_clean(gateway)
        cleaned = time.monotonic()
        well = _ask_once_more(gateway, crowd, afterwards)
        left = left or _wait_clean(gateway)
        audit.look(at_once=True)
        counted, spent, metrics = audit.counted(), audit.spent(), audit.metrics()
        stats = gateway.stats()
        printed = gateway.printed()
    violations = list(storm.oddities)
    for told in crowd.told:
        violations += [
            f"request {told.request.number} ({told.ending}): {wrong}"
            for wrong in verdicts.of_client(told, storm.strikes)
        ]
    violations += [f"afterwards a client got: {told.ending}" for told in well if not told.done]
    violations += [f"left behind: {what}" for what in left]
    violations += verdicts.of_upstream(stats, CAP, POOL_CAP)
    violations += verdicts.of_output(printed)
    violations += of_usage(counted, metrics, audit.jobs, [*well, *crowd.told])
    if upstream == "openai":
        violations += of_budgets(counted, spent)
    times = recovery.measure(storm.strikes, storm.samples, crowd.told, CAP)
    if times.p95 > recovery.TARGET:
        violations.append(f"recovery took {times.p95:.1f} s")
    return Report(
        seed=seed,
        seconds=raged - began,
        cleaned_in=cleaned - raged,
        endings=Counter(told.ending for told in crowd.told),
        strikes=storm.strikes,
        recovery=times,
        stats=stats,
        usage=counted,
        violations=violations,
    )


def _kinds(weather: Weather, upstream: Upstream) -> Sequence[tuple[int, Kind]]:
    if upstream == "openai":
        return plan.RELAYED_KINDS
    return plan.KINDS + plan.SOCKET_KINDS if weather.sockets else plan.KINDS


def _wait_clean(gateway: Gateway) -> list[str]:
    """Wait until nothing is left of jobs; return what is left at the deadline."""
    deadline = time.monotonic() + CLEAN_TIMEOUT
    while (left := leftovers(gateway.redis.url)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def _listed(requests: Sequence[Request]) -> dict[str, str]:
    """Settings that list the keys of these requests, so that the usage of each is its own."""
    bearers = {request.bearer for request in requests}
    hashes = sorted(hashlib.sha256(bearer.encode()).hexdigest() for bearer in bearers)
    return {"auth__keys": json.dumps(hashes)} if hashes else {}


def _afterwards() -> list[Request]:
    """A request for each slot, after the storm: all slots have to be usable."""
    kind = Kind("", steady=True)
    return [
        Request(
            number=number,
            kind=kind,
            bearer=f"{SECRET}-afterwards-{number}",
            prompt=f"[[sim echo=1]] {SECRET} afterwards",
            answer=f"{SECRET} afterwards",
            stream=True,
            front=number,
            leave_after=WELL_TIMEOUT,
        )
        for number in range(CAP)
    ]


def _ask_once_more(gateway: Gateway, crowd: Crowd, requests: list[Request]) -> list[Told]:
    afterwards = Crowd(requests, CAP, gateway.simulator)
    afterwards.up = crowd.up
    afterwards.start()
    while not afterwards.finished:
        time.sleep(0.05)
    return afterwards.told


def _table(title: str, counted: Counter[str]) -> list[str]:
    width = max((len(name) for name in counted), default=0)
    rows = [f"  {name:<{width}}  {count}" for name, count in counted.most_common()]
    return [f"{title}:", *rows]


def _quantiles(title: str, ordered: list[float]) -> str:
    parts = (quantile(ordered, 0.5), quantile(ordered, 0.95), ordered[-1] if ordered else 0.0)
    return f"{title} after: p50 {parts[0]:.1f} s, p95 {parts[1]:.1f} s, max {parts[2]:.1f} s" + (
        f" ({len(ordered)} measured)"
    )
