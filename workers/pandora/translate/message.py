"""One message of the upstream turned into what it says that is new: a small machine of its own.

Each record of a message repeats all of its text, so what is new is what lies beyond the text
already taken **for that message id**; an empty repetition in mid-text changes nothing, and a text
that comes only with the finished record is taken from there.

What has been said cannot be withdrawn. Should a text ever change under way (never recorded), the
client gets what the new text has beyond the length already taken, so that no position in the text
is lost or doubled, and `rewritten` says that it happened.

Three things are held back, and never lost: U+FFFD at the end of a running text, which is half of a
character still to come; what may become a marker (`markers`); and, after a citation whose source
has not been named yet, up to `PATIENCE` characters of text. `rest` gives all of it.
"""

from __future__ import annotations

from collections import deque
from typing import ClassVar, Literal
from urllib.parse import unquote

from wire.events import Citation, Delta, Drawing, Event, Finish
from workers.pandora.translate.citations import find_source, read_sources
from workers.pandora.translate.markers import CitationMark, Displayed, Found, Markers, SandboxLink
from workers.pandora.translate.placeholders import (
    FileWanted,
    ImageWanted,
    Wanted,
    read_displayed,
    read_drawn,
)
from workers.pandora.translate.records import Message, Metadata

Said = Event | Wanted
"""An event, or what the rim will turn into one."""

PATIENCE = 500
"""Characters that a citation may hold back while its source is not known."""

_HALF = "\ufffd"


class Speech:
    """What one message says."""

    kind: ClassVar[Literal["text", "code", "output", "images"]]

    def __init__(self, id: str) -> None:
        self.id = id
        self.finished = False
        self.ends_turn = False
        self.finish: Finish = "stop"
        self.rewritten = False
        self._text = ""  # as last seen
        self._taken = ""

    def hear(self, message: Message) -> list[Said]:
        """What a record of this message adds."""
        if message.status != "in_progress" and message.finished:
            self.finished = True
            self.ends_turn = self.ends_turn or message.end_turn is True
            self.finish = _finish(message)
        text = message.text
        if text:
            self._text = text
        if not self.finished and text.endswith(_HALF):
            text = text.rstrip(_HALF)
        return self._say(self._beyond(text), message)

    def rest(self) -> list[Said]:
        """What is held back, once nothing more is expected of it."""
        return self._say_all(self._beyond(self._text))

    def _beyond(self, text: str) -> str:
        """What `text` has beyond what was taken of it."""
        new = text[len(self._taken) :]
        if text.startswith(self._taken):
            self._taken = text
        else:
            self.rewritten = self.rewritten or not self._taken.startswith(text)
            self._taken += new
        return new

    def _say(self, new: str, message: Message) -> list[Said]:
        raise NotImplementedError

    def _say_all(self, new: str) -> list[Said]:
        raise NotImplementedError


class Prose(Speech):
    """The assistant to the user: text, citations, and links into the sandbox."""

    kind = "text"

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self._markers = Markers("text")
        self._found: deque[Found] = deque()  # not said yet, for want of a source
        self._metadata: Metadata | None = None  # the last that named any
        self._numbers: dict[str, str] = {}

    def _say(self, new: str, message: Message) -> list[Said]:
        metadata = message.metadata
        if metadata is not None and (metadata.citations or metadata.content_references):
            self._metadata = metadata
        found = self._markers.feed(new)
        if not self._found and len(found) == 1 and isinstance(text := found[0], str):
            return [Delta(text)]  # as nearly always
        self._found += found
        return self._resolve(PATIENCE)

    def _say_all(self, new: str) -> list[Said]:
        self._found += self._markers.feed(new)
        self._found += self._markers.rest()
        return self._resolve(-1)

    def _resolve(self, patience: int) -> list[Said]:
        """Say what was found, up to a citation that may wait for its source."""
        said: list[Said] = []
        while self._found:
            match self._found[0]:
                case CitationMark() as mark:
                    citation = self._citation(mark)
                    waiting = sum(len(found) for found in self._found if isinstance(found, str))
                    if citation is None and waiting <= patience:
                        break
                    said.append(citation or Citation(mark.number, None))
                case SandboxLink(_, path):
                    said.append(FileWanted(self.id, unquote(path)))
                case str(text):
                    said.append(Delta(text))
                case Displayed():
                    pass  # stands in outputs alone
            self._found.popleft()
        return said

    def _citation(self, mark: CitationMark) -> Citation | None:
        source = find_source(read_sources(self._metadata), mark)
        if source is None:
            return None
        number = mark.number
        if not number and source.url:
            number = self._numbers.setdefault(source.url, str(len(self._numbers) + 1))
        return Citation(number, source.url)


class Code(Speech):
    """The assistant to a tool."""

    kind = "code"

    def _say(self, new: str, message: Message) -> list[Said]:
        return self._say_all(new)

    def _say_all(self, new: str) -> list[Said]:
        return [Delta(new, "code")] if new else []


class Output(Speech):
    """What code has printed, its errors included, and then the images it has displayed."""

    kind = "output"

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self._markers = Markers("output")
        self._images = _Images()

    def _say(self, new: str, message: Message) -> list[Said]:
        said = _printed(self._markers.feed(new))
        self._images.known = read_displayed(message.metadata) or self._images.known
        return said + self._images.new() if self.finished else said

    def _say_all(self, new: str) -> list[Said]:
        found = self._markers.feed(new) + self._markers.rest()
        return _printed(found) + self._images.new()


class Trouble(Output):
    """The sandbox's own error, which may take the place of an output under its id."""


class Drawings(Speech):
    """A tool's images; its words are for the model."""

    kind = "images"

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self._images = _Images()

    def _say(self, new: str, message: Message) -> list[Said]:
        self._images.known = read_drawn(message) or self._images.known
        return self._images.new()

    def _say_all(self, new: str) -> list[Said]:
        return []


class _Images:
    """The images of one message, of which each record repeats those before."""

    def __init__(self) -> None:
        self.known: list[ImageWanted] = []
        self._given = 0

    def new(self) -> list[Said]:
        new = self.known[self._given :]
        self._given += len(new)
        return [*new]


def _printed(found: list[Found]) -> list[Said]:
    return [Delta(piece, "output") if isinstance(piece, str) else Drawing() for piece in found]


def _finish(message: Message) -> Finish:
    details = message.metadata.finish_details if message.metadata is not None else None
    if details is not None and details.type in ("max_tokens", "interrupted"):
        # OpenAI's dialect has no word for an interruption. "length" tells the client what it has to
        # know, that the answer is not complete; "stop" would be a lie.
        return "length"
    if message.status == "finished_partial_completion":
        return "length"
    return "stop"
