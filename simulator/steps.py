"""The steps a scripted turn is made of: a tagged union, as control calls post it."""

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
    """What all steps have: seconds of pings and nothing else before the step begins."""

    pause: Pause = 0.0


class Text(_Step, frozen=True, tag="text"):
    """An assistant's text message, whose parts grow.

    `pieces` say what each event adds, else `text` is cut into pieces of the script's `step`.
    `cite` says how the markers in it are listed in `metadata.citations`, `source` as what.
    `end_turn` is what a message says that is not the last one.
    """

    text: str = ""
    pieces: tuple[str, ...] = ()
    cite: Cite = "never"
    source: Literal["webpage", "file"] = "webpage"
    end_turn: bool | None = None


class Code(_Step, frozen=True, tag="code"):
    """An assistant's message to a tool, in pieces of the script's `step`, then finished.

    `shape` is its content type: `code`, or `text` as DALL-E requests of 2024 have it.
    """

    text: str = ""
    to: str = "python"
    language: str = "unknown"
    shape: Literal["code", "text"] = "code"


class Output(_Step, frozen=True, tag="output"):
    """What python gave out: first a running event, then the finished one with text and images."""

    text: str = ""
    images: Few = 0
    code: str = ""
    crash: Crash | None = None


class Display(_Step, frozen=True, tag="display"):
    """A browser's or document reader's command, running and then finished."""

    command: str = "search"
    args: tuple[str, ...] = ()
    result: str = ""
    tool: str = "browser"
    failed: bool = False


class Quote(_Step, frozen=True, tag="quote"):
    """One page or document that a tool has opened."""

    url: str
    title: str = "A page"
    text: str = "What stands there."
    tool: str = "browser"


class Pictures(_Step, frozen=True, tag="pictures"):
    """DALL-E's images, all in one message."""

    images: Few = 1
    prompt: str = "A cat"
    size: Literal["1024x1024", "1792x1024", "1024x1792"] = "1024x1024"


class Told(_Step, frozen=True, tag="told"):
    """A tool's text, meant for the model."""

    text: str = ""
    tool: str = "dalle.text2im"
    plugin: bool = False


class Ask(_Step, frozen=True, tag="ask"):
    """A GPT's action asks for leave. The turn ends here; a confirmation goes on after it."""

    operation: str = "getThing"
    domain: str = "example.com"
    consequential: bool = False

    @property
    def tool(self) -> str:
        """The name of the operation as a recipient and an author."""
        return f"{self.domain.replace('.', '_')}__jit_plugin.{self.operation}"


class Raw(_Step, frozen=True, tag="raw"):
    """An event exactly as posted."""

    event: dict[str, object]


Step = Text | Code | Output | Display | Quote | Pictures | Told | Ask | Raw


class Image(msgspec.Struct, frozen=True):
    """An image file a step shows."""

    file_id: str
    size: int
    width: int
    height: int


class Placed(msgspec.Struct, frozen=True):
    """A step with all that chance and the file store decide: its ids and its images."""

    step: Step
    id: str
    parent_id: str
    images: tuple[Image, ...] = ()
