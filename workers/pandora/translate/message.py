"""One message of the upstream translated into outputs: a small machine of its own.

Each record of a message repeats all of its text, so the new text is everything beyond the text
already taken **for that message id**; an empty repetition in mid-text changes nothing, and a text
that comes only with the finished record is taken from there.

Outputs cannot be withdrawn. Should a text ever change under way (never recorded), the client gets
the part of the new text beyond the length already taken, so that no position in the text is lost or
doubled, and `rewritten` records it.

Three things are held back, and never lost: U+FFFD at the end of a running text, which is half of a
character still to come; a possible beginning of a marker (`markers`); and, after a citation without
a source so far, up to `PATIENCE` characters of text. `flush` returns all of it.
"""

from __future__ import annotations

from collections import deque
from typing import ClassVar, Literal
from urllib.parse import unquote

from wire.events import Citation, Delta, Drawing, Event, Finish
from workers.pandora.translate.citations import Sources
from workers.pandora.translate.markers import CitationMark, Displayed, Found, Markers, SandboxLink
from workers.pandora.translate.placeholders import (
    FilePlaceholder,
    ImagePlaceholder,
    PermissionRequest,
    Placeholder,
    read_displayed,
    read_drawn,
)
from workers.pandora.translate.records import Message, Metadata

Output = Event | Placeholder | PermissionRequest
"""An event, or a value that will be replaced by one."""

PATIENCE = 500
"""Characters, and other citations, that one may hold back while its source is not known."""

_HALF = "\ufffd"


class MessageTranslator:
    """Translates one message."""

    kind: ClassVar[Literal["text", "code", "output", "images"]]

    def __init__(self, id: str) -> None:
        self.id = id
        self.finished = False
        self.ends_turn = False
        self.finish: Finish = "stop"
        self.rewritten = False
        self._text = ""  # as last seen
        self._taken = ""

    def feed(self, message: Message) -> list[Output]:
        """The outputs that a record of this message adds."""
        if message.status != "in_progress" and message.finished:
            self.finished = True
            self.ends_turn = self.ends_turn or message.end_turn is True
            self.finish = _finish(message)
        text = message.text
        if text:
            self._text = text
        if not self.finished and text.endswith(_HALF):
            text = text.rstrip(_HALF)
        return self._translate(self._beyond(text), message)

    def flush(self) -> list[Output]:
        """The outputs held back, once nothing more is expected of the message."""
        return self._translate_last(self._beyond(self._text))

    def _beyond(self, text: str) -> str:
        """The part of `text` beyond the part already taken."""
        new = text[len(self._taken) :]
        if text.startswith(self._taken):
            self._taken = text
        else:
            self.rewritten = self.rewritten or not self._taken.startswith(text)
            self._taken += new
        return new

    def _translate(self, new: str, message: Message) -> list[Output]:
        raise NotImplementedError

    def _translate_last(self, new: str) -> list[Output]:
        raise NotImplementedError


class TextTranslator(MessageTranslator):
    """The assistant to the user: text, citations, and links into the sandbox."""

    kind = "text"

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self._markers = Markers("text")
        self._found: deque[Found] = deque()  # held back behind a citation without a source
        self._waiting = 0  # characters of text in `_found`, and its marks
        self._metadata: Metadata | None = None  # the last with sources
        self._numbers: dict[str, str] = {}

    def _translate(self, new: str, message: Message) -> list[Output]:
        metadata = message.metadata
        if metadata is not None and (metadata.citations or metadata.content_references):
            self._metadata = metadata
        found = self._markers.feed(new)
        if not self._found and len(found) == 1 and isinstance(text := found[0], str):
            return [Delta(text)]  # as nearly always
        return self._resolve(found, PATIENCE)

    def _translate_last(self, new: str) -> list[Output]:
        return self._resolve(self._markers.feed(new) + self._markers.flush(), -1)

    def _resolve(self, found: list[Found], patience: int) -> list[Output]:
        """The outputs found, up to a citation that may wait for its source."""
        self._found += found
        self._waiting += sum(map(_weight, found))
        outputs: list[Output] = []
        sources: Sources | None = None
        while self._found:
            match self._found[0]:
                case CitationMark() as mark:
                    sources = sources or Sources(self._metadata)
                    citation = self._citation(mark, sources)
                    if citation is None and self._waiting <= patience:
                        break
                    outputs.append(citation or Citation(mark.number, None))
                case SandboxLink(_, path):
                    outputs.append(FilePlaceholder(self.id, unquote(path)))
                case str(text):
                    outputs.append(Delta(text))
                case Displayed():
                    pass  # only found in printed output
            self._waiting -= _weight(self._found.popleft())
        return outputs

    def _citation(self, mark: CitationMark, sources: Sources) -> Citation | None:
        source = sources.find(mark)
        if source is None:
            return None
        number = mark.number
        if not number and source.url:
            number = self._numbers.setdefault(source.url, str(len(self._numbers) + 1))
        return Citation(number, source.url)


class CodeTranslator(MessageTranslator):
    """The assistant to a tool."""

    kind = "code"

    def _translate(self, new: str, message: Message) -> list[Output]:
        return self._translate_last(new)

    def _translate_last(self, new: str) -> list[Output]:
        return [Delta(new, "code")] if new else []


class PrintedTranslator(MessageTranslator):
    """Text printed by code, its errors included, and then the images it has displayed."""

    kind = "output"

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self._markers = Markers("output")
        self._images = _Images()

    def _translate(self, new: str, message: Message) -> list[Output]:
        outputs = _printed(self._markers.feed(new))
        self._images.known = read_displayed(message.metadata) or self._images.known
        return outputs + self._images.new() if self.finished else outputs

    def _translate_last(self, new: str) -> list[Output]:
        found = self._markers.feed(new) + self._markers.flush()
        return _printed(found) + self._images.new()


class ErrorTranslator(PrintedTranslator):
    """The sandbox's own error, which may replace a printed output under the same id."""


class ImagesTranslator(MessageTranslator):
    """A tool's images; its text is for the model."""

    kind = "images"

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self._images = _Images()

    def _translate(self, new: str, message: Message) -> list[Output]:
        self._images.known = read_drawn(message) or self._images.known
        return self._images.new()

    def _translate_last(self, new: str) -> list[Output]:
        return []


class _Images:
    """The images of one message, all of which are repeated by each record."""

    def __init__(self) -> None:
        self.known: list[ImagePlaceholder] = []
        self._given = 0

    def new(self) -> list[Output]:
        new = self.known[self._given :]
        self._given += len(new)
        return [*new]


def _weight(found: Found) -> int:
    return len(found) if isinstance(found, str) else 1


def _printed(found: list[Found]) -> list[Output]:
    return [Delta(piece, "output") if isinstance(piece, str) else Drawing() for piece in found]


def _finish(message: Message) -> Finish:
    details = message.metadata.finish_details if message.metadata is not None else None
    if details is not None and details.type in ("max_tokens", "interrupted"):
        # OpenAI's API has no word for an interruption. "length" says that the answer is not
        # complete, which is what the client has to know; "stop" would be a lie.
        return "length"
    if message.status == "finished_partial_completion":
        return "length"
    return "stop"
