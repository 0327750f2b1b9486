"""The upstream's records turned into our events: one small machine, no I/O.

Each record of a message repeats all of its text, so what is new is what lies beyond the text
already emitted **for that message id**; an empty repetition in mid-text changes nothing, and a text
that comes only with the finished record is taken from there. The texts of several messages follow
each other with nothing between them.

What has been emitted cannot be withdrawn. Should a text ever change under way (never recorded), the
client gets what the new text has beyond the length already emitted, so that no position in the text
is lost or doubled, and `rewritten` says that it happened. U+FFFD at the end of a running text is
half of a character still to come; it is held back until the text goes on or ends.

    running --text--> running
    running --[DONE]--------------------------------> Done
    running --end of stream, turn finished----------> Done
    running --end of stream, anything else----------> Failed
    running --error---------------------------------> Failed
    ended   --anything------------------------------> nothing

So far only prose of the assistant to `all` becomes events; what it writes to tools and what tools
answer is passed over.
"""

from __future__ import annotations

from dataclasses import dataclass

from wire.events import Delta, Done, Event, Failed, Finish, Started
from workers.pandora.complaint import fault_of, read_complaint
from workers.pandora.records import Envelope, Mark, Message, Record

_HALF = "\ufffd"

_BROKEN_OFF = Failed("upstream_error", "The upstream broke off its answer.", "answer_broken_off")
_DELTAS = Failed(
    "upstream_error",
    "The upstream sends its answer in the v1 delta encoding, which is not built yet.",
    "not_built",
)
_NO_SENTENCE = "The upstream reported an error without saying which."


@dataclass(slots=True)
class _Spoken:
    """How far one message of the assistant to `all` has come."""

    text: str = ""  # as last seen
    sent: str = ""  # what has been emitted of it
    finished: bool = False
    ends_turn: bool = False
    finish: Finish = "stop"


class Translator:
    """Translates one answer. Lists of events come out in order; `Failed`, if any, is the last.

    For counting, once it has `ended`: `unknown`, the records nobody understood; `unfinished`,
    whether `[DONE]` came without a finished message; `rewritten`, whether a text changed under way.
    """

    def __init__(self, requested_model: str) -> None:
        self.ended = False
        self.unknown = 0
        self.unfinished = False
        self.rewritten = False
        self._model = requested_model
        self._started = False
        self._blocked = False
        self._spoken: dict[str, _Spoken] = {}
        self._last: _Spoken | None = None
        self._turn_goes_on = False

    def feed(self, record: Record) -> list[Event]:
        """The events that a record makes; none after the end."""
        if self.ended:
            return []
        if isinstance(record, Envelope):
            return self._envelope(record)
        match record:
            case Mark.PING:
                return []
            case Mark.UNKNOWN:
                self.unknown += 1
                return []
            case Mark.DELTA:
                # Passing these over would end in an empty answer that looks whole.
                return self._fail(_DELTAS)
            case Mark.DONE:
                self.unfinished = self._last is None or not self._last.finished
                return self._done()

    def end_of_stream(self) -> list[Event]:
        """The ending of a stream that closed, or broke, without saying `[DONE]`."""
        if self.ended:
            return []
        last = self._last
        # `end_turn` has been seen on messages that others followed, so it does not count once the
        # assistant has turned to a tool. A blocked answer has nothing left to lose.
        whole = last is not None and last.ends_turn and not self._turn_goes_on
        return self._done() if whole or self._blocked else self._fail(_BROKEN_OFF)

    def _envelope(self, envelope: Envelope) -> list[Event]:
        message = envelope.message
        complaint = envelope.error or (envelope.detail if message is None else None)
        if complaint:
            said = read_complaint(complaint)
            return self._fail(
                Failed(fault_of(said), said.message or _NO_SENTENCE, said.code, said.clears_in)
            )
        if envelope.blocks:
            self._blocked = True
        if message is None or message.author is None or message.author.role != "assistant":
            return []
        if message.metadata is not None and message.metadata.model_slug:
            self._model = message.metadata.model_slug
        if message.recipient not in ("all", None):
            self._turn_goes_on = True
            return []
        return self._speak(message)

    def _speak(self, message: Message) -> list[Event]:
        spoken = self._spoken.get(message.id)
        if spoken is None:
            spoken = self._spoken[message.id] = _Spoken()
        self._last = spoken
        self._turn_goes_on = False
        if message.status in ("finished_successfully", "finished_partial_completion"):
            spoken.finished = True
            spoken.ends_turn = spoken.ends_turn or message.end_turn is True
            spoken.finish = _finish(message)
        text = message.text
        if text:
            spoken.text = text
        return self._emit(spoken, text if spoken.finished else text.rstrip(_HALF))

    def _emit(self, spoken: _Spoken, text: str) -> list[Event]:
        """What `text` has beyond what was emitted of it."""
        new = text[len(spoken.sent) :]
        if text.startswith(spoken.sent):
            spoken.sent = text
        else:
            self.rewritten = self.rewritten or not spoken.sent.startswith(text)
            spoken.sent += new
        if not new or self._blocked:
            return []
        return [*self._begin(), Delta(new)]

    def _begin(self) -> list[Event]:
        if self._started:
            return []
        self._started = True
        return [Started(self._model)]

    def _done(self) -> list[Event]:
        last = self._last
        rest = [] if last is None else self._emit(last, last.text)
        self.ended = True
        finish: Finish = "stop" if last is None else last.finish
        return [*rest, *self._begin(), Done("content_filter" if self._blocked else finish)]

    def _fail(self, failed: Failed) -> list[Event]:
        self.ended = True
        return [failed]


def _finish(message: Message) -> Finish:
    details = message.metadata.finish_details if message.metadata is not None else None
    if details is not None and details.type in ("max_tokens", "interrupted"):
        # OpenAI's dialect has no word for an interruption. "length" tells the client what it has to
        # know, that the answer is not complete; "stop" would be a lie.
        return "length"
    if message.status == "finished_partial_completion":
        return "length"
    return "stop"
