"""Limits on an answer that the gateway enforces: stop sequences and a token limit. Pure.

Text is added piece by piece and returned as soon as it is certain to be within the limits. However
it is split, the result is the same as limiting the whole text at once: the text is cut before the
first stop sequence to complete, then after `tokens` tokens, counted as in `wire/tokens/text.py`.

*Stop sequences.* Text that may be the beginning of one is held back: always the end of the text,
and always shorter than the longest sequence.

*Tokens.* Every token is at least one byte, so as many bytes as there are tokens left can pass
uncounted. Only when there are more (or every `_STEP` bytes, so that no count takes long) are they
counted, up to a position where the encoding always splits: later text cannot change the tokens
before it, and no text is encoded twice. Near the limit the last word is held back until it is
complete, because half a word does not encode to half its tokens. A run of `_STEP` characters with
no such position (no space, no change between letters and other characters) is split anyway, which
may miscount by one token.
"""

from __future__ import annotations

from collections.abc import Sequence

from tiktoken import Encoding

from wire.events import Finish

_STEP = 2000
"""Bytes or characters after which the text is counted anyway."""


class AnswerLimits:
    """Enforces the limits of one answer. `tokens` is the maximum number, None for no limit."""

    def __init__(self, stop: Sequence[str], tokens: int | None, encoding: Encoding) -> None:
        self.finish: Finish | None = None
        """Why the text ended; None until then. No text is returned afterwards."""
        self._stops = StopSequences(stop) if any(stop) else None
        self._limit = _TokenLimit(tokens, encoding) if tokens is not None else None

    def add(self, text: str) -> str:
        """Add text; return the text that can be sent now, "" if none."""
        if self._stops is not None:
            text = self._stops.add(text)
            if self._stops.reached is not None:
                return self._finish(text, "stop")
        if self._limit is not None:
            text = self._limit.add(text)
            if self._limit.reached:
                self.finish = "length"
        return text

    def flush(self) -> str:
        """Return the text that was held back, at the end of an answer within its limits."""
        return self._finish(self._stops.flush() if self._stops is not None else "", None)

    @property
    def reached(self) -> str | None:
        """The stop sequence that ended the text, if it was one."""
        return self._stops.reached if self._stops and self.finish == "stop" else None

    def _finish(self, text: str, finish: Finish | None) -> str:
        self.finish = finish
        if self._limit is not None:
            text = self._limit.add(text)
            if not self._limit.reached:
                text += self._limit.flush()
            if self._limit.reached:
                self.finish = "length"
        return text


class StopSequences:
    """Passes on text up to the first stop sequence, which is `reached`."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]  # an empty one would stop nothing
        self.reached: str | None = None
        self.pending = ""

    def flush(self) -> str:
        """Return the text that was held back: what follows it continues no stop sequence."""
        text, self.pending = self.pending, ""
        return text

    def add(self, text: str) -> str:
        """Add text; return the text that can be sent now, "" if none."""
        text = self.pending + text
        found = [(at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            # As if added character by character: the sequence that completes first wins.
            _, end, self.reached = min(found)
            self.pending = ""
            return text[:end]
        possible = min(_possible_start(stop, text) for stop in self._stops)
        self.pending = text[possible:]
        return text[:possible]


class _TokenLimit:
    """Passes on text up to a number of tokens."""

    def __init__(self, limit: int, encoding: Encoding) -> None:
        self._left = limit
        self._encoding = encoding
        self.reached = False
        self._uncounted = ""  # text that has not been counted yet
        self._sent = 0  # the number of its characters that have been sent

    def add(self, text: str) -> str:
        self._uncounted += text
        ready = self._count_if_due()
        if self.reached:
            return ready
        certain = len(self._uncounted.encode()[: self._left].decode(errors="ignore"))
        if certain > self._sent:
            ready += self._uncounted[self._sent : certain]
            self._sent = certain
        return ready

    def _count_if_due(self) -> str:
        """Count the text if it might exceed the limit, or has become long."""
        if self._uncounted and not self._left:
            self.reached = True
        if self.reached or len(self._uncounted.encode()) <= min(self._left, _STEP):
            return ""
        split = _safe_split(self._uncounted)
        if not split and len(self._uncounted) > _STEP:
            split = len(self._uncounted)
        if not split:
            return ""
        ready = self._count(split)
        if self._uncounted and not self._left:
            self.reached = True
        return ready

    def flush(self) -> str:
        return self._count(len(self._uncounted))

    def _count(self, end: int) -> str:
        """Count the uncounted text up to `end`; return the part of it to be sent now."""
        text, self._uncounted = self._uncounted[:end], self._uncounted[end:]
        tokens = self._encoding.encode_ordinary(text)
        if len(tokens) > self._left:
            self.reached = True
            text = self._encoding.decode_bytes(tokens[: self._left]).decode(errors="ignore")
            # Without the half character at its end, the text may be encoded differently.
            while len(text) > self._sent and self._tokens(text) > self._left:
                text = text[:-1]
        self._left -= len(tokens)
        ready = text[self._sent :]
        self._sent = max(0, self._sent - end)
        return ready

    def _tokens(self, text: str) -> int:
        return len(self._encoding.encode_ordinary(text))


def _safe_split(text: str) -> int:
    """Last position at which the encoding splits the text whatever follows; 0 if none.

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


def _possible_start(stop: str, text: str) -> int:
    """Index of the longest suffix of `text` that is a prefix of `stop`; `len(text)` if none."""
    at = text.find(stop[0], max(0, len(text) - len(stop) + 1))
    while at >= 0:
        if stop.startswith(text[at:]):
            return at
        at = text.find(stop[0], at + 1)
    return len(text)
