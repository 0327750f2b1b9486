"""Schema of `POST /backend-api/conversation`, as far as an answer depends on it."""

from __future__ import annotations

from typing import Literal

import msgspec

from simulator.errors import MISSING_MODEL, RefusedError, bad_field, bad_json


class Author(msgspec.Struct, frozen=True):
    """Author of a message: system, user, assistant or tool."""

    role: str
    name: str | None = None


class ImagePart(msgspec.Struct, frozen=True):
    """An image inside a message. Missing fields get defaults, as upstream."""

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
    """The user's choice when an action asked for permission."""

    type: Literal["allow", "always_allow", "deny"]
    operation_hash: str | None = None


class UserAction(msgspec.Struct, frozen=True):
    """The choice, and the id of the message that asked."""

    data: ActionChoice
    target_message_id: str


class FromClient(msgspec.Struct, frozen=True):
    """The client's addition to an action's message."""

    user_action: UserAction


class PluginData(msgspec.Struct, frozen=True):
    """The object around that addition."""

    from_client: FromClient


class Metadata(msgspec.Struct, frozen=True):
    """Metadata of a message."""

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
        """Its text parts, joined."""
        return "".join(part for part in self.content.parts if isinstance(part, str))


class GizmoName(msgspec.Struct, frozen=True):
    """Id of a GPT."""

    id: str


class GizmoInfo(msgspec.Struct, frozen=True):
    """The answer of `/gizmos/{id}`, which a client sends back; `{}` in a continued conversation."""

    gizmo: GizmoName | None = None


class Mode(msgspec.Struct, frozen=True):
    """Partner of the conversation: the assistant or a GPT."""

    kind: str
    gizmo_id: str | None = None
    gizmo: GizmoInfo | None = None


class Payload(msgspec.Struct, frozen=True):
    """The request. Only a continued conversation has a `conversation_id`."""

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
        """The last user message; None if there is none (action `continue`)."""
        return next((m for m in reversed(self.messages) if m.author.role == "user"), None)

    @property
    def choice(self) -> UserAction | None:
        """The choice about an action; None in any other request."""
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
    """Decode a patch. Raises RefusedError (422) for anything else."""
    try:
        return msgspec.json.decode(body, type=Patch)
    except msgspec.ValidationError as error:
        raise RefusedError(bad_field(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RefusedError(bad_json(body)) from None


def decode(body: bytes) -> Payload:
    """Decode a request body. Raises RefusedError (422, or 400 if it is not even text)."""
    try:
        return msgspec.json.decode(body, type=Payload)
    except msgspec.ValidationError as error:
        if "missing required field `model`" in str(error):
            raise RefusedError(MISSING_MODEL) from None
        raise RefusedError(bad_field(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RefusedError(bad_json(body)) from None
