"""CPU time per token, compared with passing the upstream's bytes through."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

import psutil
import uvloop

from benchmarks.gateway import gateway, passthrough
from benchmarks.load import Steady, load
from benchmarks.question import OPENAI, RELAYED, UPSTREAM, Dialect

STREAMS = 100
INTERVAL = 0.01
WORDS = 400
ROUNDS = 3
TARGETS = {"pandora": 3.0, "openai": 2.5}

ASKED = STREAMS / INTERVAL
"""Tokens per second."""


def main() -> None:
    """Measure with each kind of upstream and print the results."""
    _measure("pandora", OPENAI, UPSTREAM)
    _measure("openai", RELAYED, RELAYED)


def _measure(kind: str, dialect: Dialect, upstreams: Dialect) -> None:
    """Measure the gateway and the pass-through in turns and print the result."""
    ours: list[Steady] = []
    bare: list[Steady] = []
    with (
        gateway(slots=STREAMS, kind=kind) as running,
        passthrough(running.upstream, upstreams) as (url, part),
    ):
        for _ in range(ROUNDS):
            ours.append(_load(running.chat, dialect, running.parts))
            bare.append(_load(url, upstreams, {"pass-through": part}))
    print(f"CPU per token, {STREAMS} streams of {1 / INTERVAL:.0f} tokens per second,", end=" ")
    print(f"{ROUNDS} rounds in turns, in microseconds, with an upstream of kind {kind}")
    totals = [_print("gateway", ours), _print("pass-through", bare)]
    ratios = [
        f"{sum(_costs(o).values()) / sum(_costs(b).values()):.2f}"
        for o, b in zip(ours, bare, strict=True)
    ]
    print(f"  ratio {totals[0] / totals[1]:.2f} (target: at most {TARGETS[kind]}); ", end="")
    print(f"by round {', '.join(ratios)}")


def _load(url: str, dialect: Dialect, parts: Mapping[str, psutil.Process]) -> Steady:
    return uvloop.run(load(url, dialect, parts, streams=STREAMS, words=WORDS, interval=INTERVAL))


def _costs(run: Steady) -> dict[str, float]:
    return {part: run.per_token(part) for part in run.cpu}


def _print(name: str, runs: list[Steady]) -> float:
    """Print the parts, the sum and the achieved rate. Returns the median of the sums."""
    costs = [_costs(run) for run in runs]
    if len(costs[0]) > 1:
        for part in costs[0]:
            _row(f"  {part}", [cost[part] for cost in costs])
    sums = [sum(cost.values()) for cost in costs]
    _row(name, sums)
    rate = median(run.rate for run in runs)
    busy = median(run.busy for run in runs)
    late = "" if rate >= 0.95 * ASKED else f" of {ASKED:.0f} asked: THE MACHINE IS SATURATED"
    print(f"    {rate:.0f} tokens per second{late}, all cores {busy:.0f} % busy")
    return median(sums)


def _row(name: str, values: list[float]) -> None:
    print(f"  {name:14}{median(values):8.1f}   ({min(values):.1f} to {max(values):.1f})")
