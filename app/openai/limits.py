"""Ends an answer before the model does: at a stop sequence, or at a number of tokens. Pure.

Text goes in piece by piece and comes out as soon as it is sure to stay. However it is split, what
comes out is what cutting the whole text at once would give: first before the stop sequence that is
complete first, then after so many tokens as `app/openai/usage.py` counts.

*Stop sequences.* What may be the beginning of one is held back: always the end of the text, and
always shorter than the longest sequence.

*Tokens.* Every token is at least one byte, so as many bytes as tokens are left may pass uncounted.
Only when there are more (or every `_STEP` bytes, so that no count takes long) are they counted, up
to a place where the encoding always divides: what follows cannot change what came before, and no
text is encoded twice. Near the limit the last word is held back until it is complete, since the
encoding of half a word is not half its encoding. A run of `_STEP` characters with no place to
divide (no space, no change between letters and other things) is divided anyway, which may count a
token more or less.
"""

from __future__ import annotations

from collections.abc import Sequence

from tiktoken import Encoding

from wire.events import Finish

_STEP = 2000


class Cut:
    """What cuts one answer. `limit` is in tokens; None is no limit."""

    def __init__(self, stop: Sequence[str], limit: int | None, encoding: Encoding) -> None:
        self.finish: Finish | None = None
        """Why the text was cut; None as long as it was not. Nothing comes out after that."""
        self._stops = _Stops(stop) if any(stop) else None
        self._limit = _Limit(limit, encoding) if limit is not None else None

    def add(self, text: str) -> str:
        """The text that can go out now that this one has come, "" if none."""
        if self._stops is not None:
            text = self._stops.add(text)
            if self._stops.met:
                return self._last(text, "stop")
        if self._limit is not None:
            text = self._limit.add(text)
            if self._limit.met:
                self.finish = "length"
        return text

    def end(self) -> str:
        """What was held back, now that no more text will come. Only if nothing was cut."""
        return self._last(self._stops.held if self._stops is not None else "", None)

    def _last(self, text: str, finish: Finish | None) -> str:
        self.finish = finish
        if self._limit is not None:
            text = self._limit.add(text)
            if not self._limit.met:
                text += self._limit.end()
            if self._limit.met:
                self.finish = "length"
        return text


class _Stops:
    """Text up to the first stop sequence."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]  # an empty one stops nothing
        self.met = False
        self.held = ""

    def add(self, text: str) -> str:
        text = self.held + text
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            # As if the text had come character by character: the first that is complete.
            self.met = True
            self.held = ""
            return text[: min(found)[1]]
        begun = min(_beginning(stop, text) for stop in self._stops)
        self.held = text[begun:]
        return text[:begun]


def _beginning(stop: str, text: str) -> int:
    """Where the end of a text begins that the stop sequence begins with; else the text's length."""
    at = text.find(stop[0], max(0, len(text) - len(stop) + 1))
    while at >= 0:
        if stop.startswith(text[at:]):
            return at
        at = text.find(stop[0], at + 1)
    return len(text)


class _Limit:
    """Text up to so many tokens."""

    def __init__(self, limit: int, encoding: Encoding) -> None:
        self._left = limit
        self._encoding = encoding
        self.met = False
        self._open = ""  # what has come and has not been counted
        self._sent = 0  # so many characters of it have gone out

    def add(self, text: str) -> str:
        self._open += text
        said = ""
        if self._open and not self._left:
            self.met = True
        elif len(self._open.encode()) > min(self._left, _STEP):
            divide = _divide(self._open)
            if not divide and len(self._open) > _STEP:
                divide = len(self._open)
            if divide:
                said = self._count(divide)
                self.met = self.met or (not self._left and self._open != "")
        if self.met:
            return said
        sure = len(self._open.encode()[: self._left].decode(errors="ignore"))
        if sure > self._sent:
            said += self._open[self._sent : sure]
            self._sent = sure
        return said

    def end(self) -> str:
        return self._count(len(self._open))

    def _count(self, end: int) -> str:
        """Count the open text up to there, and give what of it can go out and has not."""
        text, self._open = self._open[:end], self._open[end:]
        tokens = self._encoding.encode_ordinary(text)
        if len(tokens) > self._left:
            self.met = True
            text = self._encoding.decode_bytes(tokens[: self._left]).decode(errors="ignore")
            # Without half a character at its end, it may be encoded in another way.
            while len(text) > self._sent and self._tokens(text) > self._left:
                text = text[:-1]
        self._left -= len(tokens)
        said = text[self._sent :]
        self._sent = max(0, self._sent - end)
        return said

    def _tokens(self, text: str) -> int:
        return len(self._encoding.encode_ordinary(text))


def _divide(text: str) -> int:
    """The last place where the encoding divides the text whatever follows; 0 if there is none.

    GPT-4's encoding first splits the text into words. None of them goes on after a letter with
    anything but a letter, and none goes on with a space after anything but white space.
    """
    for at in range(len(text) - 1, 0, -1):
        before, after = text[at - 1], text[at]
        if after == " ":
            if not before.isspace():
                return at
        # Neither printable nor space: perhaps a letter of a later Unicode than Python's.
        elif before.isalpha() and not after.isalpha() and (after.isprintable() or after.isspace()):
            return at
    return 0
