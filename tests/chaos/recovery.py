"""Time of recovery after a worker was killed and after Redis was restarted.

Two things are measured, each only up to the next strike, whose own recovery it then is:

* the slots: until the simulator holds as many conversations as the cap allows, while clients enough
  wait. The conversations of a killed worker end at once, their slots are freed with its leases;
* the clients: until each answer that was streaming without pauses has gone on, or ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.chaos.clients import Told
from tests.chaos.storm import Sample, Strike

TARGET = 10.0
"""Seconds that are allowed for 95 of 100 recoveries."""

_NOTICED = 0.05
"""Seconds that the simulator may take to see a broken connection."""


@dataclass(frozen=True)
class Recovery:
    """Seconds, sorted; recoveries cut short by the next strike are only counted."""

    slots: list[float]
    clients: list[float]
    cut_short: int

    @property
    def p95(self) -> float:
        """Recoveries of both together."""
        return quantile(sorted(self.slots + self.clients), 0.95)


def measure(
    strikes: Sequence[Strike], samples: Sequence[Sample], told: Sequence[Told], cap: int
) -> Recovery:
    """Recoveries of a whole storm."""
    slots, clients, cut_short = [], [], 0
    moments = [strike.at for strike in strikes] + [float("inf")]
    for strike, (_, following) in zip(strikes, pairwise(moments), strict=True):
        start = strike.back if strike.target == "redis" else strike.at
        if start is None or strike.target == "front" or not (strike.kill or strike.back):
            continue
        if start > following:
            cut_short += 1
            continue
        busy = _busy_again(samples, start, following, cap)
        if busy is None:
            cut_short += 1
        else:
            slots.append(busy - start)
        signs = [_next_sign(one, start) for one in told if _streams(one, start)]
        clients += [sign - start for sign in signs if sign < following]
    return Recovery(sorted(slots), sorted(clients), cut_short)


def _busy_again(
    samples: Iterable[Sample], start: float, following: float, cap: int
) -> float | None:
    for sample in samples:
        if sample.at < start + _NOTICED:
            continue
        if sample.at > following or sample.clients < 2 * cap:
            return None
        if sample.active >= cap:
            return sample.at
    return None


def _streams(told: Told, moment: float) -> bool:
    begun = bool(told.arrivals) and told.arrivals[0] < moment < told.ended
    return begun and told.request.kind.steady and not told.left and told.broken is None


def _next_sign(told: Told, moment: float) -> float:
    return next((at for at in told.arrivals if at > moment), told.ended)


def quantile(ordered: Sequence[float], part: float) -> float:
    """The given quantile of the values; 0 without values."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]
