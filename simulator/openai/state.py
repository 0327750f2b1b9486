"""The state of one simulator of an OpenAI-compatible server."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field, fields

import msgspec
from aiohttp import web

from simulator.clock import Clock
from simulator.openai.likeness import Like
from simulator.openai.script import Scripts
from simulator.openai.slots import Slots

_REMEMBERED = 500


class Config(msgspec.Struct, frozen=True):
    """Properties of the imitated server.

    `may_wait`: number of requests that may wait for a slot, None for any. `without`: paths below
    `/v1/` that it does not have.
    """

    slots: int = 2
    api_key: str = ""
    models: tuple[str, ...] = ("tiny",)
    like: Like = "llama"
    may_wait: int | None = None
    without: tuple[str, ...] = ()


@dataclass
class Counts:
    """Counters besides those of slots; docs/simulator-openai.md explains them."""

    errors: int = 0
    refused: int = 0
    whole: int = 0
    embeddings: int = 0
    counted: int = 0
    looked_up: int = 0

    def reset(self) -> None:
        """Set all counters to zero."""
        for counter in fields(self):
            setattr(self, counter.name, 0)


class Seen(msgspec.Struct, frozen=True):
    """A request as it came; its credential is shortened to its kind."""

    path: str
    headers: dict[str, str]
    body: msgspec.Raw


@dataclass
class State:
    """All parts, for the running loop."""

    config: Config
    counts: Counts = field(default_factory=Counts)
    scripts: Scripts = field(default_factory=Scripts)
    clock: Clock = field(default_factory=Clock)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    seen: deque[Seen] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def __post_init__(self) -> None:
        self.slots = Slots(self.config.slots, may_wait=self.config.may_wait)
        self.embeddings = Slots(1_000_000)
        self._peers: set[object] = set()

    def is_kept(self, request: web.Request) -> bool:
        """Return True if the request's connection has already been asked about; remember it."""
        peer = request.transport and request.transport.get_extra_info("peername")
        known = peer in self._peers
        self._peers.add(peer)
        return known

    def reset(self) -> None:
        """Set the counters to zero, and forget scripts and requests."""
        self.counts.reset()
        self.slots.reset()
        self.embeddings.reset()
        self.scripts.clear()
        self.seen.clear()
        self.gate.clear()
