"""One answer, over as many streams as its confirmations take. No I/O."""

from __future__ import annotations

from wire.events import Asked, Break, Done, Ending, Event, Failed
from workers.pandora.translate.message import Output
from workers.pandora.translate.placeholders import (
    ConfirmPolicy,
    Permission,
    PermissionRequest,
    Placeholder,
    choose_permission,
)
from workers.pandora.translate.records import Mark, read_record
from workers.pandora.translate.sse import (
    MAX_EVENT_BYTES,
    EventParser,
    EventTooLargeError,
    ServerSentEvent,
)
from workers.pandora.translate.turn import Translator

MAX_ROUNDS = 10
"""Actions that are allowed within one answer; the next one is reported to the user."""

_TOO_LARGE = Failed("upstream_error", "The upstream sent an event too large to read.")

Granted = tuple[PermissionRequest, Permission]
"""A request of an action, and the permission to answer it with."""


class Exchange:
    """Translation of one answer. `model` is the upstream's name for the requested model.

    `ending` is set with the last output. `granted` is set when a stream has ended with a request
    that the operator allows: the answer goes on in another stream, after `resume`.

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

    def feed(self, data: bytes) -> tuple[list[Event | Placeholder], bool]:
        """The outputs of the next bytes (b"" at the end of the stream), and if they show life."""
        translated, alive = self._translate(data) if data else (self._end_of_stream(), False)
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
        return outputs, alive

    def resume(self) -> None:
        """Go on with the stream that follows after `granted` was sent."""
        self._parser = EventParser(MAX_EVENT_BYTES)
        self.translator.resume()
        self.granted = self._pending = None
        self._rounds += 1

    def _translate(self, data: bytes) -> tuple[list[Output], bool]:
        outputs: list[Output] = []
        alive = False
        try:
            for event in self._parser.feed(data):
                record = read_record(event)
                alive = alive or record is not Mark.PING
                outputs += self.translator.feed(record)
        except EventTooLargeError:
            outputs = self.translator.fail(_TOO_LARGE)
        return outputs, alive

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
