"""Render a script as the bytes of one whole answer, without any I/O.

Each text event repeats the whole text so far, so it must not be encoded anew each time: the JSON
around the text is built once per message and split in two, the escaped text grows by its new piece,
and an event is the three joined.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, cycle, islice

from simulator import citations
from simulator.deltas import V1, Encoding, Whole
from simulator.events import Event, Events, Turn
from simulator.script import Script
from simulator.steps import Code, PlacedStep, Text
from simulator.toolwork import work

_TEXT = "@text@"
_PAD = "@pad@"

_Grown = Callable[[str | None, str], Event]
"""Makes the event of a message that has grown to a text (None: no parts), with a pad."""


@dataclass(frozen=True)
class Segment:
    """Events of one step: `count` of them, after `pause` seconds."""

    pause: float
    count: int
    events: Iterator[bytes]


@dataclass(frozen=True)
class Reply:
    """Bytes of one answer: a beginning, a segment for each step, and an end.

    Read them once and in this order: later bytes may depend on earlier ones.
    """

    lead: bytes
    segments: Iterable[Segment]
    tail: Callable[[], bytes]


def reply(script: Script, turn: Turn, steps: tuple[PlacedStep, ...]) -> Reply:
    """Render the whole answer. Faults of content are in it; the caller makes the others."""
    return _Renderer(script, turn, steps).reply()


def pings(script: Script) -> Iterator[bytes]:
    """Yield pings forever: the named event and the comment in turn, each with the current time."""
    end = b"\r\n\r\n" if script.crlf else b"\n\n"
    while True:
        yield f"event: ping\r\ndata: {datetime.now(UTC).replace(tzinfo=None)}\r\n\r\n".encode()
        yield f": ping - {datetime.now(UTC)}".encode() + end


@dataclass(frozen=True)
class _Part:
    """One step: its first event, the number of further ones, those, and its finished events."""

    pause: float
    first: Event
    count: int
    rest: Iterator[bytes]
    finish: list[Event]


class _Renderer:
    """Renders the steps of one turn."""

    def __init__(self, script: Script, turn: Turn, steps: tuple[PlacedStep, ...]) -> None:
        self._script = script
        self._turn = turn
        self._steps = steps
        self._events = Events(script, turn)
        encoding = V1 if script.v1 else Whole
        self._wire: Encoding = encoding(raw=script.raw, crlf=script.crlf)

    def reply(self) -> Reply:
        parts = [self._part(step, last=step is self._steps[-1]) for step in self._steps]
        finish = parts[-1].finish
        segments = [
            self._segment(part, first=part is parts[0], last=part is parts[-1]) for part in parts
        ]
        fault = self._script.fault
        if fault == "error_before":
            return Reply(self._wire.begin(), (), lambda: self._tail([], error=True))
        opening = [parts[0].first, self._events.moderation(completion=False)]
        if fault == "silence" and not self._script.at_word:
            return Reply(b"", (), lambda: b"")
        lead = self._wire.begin() + self._encode([*self._events.echoes(), *opening])
        match fault:
            case "no_done":
                return Reply(lead, segments, lambda: self._tail(finish, done=False, ended=True))
            case "done_unfinished":
                return Reply(lead, segments, lambda: self._tail([]))
            case "unfinished_eof":
                return Reply(lead, segments, lambda: self._tail([], done=False))
            case "error_after":
                half = _first(segments, sum(segment.count for segment in segments) // 2)
                return Reply(lead, half, lambda: self._tail([], error=True))
            case "silence":
                return Reply(lead, _first(segments, self._script.at_word), lambda: b"")
            case _:
                return Reply(lead, segments, lambda: self._tail(finish, ended=True))

    def _tail(
        self, finish: list[Event], *, ended: bool = False, done: bool = True, error: bool = False
    ) -> bytes:
        events = list(finish)
        if ended:
            events += [self._events.moderation(completion=True), *self._events.title()]
        if error:
            events.append(self._events.error())
        return self._encode(events) + (self._wire.done(self._turn.conversation_id) if done else b"")

    def _encode(self, events: Iterable[Event]) -> bytes:
        return b"".join(map(self._wire.event, events))

    def _segment(self, part: _Part, *, first: bool, last: bool) -> Segment:
        """Make a step's segment, without events that are in the lead or in the tail."""
        start = [] if first else [part.first]
        finish = [] if last else part.finish
        if not start and not finish:
            return Segment(part.pause, part.count, part.rest)
        count = len(start) + part.count + len(finish)
        encoded = chain(map(self._wire.event, start), part.rest, map(self._wire.event, finish))
        return Segment(part.pause, count, encoded)

    def _part(self, placed: PlacedStep, *, last: bool) -> _Part:
        match placed.step:
            case Text():
                return self._text(placed, placed.step, last=last)
            case Code():
                return self._code(placed, placed.step)
            case _:
                first, *rest = work(self._events, placed, self._turn.created)
                encoded = map(self._wire.event, rest)
                return _Part(placed.step.pause, first, len(rest), encoded, [])

    def _text(self, placed: PlacedStep, step: Text, *, last: bool) -> _Part:
        pieces = step.pieces or tuple(self._script.cut(step.text))

        def event(shown: str | None, pad: str = "") -> Event:
            content = {"content_type": "text", "parts": [] if shown is None else [shown]}
            extra = citations.metadata(step, shown or "", finished=False)
            return self._events.assistant(placed, content, "in_progress", extra, pad=pad)

        whole = "".join(pieces)
        cited = citations.metadata(step, whole, finished=True)
        finish = [
            self._events.assistant(
                placed,
                {"content_type": "text", "parts": [whole]},
                self._events.finish_status() if last else "finished_successfully",
                extra | cited,
                end_turn=True if last else step.end_turn,
            )
            for extra in self._events.finishes(last=last)
        ]
        split = step.cite in ("never", "late") and isinstance(self._wire, Whole)
        grow = self._grow_split if split else self._grow
        empty_at = self._script.empty_at
        return self._growing(step.pause, event, pieces, grow(event, pieces, empty_at), finish)

    def _code(self, placed: PlacedStep, step: Code) -> _Part:
        pieces = self._script.cut(step.text)

        def event(shown: str | None, pad: str = "", *, finished: bool = False) -> Event:
            content: Event = {"content_type": "text", "parts": [shown]}
            if step.shape == "code":
                content = {"content_type": "code", "language": step.language, "text": shown}
            return self._events.assistant(
                placed,
                content,
                "finished_successfully" if finished else "in_progress",
                self._events.finishes(last=False)[1] if finished else None,
                end_turn=False if finished else None,
                recipient=step.to,
                pad=pad,
            )

        grow = self._grow_split if isinstance(self._wire, Whole) else self._grow
        finish = [event(step.text, finished=True)]
        return self._growing(step.pause, event, pieces, grow(event, pieces, 0), finish)

    def _growing(
        self,
        pause: float,
        event: _Grown,
        pieces: Sequence[str],
        growth: Iterator[bytes],
        finish: list[Event],
    ) -> _Part:
        if self._script.fault == "only_finished":
            return _Part(pause, event("", ""), 0, iter(()), finish)
        return _Part(pause, event("", ""), len(pieces), growth, finish)

    def _grow(self, event: _Grown, pieces: Sequence[str], empty_at: int) -> Iterator[bytes]:
        """Yield the growing events of a message in which more than the text changes."""
        shown = ""
        pads = cycle("A" * length for length in self._pad_lengths())
        for n, piece in enumerate(pieces, 1):
            shown += piece
            encoded = self._wire.event(event(shown, next(pads)))
            if n == empty_at:
                encoded += self._wire.event(event("", next(pads)))
                encoded += self._wire.event(event(None, next(pads)))
            yield encoded

    def _grow_split(self, event: _Grown, pieces: Sequence[str], empty_at: int) -> Iterator[bytes]:
        """Do the same fast; the empty events of `empty_at` are joined to the one before them."""
        escape = json.JSONEncoder(ensure_ascii=not self._script.raw).encode
        head, tail = self._wire.event(event(_TEXT, _PAD)).split(_TEXT.encode(), 1)
        pads = [b"A" * length for length in self._pad_lengths()]
        tails = cycle([tail.replace(_PAD.encode(), pad) for pad in pads] if pads[0] else [tail])
        shown = b""
        for n, piece in enumerate(pieces, 1):
            shown += escape(piece)[1:-1].encode()
            encoded = head + shown + next(tails)
            if n == empty_at:
                bare = head.removesuffix(b'"') + next(tails).removeprefix(b'"')
                encoded += head + next(tails) + bare
            yield encoded

    def _pad_lengths(self) -> list[int]:
        longest = self._script.pad
        if not longest:
            return [0]
        lengths = (longest, longest // 3, longest // 2, longest // 5, longest * 3 // 4)
        return [max(1, length) for length in lengths]


def _first(segments: Iterable[Segment], most: int) -> Iterator[Segment]:
    """Yield the segments up to `most` events in all."""
    for segment in segments:
        if most <= 0:
            return
        yield Segment(segment.pause, min(segment.count, most), islice(segment.events, most))
        most -= segment.count
