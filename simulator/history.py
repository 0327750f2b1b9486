"""Conversations of the server."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

from simulator.script import Script
from simulator.steps import Ask, PlacedStep, Text
from simulator.toolwork import operation_hash

_REMEMBERED = 1000
_LINK = re.compile(r"\(sandbox:((?:[^()]|\([^()]*\))*)\)")


@dataclass
class Conversation:
    """One conversation: everything that a later request may refer to."""

    owner: str
    private: bool
    script: Script
    document: str = "file-0"
    hidden: bool = False
    confirmed: int = 0
    asked: PlacedStep | None = None
    links: dict[str, set[str]] = field(default_factory=dict)

    def said(self, steps: tuple[PlacedStep, ...]) -> None:
        """Remember the sandbox files and the action that the steps of a turn offer."""
        last = steps[-1]
        self.asked = last if isinstance(last.step, Ask) else None
        for placed in steps:
            if isinstance(placed.step, Text):
                text = placed.step.text or "".join(placed.step.pieces)
                if "sandbox:" in text:
                    self.links[placed.id] = {unquote(path) for path in _LINK.findall(text)}

    def offers(self, message_id: str, path: str) -> bool:
        """Check that this message has a link to this sandbox file."""
        return unquote(path) in self.links.get(message_id, ())

    @property
    def operation_hash(self) -> str:
        """Hash that `always_allow` must name for the action that asks now."""
        step = self.asked.step if self.asked else None
        return operation_hash(step) if isinstance(step, Ask) else ""


class History:
    """The last 1000 conversations."""

    def __init__(self) -> None:
        self._known: dict[str, Conversation] = {}

    def remember(self, conversation_id: str, conversation: Conversation) -> None:
        """Keep a conversation, and forget the oldest one if there are too many."""
        self._known[conversation_id] = conversation
        if len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]

    def find(self, conversation_id: str, bearer: str) -> Conversation | None:
        """Return the conversation, if it exists and is the bearer's."""
        known = self._known.get(conversation_id)
        return known if known is not None and known.owner == bearer else None
