"""Throttle of those who keep coming although they are refused: later and later answers. Pure.

Each refusal raises the level of its name by one, and each second lowers it by one. So a client that
is refused now and then, or many times at once, is answered at once, and one that goes on asking
waits longer and longer, up to a few seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

FREE = 10.0
"""Level up to which refusals are answered at once."""

STEP = 0.1
"""Seconds of delay for each further refusal."""

LONGEST = 6.0
"""Longest delay, in seconds."""

TOO_MANY = FREE + LONGEST / STEP
"""Level from which on the delay grows no more."""

HIGHEST = 2 * TOO_MANY
"""Highest level: so long after its last refusal, in seconds, a name is as good as new."""

NAMES = 10_000
"""Names that are remembered; those refused longest ago are forgotten first."""


class _Level(msgspec.Struct, frozen=True):
    level: float
    at: float


class Throttle:
    """Levels of names, by a clock in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._levels: dict[str, _Level] = {}  # those refused longest ago first

    def refuse(self, name: str, weight: float = 1.0) -> float:
        """Count a refusal of a name; return the seconds by which to delay its answer.

        One of a greater weight counts as several.
        """
        level = min(self._level(name) + weight, HIGHEST)
        self._levels.pop(name, None)
        while len(self._levels) >= NAMES:
            del self._levels[next(iter(self._levels))]
        self._levels[name] = _Level(level, self._clock())
        return min(max(0.0, level - FREE) * STEP, LONGEST)

    def excess(self, name: str) -> float:
        """Return the seconds until a name has no longer been refused too many times; 0 if it has
        not been."""
        return max(0.0, self._level(name) - TOO_MANY)

    def _level(self, name: str) -> float:
        if (last := self._levels.get(name)) is None:
            return 0.0
        return max(0.0, last.level - (self._clock() - last.at))
