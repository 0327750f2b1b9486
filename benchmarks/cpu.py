"""CPU time of processes."""

from __future__ import annotations

from collections.abc import Mapping

import psutil


class Cpu:
    """What processes use from the making of this object on, all their threads, user and system."""

    def __init__(self, parts: Mapping[str, psutil.Process]) -> None:
        self._parts = parts
        self._before = self._read()

    def used(self) -> dict[str, float]:
        """Seconds since then, by name."""
        return {name: now - self._before[name] for name, now in self._read().items()}

    def _read(self) -> dict[str, float]:
        times = {name: part.cpu_times() for name, part in self._parts.items()}
        return {name: spent.user + spent.system for name, spent in times.items()}
