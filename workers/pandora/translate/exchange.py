"""One answer, over as many streams as its confirmations take. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeGuard

from wire.events import OVERHEAD, Asked, Break, Delta, Done, Ending, Event, Failed
from workers.http.sse import (
    MAX_EVENT_BYTES,
    EventParser,
    EventTooLargeError,
    ServerSentEvent,
)
from workers.pandora.translate.delta_encoding import TooManyCopiesError
from workers.pandora.translate.message import Output
from workers.pandora.translate.placeholders import (
    ConfirmPolicy,
    Permission,
    PermissionRequest,
    Placeholder,
    choose_permission,
)
from workers.pandora.translate.records import Mark, Operation, Record, read_record
from workers.pandora.translate.turn import Translator

MAX_ROUNDS = 10
"""Actions that are allowed within one answer; the next one is reported to the user."""

_TOO_LARGE = Failed(
    "upstream_error", "The upstream sent more than this gateway reads: its answer is too large."
)

STEP_EVENTS = 8
STEP_OUTPUTS = 256
STEP_CHARACTERS = 32 * 1024
"""Events of the upstream, outputs and characters of text that make one step of the work."""

LONGEST_DELTA = 8 * 1024
"""Characters of one output: a front end works on one of them at a time."""

MAX_VALUES = 200_000
"""JSON values, about, in one event: decoding them is one step."""

MAX_OPERATIONS = 2 * 1024 * 1024
"""Bytes of all operations of the delta encoding in one stream. An answer of a model is a small part
of that. Each of them copies the text so far: see `delta_encoding.MAX_COPIED`."""

Granted = tuple[PermissionRequest, Permission]
"""A request of an action, and the permission to answer it with."""

Step = tuple[list[Event | Placeholder], bool]
"""Outputs, few enough to be handled at once, and True if they show life."""


class Exchange:
    """Translation of one answer. `model` is the upstream's name for the requested model.

    The steps of `feed` must be taken to their end. `ending` is set with the last output. `granted`
    is set when a stream has ended with a request that the operator allows: the answer goes on in
    another stream, after `resume`.

    `translator` is for looking only.
    """

    def __init__(self, model: str, confirm: ConfirmPolicy) -> None:
        self.translator = Translator(model)
        self.ending: Ending | None = None
        self.granted: Granted | None = None
        self._confirm = confirm
        self._parser = EventParser(MAX_EVENT_BYTES)
        self._pending: Granted | None = None
        self._rounds = 0
        self._operations = 0

    def load(self, data: bytes) -> int:
        """Return the bytes that feeding `data` would work on."""
        return len(data) + self._parser.held

    def feed(self, data: bytes) -> Iterator[Step]:
        """Translate the next bytes (b"" at the end of the stream), in steps."""
        outputs: list[Output] = []
        alive = False
        size = 0
        try:
            if not data:
                outputs = self._end_of_stream()
            events = self._parser.feed(data)
            for number, event in enumerate(events, 1):
                record = self._read(event)
                alive = alive or record is not Mark.PING
                outputs += self.translator.feed(record)
                size += len(event.data)
                if number % STEP_EVENTS == 0 or size > STEP_CHARACTERS:
                    yield from self._portions(outputs, alive)
                    outputs, alive, size = [], False, 0
        except (EventTooLargeError, TooManyCopiesError):
            outputs = self.translator.fail(_TOO_LARGE)
        if len(outputs) == 1 and _is_short(outputs[0]):  # as nearly always
            yield [outputs[0]], alive
        else:
            yield from self._portions(outputs, alive)

    def resume(self) -> None:
        """Go on with the stream that follows after `granted` was sent."""
        self._parser = EventParser(MAX_EVENT_BYTES)
        self.translator.resume()
        self.granted = self._pending = None
        self._rounds += 1
        self._operations = 0

    def _read(self, event: ServerSentEvent) -> Record:
        if len(event.data) > MAX_VALUES and event.data.count(b",") > MAX_VALUES:
            raise EventTooLargeError(MAX_VALUES, "values")
        record = read_record(event)
        if type(record) is Operation:
            self._operations += len(event.data)
            if self._operations > MAX_OPERATIONS:
                raise EventTooLargeError(MAX_OPERATIONS)
        return record

    def _portions(self, outputs: list[Output], alive: bool) -> Iterator[Step]:
        portion: list[Output] = []
        size = 0
        for output in outputs:
            for piece in _pieces(output):
                portion.append(piece)
                size += len(piece.text) if isinstance(piece, Delta) else OVERHEAD
                if len(portion) == STEP_OUTPUTS or size > STEP_CHARACTERS:
                    yield self._settle(portion), alive
                    portion, size = [], 0
        yield self._settle(portion), alive

    def _settle(self, translated: list[Output]) -> list[Event | Placeholder]:
        """Decide on requests for permission, and note the ending."""
        outputs = [
            self._decide(output) if isinstance(output, PermissionRequest) else output
            for output in translated
        ]
        if self.translator.ended and outputs and isinstance(last := outputs[-1], Done | Failed):
            if self._pending and last == Done("stop"):
                self.granted = self._pending
                outputs.pop()
            else:
                self.ending = last
        return outputs

    def _end_of_stream(self) -> list[Output]:
        outputs: list[Output] = []
        # The predecessor knew errors that come as bare JSON, as if they were a stream.
        remainder = self._parser.remainder
        if remainder.startswith(b"{"):
            outputs += self.translator.feed(read_record(ServerSentEvent("message", remainder)))
        return outputs + self.translator.end_of_stream()

    def _decide(self, request: PermissionRequest) -> Asked | Break:
        """Replace a request by a break if permission is granted, else by `Asked`."""
        permission = choose_permission(request, self._confirm)
        if permission is None or self._rounds >= MAX_ROUNDS:
            return Asked(request.domain, request.operation)
        self._pending = request, permission
        return Break()


def _is_short(output: Output) -> TypeGuard[Delta]:
    return type(output) is Delta and len(output.text) <= LONGEST_DELTA


def _pieces(output: Output) -> list[Output]:
    """An output, or its pieces if it is a long text."""
    if not isinstance(output, Delta) or _is_short(output):
        return [output]
    starts = range(0, len(output.text), LONGEST_DELTA)
    return [Delta(output.text[at : at + LONGEST_DELTA], output.kind) for at in starts]
