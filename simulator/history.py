"""The conversations the server knows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

from simulator.script import Script
from simulator.steps import Ask, Placed, Text
from simulator.toolwork import operation_hash

_REMEMBERED = 1000
_LINK = re.compile(r"\(sandbox:((?:[^()]|\([^()]*\))*)\)")


@dataclass
class Conversation:
    """What a later request may refer to."""

    owner: str
    private: bool
    script: Script
    document: str = "file-0"
    hidden: bool = False
    confirmed: int = 0
    asked: Placed | None = None
    links: dict[str, set[str]] = field(default_factory=dict)

    def said(self, steps: tuple[Placed, ...]) -> None:
        """Remember what a turn's steps offer: sandbox files, and an action that asks for leave."""
        last = steps[-1]
        self.asked = last if isinstance(last.step, Ask) else None
        for placed in steps:
            if isinstance(placed.step, Text):
                text = placed.step.text or "".join(placed.step.pieces)
                if "sandbox:" in text:
                    self.links[placed.id] = {unquote(path) for path in _LINK.findall(text)}

    def offers(self, message_id: str, path: str) -> bool:
        """Whether this message has a link to this sandbox file."""
        return unquote(path) in self.links.get(message_id, ())

    @property
    def operation_hash(self) -> str:
        """What `always_allow` must say of the action that asks now."""
        step = self.asked.step if self.asked else None
        return operation_hash(step) if isinstance(step, Ask) else ""


class History:
    """The last 1000 conversations."""

    def __init__(self) -> None:
        self._known: dict[str, Conversation] = {}

    def remember(self, conversation_id: str, conversation: Conversation) -> None:
        """Keep a conversation; the oldest is forgotten when there are too many."""
        self._known[conversation_id] = conversation
        if len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]

    def find(self, conversation_id: str, bearer: str) -> Conversation | None:
        """The conversation, if it exists and is the bearer's."""
        known = self._known.get(conversation_id)
        return known if known is not None and known.owner == bearer else None
