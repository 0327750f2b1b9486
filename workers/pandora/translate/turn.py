"""The upstream's records translated into our events: one small machine, no I/O.

A turn is a sequence of messages, each with its own id and its own `MessageTranslator`; their
outputs follow each other with nothing between. Author and recipient decide the kind of a message,
then its content:

    assistant -> all          text                         text
    assistant -> anybody      code                         code
    assistant -> a tool       text                         code (a request to draw)
    tool                      execution output, stderr     output
    python                    system error                 output
    tool                      parts with pointers          images
    tool                      a request for permission     the request
    dalle                     text, and no image was made  a refusal
    anything else                                          nothing

When the next message has its first output, or the answer ends, everything that the message before
holds back comes first. Images, files and permissions are values in the place of their events
(`placeholders`).

    running --text--> running
    running --[DONE] after any message--------------> Done
    running --[DONE] after no message---------------> Failed
    running --end of stream, turn finished----------> Done
    running --end of stream, anything else----------> Failed
    running --error---------------------------------> Failed
    ended   --anything------------------------------> nothing
    ended   --permission was granted----------------> running
"""

from __future__ import annotations

from wire.events import Break, Done, Failed, Finish, Refusal, Started
from workers.pandora.translate.delta_encoding import DeltaError, Documents
from workers.pandora.translate.error_body import fault_of, read_error_body, shorten
from workers.pandora.translate.message import (
    CodeTranslator,
    ErrorTranslator,
    ImagesTranslator,
    MessageTranslator,
    Output,
    PrintedTranslator,
    TextTranslator,
)
from workers.pandora.translate.placeholders import read_permission_request
from workers.pandora.translate.records import Envelope, Mark, Message, Operation, Record
from workers.upstream import BROKEN_OFF, NO_ANSWER

_TOO_MANY = Failed("upstream_error", "The upstream sent too many messages in one answer.")
_NO_SENTENCE = "The upstream reported an error without a message."
_TO_USER = ("all", None)
_DALLE = "dalle"

MAX_MESSAGES = 10_000
"""Messages of one answer, all of which are kept."""


class Translator:
    """Translates one answer. Lists are in order; `Failed`, if any, is the last of all.

    `conversation_id` is set as soon as it is known. Anomalies, once it has `ended`: `unknown`, the
    number of records of no known kind; `unfinished`, whether `[DONE]` came without a finished
    message; `rewritten`, whether a text changed under way.
    """

    def __init__(self, requested_model: str) -> None:
        self.ended = False
        self.unknown = 0
        self.unfinished = False
        self.conversation_id = ""
        self._model = requested_model
        self._started = False
        self._blocked = False
        self._documents = Documents()
        self._messages: dict[str, MessageTranslator] = {}
        self._current: MessageTranslator | None = None  # that had the latest output
        self._last: MessageTranslator | None = None  # of the assistant to the user
        self._call: MessageTranslator | None = None  # of the assistant to a tool, unanswered
        self._turn_goes_on = False
        self._drawn = False  # since the last request to draw
        self._handled: set[str] = set()  # tool messages

    @property
    def rewritten(self) -> bool:
        """See above."""
        return any(message.rewritten for message in self._messages.values())

    def feed(self, record: Record) -> list[Output]:
        """The outputs of a record; none after the end."""
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
            case Operation():
                try:
                    return self._envelope(self._documents.apply(record))
                except DeltaError:
                    self.unknown += 1
                    return []
            case Mark.DONE:
                last = self._current or self._last
                self.unfinished = not (last.finished if last else self._handled)
                return self._done()

    def resume(self) -> None:
        """Go on in another stream with a turn that a request for permission ended."""
        self.ended = False
        self._last = None
        self._turn_goes_on = True
        self._documents = Documents()

    def end_of_stream(self) -> list[Output]:
        """The ending of a stream that closed, or broke, without `[DONE]`."""
        if self.ended:
            return []
        last = self._last
        # `end_turn` has been seen on messages that others followed, so it does not count once the
        # assistant has turned to a tool. A blocked answer has nothing left to lose.
        complete = last is not None and last.ends_turn and not self._turn_goes_on
        return self._done() if complete or self._blocked else self.fail(BROKEN_OFF)

    def fail(self, failed: Failed) -> list[Output]:
        """An unexpected ending, after everything that was held back."""
        outputs = self._begin(self._turn_to(None))
        self.ended = True
        return [*outputs, failed]

    def _envelope(self, envelope: Envelope) -> list[Output]:
        if envelope.conversation_id:
            self.conversation_id = envelope.conversation_id
        message = envelope.message
        body = envelope.error or (envelope.detail if message is None else None)
        if body:
            error = read_error_body(body)
            return self.fail(
                Failed(fault_of(error), error.message or _NO_SENTENCE, error.code, error.clears_in)
            )
        if envelope.blocks:
            self._blocked = True
        if message is None or message.author is None:
            return []
        if len(self._messages) + len(self._handled) > MAX_MESSAGES:
            return self.fail(_TOO_MANY)
        match message.author.role:
            case "assistant":
                return self._assistant(message)
            case "tool":
                return self._tool(message, message.author.name or "")
            case _:
                return []

    def _assistant(self, message: Message) -> list[Output]:
        current = self._current
        if current is not None and current.id == message.id:  # goes on: as nearly always
            self._turn_goes_on = current is not self._last
            outputs = current.feed(message)
            return outputs if self._started and not self._blocked else self._begin(outputs)
        if message.metadata is not None and message.metadata.model_slug:
            self._model = message.metadata.model_slug
        to_user = message.recipient in _TO_USER
        self._turn_goes_on = not to_user
        if not to_user:
            self._drawn = False
        is_text = to_user and not message.is_code
        translator = self._translator(message, TextTranslator if is_text else CodeTranslator)
        if to_user:
            self._last = translator
        self._call = None if to_user else translator
        return self._feed(translator, message)

    def _tool(self, message: Message, name: str) -> list[Output]:
        self._call = None
        content_type = message.content.content_type if message.content is not None else ""
        if content_type in ("execution_output", "stderr"):
            return self._feed(self._translator(message, PrintedTranslator), message)
        if content_type == "system_error" and name == "python":
            return self._feed(self._translator(message, ErrorTranslator), message)
        if content_type == "multimodal_text":
            outputs = self._feed(self._translator(message, ImagesTranslator), message)
            self._drawn = self._drawn or bool(outputs)
            return outputs
        if message.id in self._handled:
            return []
        if (request := read_permission_request(message)) is not None:
            self._handled.add(message.id)
            return self._begin([*self._turn_to(None), request])
        if name.startswith(_DALLE) and not self._drawn and message.finished and message.text:
            self._handled.add(message.id)
            return self._begin([*self._turn_to(None), Refusal(shorten(message.text))])
        return []

    def _translator(self, message: Message, kind: type[MessageTranslator]) -> MessageTranslator:
        translator = self._messages.get(message.id)
        if translator is None or (type(translator) is not kind and message.text):
            translator = self._messages[message.id] = kind(message.id)
        return translator

    def _feed(self, translator: MessageTranslator, message: Message) -> list[Output]:
        outputs = translator.feed(message)
        if translator is not self._current:
            if not outputs and not message.text:
                return []
            outputs = [*self._turn_to(translator), *outputs]
        return self._begin(outputs)

    def _turn_to(self, translator: MessageTranslator | None) -> list[Output]:
        """The outputs that the message before holds back, and the break between the two."""
        before, self._current = self._current, translator
        if before is None:
            return []
        same = translator is not None and translator.kind == before.kind != "text"
        return [*before.flush(), *([Break()] if same else [])]

    def _begin(self, outputs: list[Output]) -> list[Output]:
        """The same outputs, after `Started` if they are the first; none of a blocked answer."""
        if not outputs or self._blocked:
            return []
        if self._started:
            return outputs
        self._started = True
        return [Started(self._model), *outputs]

    def _done(self) -> list[Output]:
        outputs = self._begin(self._turn_to(None))
        self.ended = True
        last = self._call or self._last  # a call that was cut off leaves the answer incomplete
        if not self._started and not self._blocked and (last is None or not last.finished):
            return [NO_ANSWER]  # events of another kind, or none: not an empty answer of the model
        finish: Finish = "stop" if last is None else last.finish
        begin: list[Output] = [] if self._started else [Started(self._model)]
        return [*outputs, *begin, Done("content_filter" if self._blocked else finish)]
