"""CPU time of processes."""

from __future__ import annotations

from collections.abc import Mapping

import psutil


class Cpu:
    """CPU time of processes since this object was made: all threads, user and system."""

    def __init__(self, parts: Mapping[str, psutil.Process]) -> None:
        self._parts = parts
        self._before = self._read()

    def used(self) -> dict[str, float]:
        """Return the seconds by name."""
        return {name: now - self._before[name] for name, now in self._read().items()}

    def _read(self) -> dict[str, float]:
        times = {name: part.cpu_times() for name, part in self._parts.items()}
        return {name: spent.user + spent.system for name, spent in times.items()}
