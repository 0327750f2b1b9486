"""The text of a scripted answer and its pace, which scripts of every kind of server have."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]
AtLeastOne = Annotated[int, Meta(ge=1, le=1_000_000)]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]


class Speech(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys that all scripts share. docs/simulator.md explains them."""

    words: Annotated[int, Meta(ge=0, le=1_000_000)] = 12
    text: str | None = None
    echo: bool = False
    interval: Seconds = 0.02
    burst: AtLeastOne = 1
    delay: Seconds = 0.05
    gate: Count = 0
    step: AtLeastOne = 4
    ping: Seconds = 0.0
    crlf: bool = False
    at: Count = 0
    at_word: Count = 0
    call: str | None = None
    args: str | None = None
    json: str | None = None

    def pieces(self) -> list[str]:
        """Return the addition of each text event to the answer."""
        if self.text is None:
            return [f" w{n}" if n else "w0" for n in range(self.words)]
        return self.cut(self.text)

    def cut(self, text: str) -> list[str]:
        """Cut a text into pieces of `step` characters."""
        return [text[at : at + self.step] for at in range(0, len(text), self.step)]
