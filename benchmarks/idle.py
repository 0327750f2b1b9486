"""CPU time of the idle gateway."""

from __future__ import annotations

import time

from benchmarks.cpu import Cpu
from benchmarks.gateway import gateway

SECONDS = 10.0
SETTLE = 2.0
TARGET = 2.0  # percent of one core


def main() -> None:
    """Measure and print the result."""
    with gateway(slots=4, simulator=None) as running:
        time.sleep(SETTLE)
        cpu = Cpu(running.parts)
        time.sleep(SECONDS)
        used = {name: 100 * seconds / SECONDS for name, seconds in cpu.used().items()}
    print(f"CPU of the idle gateway over {SECONDS:.0f} s, in percent of one core")
    for name, share in used.items():
        print(f"  {name:12}{share:8.2f}")
    print(f"  {'together':12}{sum(used.values()):8.2f} (target: under {TARGET:.0f})")
