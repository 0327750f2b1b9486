"""The body of `POST /backend-api/conversation`, as far as an answer depends on it."""

from __future__ import annotations

from typing import Literal

import msgspec

from simulator.errors import MISSING_MODEL, RefusedError, bad_field, bad_json


class Author(msgspec.Struct, frozen=True):
    """Who speaks: system, user, assistant or tool."""

    role: str
    name: str | None = None


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


class ActionChoice(msgspec.Struct, frozen=True):
    """What the user chose when an action asked for leave."""

    type: Literal["allow", "always_allow", "deny"]
    operation_hash: str | None = None


class UserAction(msgspec.Struct, frozen=True):
    """The choice, and the message that asked."""

    data: ActionChoice
    target_message_id: str


class FromClient(msgspec.Struct, frozen=True):
    """What a client adds to an action's message."""

    user_action: UserAction


class PluginData(msgspec.Struct, frozen=True):
    """The frame around it."""

    from_client: FromClient


class Metadata(msgspec.Struct, frozen=True):
    """What travels beside a message."""

    attachments: tuple[dict[str, str | int | float | None], ...] = ()
    jit_plugin_data: PluginData | None = None


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


class GizmoName(msgspec.Struct, frozen=True):
    """Which GPT is meant."""

    id: str


class GizmoInfo(msgspec.Struct, frozen=True):
    """The answer of `/gizmos/{id}`, which a client sends back whole; `{}` when it goes on."""

    gizmo: GizmoName | None = None


class Mode(msgspec.Struct, frozen=True):
    """Whom the conversation is with: the assistant or a GPT."""

    kind: str
    gizmo_id: str | None = None
    gizmo: GizmoInfo | None = None


class Payload(msgspec.Struct, frozen=True):
    """The request. `conversation_id` is there only when a conversation goes on."""

    model: str
    messages: tuple[Message, ...] = ()
    action: str = "next"
    conversation_id: str | None = None
    parent_message_id: str | None = None
    conversation_mode: Mode | None = None
    arkose_token: str | None = None
    history_and_training_disabled: bool = False

    @property
    def prompt(self) -> Message | None:
        """The last user message, None when there is none (action `continue`)."""
        return next((m for m in reversed(self.messages) if m.author.role == "user"), None)

    @property
    def choice(self) -> UserAction | None:
        """The answer to an action's question, None in any other request."""
        if not self.messages or self.messages[-1].author.role != "tool":
            return None
        data = self.messages[-1].metadata.jit_plugin_data
        return data.from_client.user_action if data else None

    @property
    def images(self) -> list[tuple[int, ImagePart]]:
        """The images inside messages, with the number of the message."""
        return [
            (n, part)
            for n, message in enumerate(self.messages)
            for part in message.content.parts
            if isinstance(part, ImagePart)
        ]


class Patch(msgspec.Struct, frozen=True):
    """The body of `PATCH /conversation/{id}`."""

    is_visible: bool | None = None
    title: str | None = None


def decode_patch(body: bytes) -> Patch:
    """Read a patch. Raises RefusedError (422) for anything else."""
    try:
        return msgspec.json.decode(body, type=Patch)
    except msgspec.ValidationError as error:
        raise RefusedError(bad_field(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RefusedError(bad_json(body)) from None


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
