"""The state of one simulator, composed in one place."""

from __future__ import annotations

import asyncio

from simulator.accounts import Accounts, Limits
from simulator.checks import Arkose
from simulator.clock import Clock
from simulator.counts import Counts
from simulator.files import Files
from simulator.history import History
from simulator.hub import Hub
from simulator.script import ScriptBook


class State:
    """All parts, for the running loop."""

    def __init__(self, limits: Limits) -> None:
        self.accounts = Accounts(limits)
        self.scripts = ScriptBook()
        self.counts = Counts()
        self.history = History()
        self.files = Files()
        self.arkose = Arkose()
        self.clock = Clock()
        self.hub = Hub(self.scripts, self.counts)
        self.gate = asyncio.Event()
        self.side_port = 0
        """Port of the hosts of storage and sockets."""
