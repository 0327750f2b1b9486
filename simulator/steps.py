"""Steps of a scripted turn: a tagged union, as it is posted in scripts."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Cite = Literal["never", "now", "late", "no_extra", "invalid"]
Crash = Literal["exception", "timeout", "system"]
Few = Annotated[int, Meta(ge=0, le=100)]
Pause = Annotated[float, Meta(ge=0, le=86_400)]


class _Step(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="step", forbid_unknown_fields=True
):
    """Base of all steps. Before a step begins there are only pings for `pause` seconds."""

    pause: Pause = 0.0


class Text(_Step, frozen=True, tag="text"):
    """An assistant's text message, whose parts grow.

    `pieces` are the additions of each event; without them `text` is cut into pieces of the script's
    `step`. `cite` is the way in which its markers are listed in `metadata.citations`, `source` the
    type of their source. `end_turn` is the value in a message that is not the last one.
    """

    text: str = ""
    pieces: tuple[str, ...] = ()
    cite: Cite = "never"
    source: Literal["webpage", "file"] = "webpage"
    end_turn: bool | None = None


class Code(_Step, frozen=True, tag="code"):
    """An assistant's message to a tool, in pieces of the script's `step`, then finished.

    `shape` is its content type: `code`, or `text` as in DALL-E requests of 2024.
    """

    text: str = ""
    to: str = "python"
    language: str = "unknown"
    shape: Literal["code", "text"] = "code"


class Output(_Step, frozen=True, tag="output"):
    """Python's output: a running event, then the finished one with text and images."""

    text: str = ""
    images: Few = 0
    code: str = ""
    crash: Crash | None = None


class Display(_Step, frozen=True, tag="display"):
    """A command of the browser or the document reader, running and then finished."""

    command: str = "search"
    args: tuple[str, ...] = ()
    result: str = ""
    tool: str = "browser"
    failed: bool = False


class Quote(_Step, frozen=True, tag="quote"):
    """One page or document that a tool has opened."""

    url: str
    title: str = "A page"
    text: str = "The text of the page."
    tool: str = "browser"


class Pictures(_Step, frozen=True, tag="pictures"):
    """DALL-E's images, all in one message."""

    images: Few = 1
    prompt: str = "A cat"
    size: Literal["1024x1024", "1792x1024", "1024x1792"] = "1024x1024"


class ToolText(_Step, frozen=True, tag="told"):
    """A tool's text for the model."""

    text: str = ""
    tool: str = "dalle.text2im"
    plugin: bool = False


class Ask(_Step, frozen=True, tag="ask"):
    """A GPT's action asks for permission. The turn ends here; a confirmation continues after it."""

    operation: str = "getThing"
    domain: str = "example.com"
    consequential: bool = False

    @property
    def tool(self) -> str:
        """Name of the operation as a recipient and an author."""
        return f"{self.domain.replace('.', '_')}__jit_plugin.{self.operation}"


class Raw(_Step, frozen=True, tag="raw"):
    """An event, sent exactly as posted."""

    event: dict[str, object]


Step = Text | Code | Output | Display | Quote | Pictures | ToolText | Ask | Raw


class Image(msgspec.Struct, frozen=True):
    """An image file of a step."""

    file_id: str
    size: int
    width: int
    height: int


class PlacedStep(msgspec.Struct, frozen=True):
    """A step with its ids and its images in the file store."""

    step: Step
    id: str
    parent_id: str
    images: tuple[Image, ...] = ()
