"""Markers inside a text, to be replaced by events, found however the text was cut.

The strategy: one pattern finds whole markers; where it fails at a character that may open one, a
second decides whether the text could still become a marker, and if so everything from there is
held back until more text comes, or until `flush`. A marker has a maximum length, measured in the
text and not in its pieces: so all cuts of a text give the same result, and a text that only looks
like a marker is not held back for long.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

MAX_MARKER = 1000
"""Characters of the longest marker: sandbox paths can be long."""


class CitationMark(msgspec.Struct, frozen=True, gc=False):
    """A citation: `【6†source】`, `【6:0†name.pdf】`, or the private-use form of 2024, numberless.

    `at` is its place in the text, counted in code points as the upstream counts.
    """

    text: str
    at: int
    number: str = ""
    result: str = ""


class SandboxLink(msgspec.Struct, frozen=True, gc=False):
    """`(sandbox:/mnt/data/x)`, with its parentheses: the address of a file made by the code."""

    text: str
    path: str


class Displayed(msgspec.Struct, frozen=True, gc=False):
    """`<<ImageDisplayed>>`: an image that the code displays, within its output."""


Found = str | CitationMark | SandboxLink | Displayed


def _beginnings(literal: str) -> str:
    """A pattern for every beginning of a literal but the empty one."""
    pattern = ""
    for letter in reversed(literal[1:]):
        pattern = f"(?:{re.escape(letter)}{pattern})?"
    return re.escape(literal[0]) + pattern


# CommonMark lets an address hold parentheses in pairs.
_PATH = r"(?:[^()\n]|\([^()\n]*+\))*+"
_OPENINGS = {
    "text": re.compile("[(【\ue200]"),
    "output": re.compile("<"),
}
_WHOLE = {
    "text": re.compile(
        rf"\(sandbox:(?P<path>/{_PATH})\)"
        r"|【(?P<number>\d{1,4})(?::(?P<result>\d{1,4}))?†[^【】\n]*】"
        "|\ue200[^\ue200\ue201\n]*\ue201"
    ),
    "output": re.compile("<<ImageDisplayed>>"),
}
_BEGUN = {
    "text": re.compile(
        rf"{_beginnings('(sandbox:')}"
        rf"|\(sandbox:/{_PATH}(?:\([^()\n]*)?"
        r"|【(?:\d{1,4}(?::\d{0,4})?(?:†[^【】\n]*)?)?"
        "|\ue200[^\ue200\ue201\n]*"
    ),
    "output": re.compile(_beginnings("<<ImageDisplayed>>")),
}


class Markers:
    """Finds the markers in one message's text."""

    def __init__(self, kind: Literal["text", "output"]) -> None:
        self._opening = _OPENINGS[kind]
        self._whole = _WHOLE[kind]
        self._begun = _BEGUN[kind]
        self.held = ""
        self._at = 0  # position of the held text in the whole text

    def feed(self, text: str) -> list[Found]:
        """The texts and markers that the next piece completes, in order; no text is empty."""
        if not self.held and self._opening.search(text) is None:
            self._at += len(text)
            return [text] if text else []
        return self._cut(self.held + text, last=False)

    def flush(self) -> list[Found]:
        """The text held back, when no more is expected for the time being."""
        return self._cut(self.held, last=True) if self.held else []

    def _cut(self, text: str, *, last: bool) -> list[Found]:
        found: list[Found] = []
        begin = look = 0
        while opening := self._opening.search(text, look):
            look = opening.start()
            marker = self._whole.match(text, look, look + MAX_MARKER)
            if marker:
                if begin < look:
                    found.append(text[begin:look])
                found.append(self._marker(marker))
                begin = look = marker.end()
            elif not last and len(text) - look <= MAX_MARKER and self._begun.fullmatch(text, look):
                break
            else:
                look += 1
        else:
            look = len(text)
        if begin < look:
            found.append(text[begin:look])
        self.held = text[look:]
        self._at += look
        return found

    def _marker(self, marker: re.Match[str]) -> Found:
        text = marker[0]
        groups = marker.groupdict()
        if path := groups.get("path"):
            return SandboxLink(text, path)
        if text.startswith("<"):
            return Displayed()
        at = self._at + marker.start()
        return CitationMark(text, at, groups["number"] or "", groups["result"] or "")
