"""The body of `POST /backend-api/conversation`, as far as an answer depends on it."""

from __future__ import annotations

import msgspec

from simulator.errors import MISSING_MODEL, RefusedError, bad_field, bad_json


class Author(msgspec.Struct, frozen=True):
    """Who speaks: system, user, assistant or tool."""

    role: str


class ImagePart(msgspec.Struct, frozen=True):
    """An image inside a message. The fields a client leaves out are filled in, as upstream does."""

    asset_pointer: str
    content_type: str = "image_asset_pointer"
    size_bytes: int | None = None
    width: int | None = None
    height: int | None = None
    fovea: int | None = None
    metadata: None = None


class Content(msgspec.Struct, frozen=True):
    """The parts of a message: text, or text and images."""

    content_type: str = "text"
    parts: tuple[str | ImagePart, ...] = ()


class Metadata(msgspec.Struct, frozen=True):
    """What travels beside a message."""

    attachments: tuple[dict[str, str | int | float | None], ...] = ()


class Message(msgspec.Struct, frozen=True):
    """One message of the request."""

    id: str
    author: Author
    content: Content
    metadata: Metadata = Metadata()

    @property
    def text(self) -> str:
        """Its text parts in one string."""
        return "".join(part for part in self.content.parts if isinstance(part, str))


class Payload(msgspec.Struct, frozen=True):
    """The request. `conversation_id` is there only when a conversation goes on."""

    model: str
    messages: tuple[Message, ...] = ()
    action: str = "next"
    conversation_id: str | None = None
    parent_message_id: str | None = None

    @property
    def prompt(self) -> Message | None:
        """The last user message, None when there is none (action `continue`)."""
        return next((m for m in reversed(self.messages) if m.author.role == "user"), None)


def decode(body: bytes) -> Payload:
    """Read a request body. Raises RefusedError (422, or 400 when it is not even text)."""
    try:
        return msgspec.json.decode(body, type=Payload)
    except msgspec.ValidationError as error:
        if "missing required field `model`" in str(error):
            raise RefusedError(MISSING_MODEL) from None
        raise RefusedError(bad_field(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RefusedError(bad_json(body)) from None
