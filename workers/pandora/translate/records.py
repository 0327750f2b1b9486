"""The upstream's own events, decoded: only the fields that are used.

Shapes after upstream-protocol.md, 3.2 and 3.3. An event that cannot be decoded is `Mark.UNKNOWN`
and changes nothing: the upstream adds kinds of events as it likes.

JSON with half a character in it (a byte that is not UTF-8, half of a surrogate pair) is read with
U+FFFD in that place, rather than dropped: texts are cumulative, so one such byte would otherwise
lose all the remaining answer.

`gc=False`: these are trees, and short-lived ones, so the garbage collector need not walk them.
"""

from __future__ import annotations

import enum
import json
import re

import msgspec

from workers.http.sse import ServerSentEvent


class Author(msgspec.Struct, frozen=True, gc=False):
    """`role`: "system", "user", "assistant" or "tool", with the tool's name."""

    role: str = ""
    name: str | None = None


class Part(msgspec.Struct, frozen=True, gc=False):
    """A part of a content that is not text. `placeholders` reads its `metadata`."""

    content_type: str | None = None
    asset_pointer: str | None = None
    metadata: object = None


class Content(msgspec.Struct, frozen=True, gc=False):
    content_type: str = ""
    parts: list[str | Part | None] | None = None
    text: str | None = None
    name: str | None = None


class FinishDetails(msgspec.Struct, frozen=True, gc=False):
    """`type`: "stop", "max_tokens" or "interrupted"."""

    type: str | None = None


class Metadata(msgspec.Struct, frozen=True, gc=False):
    """The last four are known to be odd at times and are read leniently where they are used."""

    model_slug: str | None = None
    finish_details: FinishDetails | None = None
    citations: object = None
    content_references: object = None
    aggregate_result: object = None
    jit_plugin_data: object = None


class Message(msgspec.Struct, frozen=True, gc=False):
    """A message as it is so far: each event repeats all of it.

    `status`: "in_progress", "finished_successfully" or "finished_partial_completion".
    """

    id: str = ""
    author: Author | None = None
    content: Content | None = None
    status: str | None = None
    end_turn: bool | None = None
    metadata: Metadata | None = None
    recipient: str | None = None

    @property
    def finished(self) -> bool:
        """True if the message is complete."""
        return self.status in ("finished_successfully", "finished_partial_completion")

    @property
    def is_code(self) -> bool:
        """True if its content is code, for any recipient."""
        return self.content is not None and self.content.content_type == "code"

    @property
    def text(self) -> str:
        """All of its text so far, of whatever kind; "" for a content that has none to show."""
        content = self.content
        if content is None:
            return ""
        match content.content_type:
            case "text" | "multimodal_text":
                parts = content.parts or ()
                if len(parts) == 1 and isinstance(parts[0], str):
                    return parts[0]
                return "".join([part for part in parts if isinstance(part, str)])
            case "code" | "execution_output" | "stderr":
                return content.text or ""
            case "system_error":
                return content.text or content.name or ""
            case _:
                return ""


class Moderation(msgspec.Struct, frozen=True, gc=False):
    blocked: bool | None = None


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """The content of one event: a message, an error, or something else.

    `error` and `detail` are a sentence or an object; `error_body` knows their shapes.
    """

    message: Message | None = None
    conversation_id: str | None = None
    error: object = None
    detail: object = None
    type: str | None = None
    moderation_response: Moderation | None = None

    @property
    def blocks(self) -> bool:
        """True if the upstream's moderation withdraws the answer."""
        if self.moderation_response is not None:
            return self.moderation_response.blocked is True
        # The bare event, without a verdict in it, has been read as "blocked" by 2024 clients.
        return self.type == "moderation" and self.message is None


class Operation(msgspec.Struct, frozen=True, gc=False):
    """A change to an envelope, in the v1 delta encoding: `delta_encoding` applies it.

    Where `p`ath, `o`peration or the `c`ount of its message are missing, they are those of the
    operation before.
    """

    v: object
    p: str | None = None
    o: str | None = None
    c: int | None = None


class Mark(enum.Enum):
    """An event without content of its own."""

    DONE = "done"
    PING = "ping"
    UNKNOWN = "unknown"


Record = Envelope | Operation | Mark

_envelope = msgspec.json.Decoder(Envelope)
_operation = msgspec.json.Decoder(Operation)
_ping = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")  # the data of a ping that lost its name


def read_record(event: ServerSentEvent) -> Record:
    """Decode an event of the upstream. Never raises, whatever the upstream sent."""
    if event.event == "ping":
        return Mark.PING
    data = event.data
    decoder: msgspec.json.Decoder[Envelope] | msgspec.json.Decoder[Operation]
    decoder = _operation if event.event == "delta" else _envelope
    if not data.startswith(b"{"):
        data = data.strip()
        if data == b"[DONE]":
            return Mark.DONE
        if _ping.match(data):
            return Mark.PING
    try:
        return decoder.decode(data)
    except (msgspec.ValidationError, RecursionError):
        return Mark.UNKNOWN
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        return decoder.decode(_mend(data))
    except (msgspec.DecodeError, ValueError, RecursionError):
        return Mark.UNKNOWN


def _mend(data: bytes) -> str:
    """The same JSON with U+FFFD for every half of a character.

    Raises:
        ValueError: it is not JSON even so.
    """
    # The standard library takes the lone surrogates that msgspec refuses; UTF-16 can carry them
    # to the one place that replaces them.
    loose = json.dumps(json.loads(data.decode("utf-8", "replace")), ensure_ascii=False)
    return loose.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
