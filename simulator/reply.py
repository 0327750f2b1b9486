"""Script in, wire bytes out: one whole answer, without any I/O.

Each text event repeats the whole text so far, so its cost must not be that of encoding it anew:
the JSON around the text is built once per message and cut in two, the escaped text grows by its
new piece, and an event is the three joined.
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
from simulator.steps import Code, Placed, Text
from simulator.toolwork import work

_TEXT = "@text@"
_PAD = "@pad@"

_Grown = Callable[[str | None, str], Event]
"""Makes the event of a message that has grown to this text (None: no parts), with this pad."""


@dataclass(frozen=True)
class Act:
    """What one step sends: so many events, after a pause of so many seconds."""

    pause: float
    count: int
    events: Iterator[bytes]


@dataclass(frozen=True)
class Reply:
    """One answer on the wire: what comes first, what each step sends, and what comes last.

    To be read in this order, each once: what is encoded may depend on what went before.
    """

    lead: bytes
    acts: Iterable[Act]
    tail: Callable[[], bytes]


def reply(script: Script, turn: Turn, steps: tuple[Placed, ...]) -> Reply:
    """The whole answer. Faults of content are in it; faults of the connection are the caller's."""
    return _Renderer(script, turn, steps).reply()


def pings(script: Script) -> Iterator[bytes]:
    """Pings without end, the named event and the comment in turn, each with the time it is made."""
    end = b"\r\n\r\n" if script.crlf else b"\n\n"
    while True:
        yield f"event: ping\r\ndata: {datetime.now(UTC).replace(tzinfo=None)}\r\n\r\n".encode()
        yield f": ping - {datetime.now(UTC)}".encode() + end


@dataclass(frozen=True)
class _Part:
    """One step: its first event, how many follow it, those, and what finishes a last message."""

    pause: float
    first: Event
    count: int
    rest: Iterator[bytes]
    finish: list[Event]


class _Renderer:
    """Turns the steps of one turn into bytes."""

    def __init__(self, script: Script, turn: Turn, steps: tuple[Placed, ...]) -> None:
        self._script = script
        self._turn = turn
        self._steps = steps
        self._events = Events(script, turn)
        encoding = V1 if script.v1 else Whole
        self._wire: Encoding = encoding(raw=script.raw, crlf=script.crlf)

    def reply(self) -> Reply:
        parts = [self._part(step, last=step is self._steps[-1]) for step in self._steps]
        finish = parts[-1].finish
        acts = [self._act(part, first=part is parts[0], last=part is parts[-1]) for part in parts]
        fault = self._script.fault
        if fault == "error_before":
            return Reply(self._wire.begin(), (), lambda: self._tail([], error=True))
        opening = [parts[0].first, self._events.moderation(completion=False)]
        if fault == "silence" and not self._script.at_word:
            return Reply(b"", (), lambda: b"")
        lead = self._wire.begin() + self._encode([*self._events.echoes(), *opening])
        match fault:
            case "no_done":
                return Reply(lead, acts, lambda: self._tail(finish, done=False, ended=True))
            case "done_unfinished":
                return Reply(lead, acts, lambda: self._tail([]))
            case "unfinished_eof":
                return Reply(lead, acts, lambda: self._tail([], done=False))
            case "error_after":
                half = _first(acts, sum(act.count for act in acts) // 2)
                return Reply(lead, half, lambda: self._tail([], error=True))
            case "silence":
                return Reply(lead, _first(acts, self._script.at_word), lambda: b"")
            case _:
                return Reply(lead, acts, lambda: self._tail(finish, ended=True))

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

    def _act(self, part: _Part, *, first: bool, last: bool) -> Act:
        """What a step sends itself: the first event may be in the lead, the finish in the tail."""
        start = [] if first else [part.first]
        finish = [] if last else part.finish
        if not start and not finish:
            return Act(part.pause, part.count, part.rest)
        count = len(start) + part.count + len(finish)
        encoded = chain(map(self._wire.event, start), part.rest, map(self._wire.event, finish))
        return Act(part.pause, count, encoded)

    def _part(self, placed: Placed, *, last: bool) -> _Part:
        match placed.step:
            case Text():
                return self._text(placed, placed.step, last=last)
            case Code():
                return self._code(placed, placed.step)
            case _:
                first, *rest = work(self._events, placed, self._turn.created)
                encoded = map(self._wire.event, rest)
                return _Part(placed.step.pause, first, len(rest), encoded, [])

    def _text(self, placed: Placed, step: Text, *, last: bool) -> _Part:
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

    def _code(self, placed: Placed, step: Code) -> _Part:
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
        """The growing events of a message, where what is around the text changes, too."""
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
        """The same, fast; the empty ones of `empty_at` ride with the event before them."""
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


def _first(acts: Iterable[Act], most: int) -> Iterator[Act]:
    """The acts up to so many events."""
    for act in acts:
        if most <= 0:
            return
        yield Act(act.pause, min(act.count, most), islice(act.events, most))
        most -= act.count
