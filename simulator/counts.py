"""Counters of `GET /simulator/stats`, except those of conversations (`accounts.py`)."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass
class Counts:
    """Counters of `GET /simulator/stats`; docs/simulator.md explains them."""

    uploads: int = 0
    downloads: int = 0
    sandbox: int = 0
    patched: int = 0
    hidden: int = 0
    arkose: int = 0
    gizmos: int = 0
    confirmations: int = 0
    registered: int = 0
    sockets: int = 0
    reconnects: int = 0
    acks: int = 0
    stopped: int = 0
    invalid: int = 0

    def reset(self) -> None:
        """Set all counters to zero."""
        for counter in fields(self):
            setattr(self, counter.name, 0)
