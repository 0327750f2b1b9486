"""One answer as it is heard, over as many streams as its confirmations take. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from wire.events import Done, Ending, Event, Failed
from workers.pandora.translate.message import Said
from workers.pandora.translate.placeholders import (
    Confirm,
    ConfirmationWanted,
    Leave,
    Wanted,
    choose_leave,
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
"""Actions that are allowed within one answer; of the next one the user is told."""

_TOO_LARGE = Failed("upstream_error", "The upstream sent an event too large to read.")

Granted = tuple[ConfirmationWanted, Leave]
"""An action that asked for leave, and the leave that it is given."""


class Exchange:
    """What the upstream says in one answer. `model` is its own name for what was asked.

    `translator` is for looking only.
    """

    def __init__(self, model: str, confirm: Confirm) -> None:
        self.translator = Translator(model)
        self._confirm = confirm
        self._parser = EventParser(MAX_EVENT_BYTES)
        self._granted: Granted | None = None
        self._rounds = 0

    def hear(self, data: bytes) -> tuple[list[Said], bool]:
        """What the next bytes say, b"" being the end of the stream; whether they show life."""
        said: list[Said] = []
        if not data:
            # The predecessor knew errors that come as bare JSON, as if they were a stream.
            rest = self._parser.rest
            if rest.startswith(b"{"):
                said += self.translator.feed(read_record(ServerSentEvent("message", rest)))
            return said + self.translator.end_of_stream(), False
        alive = False
        try:
            for event in self._parser.feed(data):
                record = read_record(event)
                alive = alive or record is not Mark.PING
                said += self.translator.feed(record)
        except EventTooLargeError:
            said = self.translator.fail(_TOO_LARGE)
        return said, alive

    def grant(self, one: Wanted) -> bool:
        """Give leave, if that is what is wanted and the operator lets us."""
        if not isinstance(one, ConfirmationWanted) or self._rounds >= MAX_ROUNDS:
            return False
        leave = choose_leave(one, self._confirm)
        if leave is None:
            return False
        self._granted = one, leave
        return True

    def unanswered(self, events: Sequence[Event]) -> Granted | None:
        """The leave to answer with where these events end the turn that asked for it."""
        return self._granted if events and events[-1] == Done("stop") else None

    def go_on(self) -> None:
        """That answer was sent: what comes is the beginning of another stream."""
        self._parser = EventParser(MAX_EVENT_BYTES)
        self.translator.go_on()
        self._granted = None
        self._rounds += 1


def ending_of(events: Sequence[Event]) -> Ending | None:
    """The ending that some events end with."""
    last = events[-1] if events else None
    return last if isinstance(last, Done | Failed) else None
