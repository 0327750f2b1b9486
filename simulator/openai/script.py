"""Scripts of answers of an OpenAI-compatible server."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from simulator.openai.errors import ErrorName
from simulator.openai.likeness import Like
from simulator.speech import AtLeastOne, Speech

Fault = Literal[
    "error",
    "error_done",
    "error_choice",
    "no_done",
    "no_finish",
    "broken_off",
    "only_done",
    "cut",
    "cut_after_finish",
    "garbage",
    "silence",
    "hang",
    "reset",
    "stale",
]


class Script(Speech, frozen=True, forbid_unknown_fields=True):
    """One scripted answer. docs/simulator-openai.md explains every key."""

    like: Like | None = None
    reasoning: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    progress: Annotated[int, Meta(ge=0, le=1000)] = 0
    finish: str | None = None
    error: ErrorName | None = None
    fault: Fault | None = None
    times: AtLeastOne | None = None


class Scripts:
    """The script posted for everyone, if any, and how often each limited one was played."""

    def __init__(self) -> None:
        self.posted: Script | None = None
        self._played: Counter[str] = Counter()

    def post(self, script: Script) -> None:
        """Replace the script, and begin its `times` anew."""
        self.clear()
        self.posted = script

    def play(self, script: Script, prompt: str) -> Script:
        """Return the script, or its answer without errors and faults if `times` is exhausted."""
        if script.times is None:
            return script
        self._played[prompt] += 1
        if self._played[prompt] <= script.times:
            return script
        return msgspec.structs.replace(script, error=None, fault=None)

    def clear(self) -> None:
        """Forget everything."""
        self.posted = None
        self._played.clear()
