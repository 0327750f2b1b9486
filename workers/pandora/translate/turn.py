"""The upstream's records turned into our events: one small machine, no I/O.

A turn is a row of messages, each with its own id and its own `Speech`; what they say follows each
other with nothing between. Who speaks to whom decides what a message is, then its content:

    assistant -> all          text                         prose
    assistant -> anybody      code                         code
    assistant -> a tool       text                         code (a request to draw)
    tool                      execution output, stderr     output
    python                    system error                 output
    tool                      parts with pointers          images
    tool                      a request for leave          what is asked
    dalle                     text, and no image was made  a refusal
    anything else                                          nothing

When another message begins to speak, or the answer ends, what the one before has held back is said
first. Images, files and leave are asked for by values (`wanted`), which stand where their events
will.

    running --text--> running
    running --[DONE]--------------------------------> Done
    running --end of stream, turn finished----------> Done
    running --end of stream, anything else----------> Failed
    running --error---------------------------------> Failed
    ended   --anything------------------------------> nothing
    ended   --leave was given, the turn goes on-----> running
"""

from __future__ import annotations

from wire.events import Break, Done, Failed, Finish, Refusal, Started
from workers.pandora.translate.delta_encoding import DeltaError, Documents
from workers.pandora.translate.error_body import fault_of, read_complaint, shorten
from workers.pandora.translate.message import Code, Drawings, Output, Prose, Said, Speech, Trouble
from workers.pandora.translate.placeholders import read_confirmation
from workers.pandora.translate.records import Envelope, Mark, Message, Operation, Record

BROKEN_OFF = Failed("upstream_error", "The upstream broke off its answer.", "answer_broken_off")
_NO_SENTENCE = "The upstream reported an error without saying which."
_TO_USER = ("all", None)
_DALLE = "dalle"


class Translator:
    """Translates one answer. Lists come out in order; `Failed`, if any, is the last of all.

    For the rim: `conversation_id`, as far as it is known. For counting, once it has `ended`:
    `unknown`, the records nobody understood; `unfinished`, whether `[DONE]` came without a finished
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
        self._speeches: dict[str, Speech] = {}
        self._speaker: Speech | None = None  # who said something last
        self._last: Speech | None = None  # of the assistant to the user
        self._call: Speech | None = None  # of the assistant to a tool that has not answered
        self._turn_goes_on = False
        self._drawn = False  # since the last request to draw
        self._heard: set[str] = set()  # tool messages that are dealt with

    @property
    def rewritten(self) -> bool:
        """See above."""
        return any(speech.rewritten for speech in self._speeches.values())

    def feed(self, record: Record) -> list[Said]:
        """What a record makes; nothing after the end."""
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
                last = self._speaker or self._last
                self.unfinished = not (last.finished if last else self._heard)
                return self._done()

    def go_on(self) -> None:
        """The turn, ended by a request for leave, goes on in another stream."""
        self.ended = False
        self._last = None
        self._turn_goes_on = True
        self._documents = Documents()

    def end_of_stream(self) -> list[Said]:
        """The ending of a stream that closed, or broke, without saying `[DONE]`."""
        if self.ended:
            return []
        last = self._last
        # `end_turn` has been seen on messages that others followed, so it does not count once the
        # assistant has turned to a tool. A blocked answer has nothing left to lose.
        whole = last is not None and last.ends_turn and not self._turn_goes_on
        return self._done() if whole or self._blocked else self.fail(BROKEN_OFF)

    def _envelope(self, envelope: Envelope) -> list[Said]:
        if envelope.conversation_id:
            self.conversation_id = envelope.conversation_id
        message = envelope.message
        complaint = envelope.error or (envelope.detail if message is None else None)
        if complaint:
            said = read_complaint(complaint)
            return self.fail(
                Failed(fault_of(said), said.message or _NO_SENTENCE, said.code, said.clears_in)
            )
        if envelope.blocks:
            self._blocked = True
        if message is None or message.author is None:
            return []
        match message.author.role:
            case "assistant":
                return self._assistant(message)
            case "tool":
                return self._tool(message, message.author.name or "")
            case _:
                return []

    def _assistant(self, message: Message) -> list[Said]:
        speaker = self._speaker
        if speaker is not None and speaker.id == message.id:  # goes on: as nearly always
            self._turn_goes_on = speaker is not self._last
            said = speaker.hear(message)
            return said if self._started and not self._blocked else self._say(said)
        if message.metadata is not None and message.metadata.model_slug:
            self._model = message.metadata.model_slug
        to_user = message.recipient in _TO_USER
        self._turn_goes_on = not to_user
        if not to_user:
            self._drawn = False
        speech = self._speech(message, Prose if to_user and not message.is_code else Code)
        if to_user:
            self._last = speech
        self._call = None if to_user else speech
        return self._hear(speech, message)

    def _tool(self, message: Message, name: str) -> list[Said]:
        self._call = None
        content_type = message.content.content_type if message.content is not None else ""
        if content_type in ("execution_output", "stderr"):
            return self._hear(self._speech(message, Output), message)
        if content_type == "system_error" and name == "python":
            return self._hear(self._speech(message, Trouble), message)
        if content_type == "multimodal_text":
            said = self._hear(self._speech(message, Drawings), message)
            self._drawn = self._drawn or bool(said)
            return said
        if message.id in self._heard:
            return []
        if (confirmation := read_confirmation(message)) is not None:
            self._heard.add(message.id)
            return self._say([*self._turn_to(None), confirmation])
        if name.startswith(_DALLE) and not self._drawn and message.finished and message.text:
            self._heard.add(message.id)
            return self._say([*self._turn_to(None), Refusal(shorten(message.text))])
        return []

    def _speech(self, message: Message, kind: type[Speech]) -> Speech:
        speech = self._speeches.get(message.id)
        if speech is None or (type(speech) is not kind and message.text):
            speech = self._speeches[message.id] = kind(message.id)
        return speech

    def _hear(self, speech: Speech, message: Message) -> list[Said]:
        said = speech.hear(message)
        if speech is not self._speaker:
            if not said and not message.text:
                return []
            said = [*self._turn_to(speech), *said]
        return self._say(said)

    def _turn_to(self, speaker: Speech | None) -> list[Said]:
        """What the speaker before has held back, and what parts the two."""
        before, self._speaker = self._speaker, speaker
        if before is None:
            return []
        same = speaker is not None and speaker.kind == before.kind != "text"
        return [*before.rest(), *([Break()] if same else [])]

    def _say(self, said: list[Said]) -> list[Said]:
        if not said or self._blocked:
            return []
        if self._started:
            return said
        self._started = True
        return [Started(self._model), *said]

    def _done(self) -> list[Said]:
        rest = self._say(self._turn_to(None))
        self.ended = True
        last = self._call or self._last  # a call that was cut off leaves the answer incomplete
        finish: Finish = "stop" if last is None else last.finish
        begin: list[Said] = [] if self._started else [Started(self._model)]
        return [*rest, *begin, Done("content_filter" if self._blocked else finish)]

    def fail(self, failed: Failed) -> list[Said]:
        """An ending that was not foreseen, after all that was held back."""
        rest = self._say(self._turn_to(None))
        self.ended = True
        return [*rest, failed]
