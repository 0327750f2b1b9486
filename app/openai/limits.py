"""AnswerLimits of an answer that the gateway enforces: stop sequences and a number of tokens. Pure.

Text is added piece by piece and returned as soon as it is certain to be within the limits. However
it is split, the result is the same as limiting the whole text at once: first before the stop
sequence that is complete first, then after the given number of tokens, counted as in
`app/openai/usage.py`.

*Stop sequences.* Text that may be the beginning of one is held back: always the end of the text,
and always shorter than the longest sequence.

*Tokens.* Every token is at least one byte, so as many bytes as there are tokens left can pass
uncounted. Only when there are more (or every `_STEP` bytes, so that no count takes long) are they
counted, up to a position where the encoding always divides: later text cannot change the tokens
before it, and no text is encoded twice. Near the limit the last word is held back until it is
complete, since the encoding of half a word is not half its encoding. A run of `_STEP` characters
with no such position (no space, no change between letters and other characters) is divided anyway,
which may miscount by one token.
"""

from __future__ import annotations

from collections.abc import Sequence

from tiktoken import Encoding

from wire.events import Finish

_STEP = 2000


class AnswerLimits:
    """AnswerLimits of one answer. `tokens` is their maximum number, None for no maximum."""

    def __init__(self, stop: Sequence[str], tokens: int | None, encoding: Encoding) -> None:
        self.finish: Finish | None = None
        """Reason for which the text was ended; None while it was not. No text is returned later."""
        self._stops = _StopSequences(stop) if any(stop) else None
        self._limit = _TokenLimit(tokens, encoding) if tokens is not None else None

    def add(self, text: str) -> str:
        """Add text; return the text that can be sent now, "" if none."""
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
        """Return the text that was held back, at the end of an answer within its limits."""
        return self._last(self._stops.pending if self._stops is not None else "", None)

    def _last(self, text: str, finish: Finish | None) -> str:
        self.finish = finish
        if self._limit is not None:
            text = self._limit.add(text)
            if not self._limit.met:
                text += self._limit.end()
            if self._limit.met:
                self.finish = "length"
        return text


class _StopSequences:
    """Passes on text up to the first stop sequence."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]  # an empty one would stop nothing
        self.met = False
        self.pending = ""

    def add(self, text: str) -> str:
        text = self.pending + text
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            # As if the text were added character by character: the first one to be complete.
            self.met = True
            self.pending = ""
            return text[: min(found)[1]]
        possible = min(_possible_start(stop, text) for stop in self._stops)
        self.pending = text[possible:]
        return text[:possible]


def _possible_start(stop: str, text: str) -> int:
    """Index of the longest suffix of `text` that is a prefix of `stop`; `len(text)` if none."""
    at = text.find(stop[0], max(0, len(text) - len(stop) + 1))
    while at >= 0:
        if stop.startswith(text[at:]):
            return at
        at = text.find(stop[0], at + 1)
    return len(text)


class _TokenLimit:
    """Passes on text up to a number of tokens."""

    def __init__(self, limit: int, encoding: Encoding) -> None:
        self._left = limit
        self._encoding = encoding
        self.met = False
        self._open = ""  # text that has not been counted yet
        self._sent = 0  # the number of its characters that have been sent

    def add(self, text: str) -> str:
        self._open += text
        out = ""
        if self._open and not self._left:
            self.met = True
        elif len(self._open.encode()) > min(self._left, _STEP):
            divide = _divide(self._open)
            if not divide and len(self._open) > _STEP:
                divide = len(self._open)
            if divide:
                out = self._count(divide)
                self.met = self.met or (not self._left and self._open != "")
        if self.met:
            return out
        certain = len(self._open.encode()[: self._left].decode(errors="ignore"))
        if certain > self._sent:
            out += self._open[self._sent : certain]
            self._sent = certain
        return out

    def end(self) -> str:
        return self._count(len(self._open))

    def _count(self, end: int) -> str:
        """Count the open text up to `end`; return the part of it to be sent now."""
        text, self._open = self._open[:end], self._open[end:]
        tokens = self._encoding.encode_ordinary(text)
        if len(tokens) > self._left:
            self.met = True
            text = self._encoding.decode_bytes(tokens[: self._left]).decode(errors="ignore")
            # Without the half character at its end, the text may be encoded differently.
            while len(text) > self._sent and self._tokens(text) > self._left:
                text = text[:-1]
        self._left -= len(tokens)
        out = text[self._sent :]
        self._sent = max(0, self._sent - end)
        return out

    def _tokens(self, text: str) -> int:
        return len(self._encoding.encode_ordinary(text))


def _divide(text: str) -> int:
    """The last position at which the encoding divides the text whatever follows; 0 if none.

    GPT-4's encoding first splits the text into words. In none of them is a letter followed by
    anything but a letter, or a space preceded by anything but white space.
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
