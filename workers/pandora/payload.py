"""A job as the request Pandora-Next expects for its family (upstream-protocol.md, 2.2 and 2.3).

Every job is a conversation of its own: no `conversation_id`, a random parent, and the client's
messages in one request, each with its own role.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping

import msgspec
from msgspec import UNSET, UnsetType

from wire.jobs import ChatJob, Family, Identity, Message, Role
from workers.pandora.files.uploads import Uploaded
from workers.pandora.gpts import Gizmo
from workers.pandora.translate.placeholders import ConfirmationWanted, Leave

_SUGGESTIONS = (
    "Explain how a sundial tells the time.",
    "Write a short poem about the first snow.",
    "What should I pack for a walk in the hills?",
    "Help me plan a dinner for four friends.",
)


class _Kind(msgspec.Struct, frozen=True):
    """One model family: its upstream model, and what the web page sends along with it."""

    model: str
    suggestions: tuple[str, ...] | UnsetType
    arkose_token: UnsetType | None


_KINDS: dict[Family, _Kind] = {
    "gpt_4_s": _Kind("gpt-4", (), UNSET),
    "gpt_4_mobile": _Kind("gpt-4-mobile", _SUGGESTIONS, UNSET),
    "gpt_4_gizmo": _Kind("gpt-4-gizmo", UNSET, UNSET),
    "gpt_3_5": _Kind("text-davinci-002-render-sha", _SUGGESTIONS, None),
}


class _Author(msgspec.Struct, frozen=True):
    role: Role


class _Pointer(msgspec.Struct, frozen=True):
    """A picture among a message's parts."""

    content_type: str
    asset_pointer: str
    size_bytes: int
    width: int
    height: int


class _Content(msgspec.Struct, frozen=True):
    content_type: str
    parts: list[str | _Pointer]


class _Attachment(msgspec.Struct, frozen=True):
    """A file beside a message; every picture is one, too."""

    name: str
    id: str
    mimeType: str  # noqa: N815 - the upstream's own spelling, as below
    size: int
    width: int | UnsetType
    height: int | UnsetType
    fileTokenSize: int | UnsetType  # noqa: N815


class _Metadata(msgspec.Struct, frozen=True):
    attachments: list[_Attachment] | UnsetType


class _Message(msgspec.Struct, frozen=True):
    id: str
    author: _Author
    content: _Content
    metadata: _Metadata


class _Mode(msgspec.Struct, frozen=True):
    kind: str = "primary_assistant"


class _GizmoMode(msgspec.Struct, frozen=True):
    gizmo: msgspec.Raw
    gizmo_id: str
    kind: str = "gizmo_interaction"


class _Tool(msgspec.Struct, frozen=True):
    name: str
    role: str = "tool"


class _Choice(msgspec.Struct, frozen=True):
    type: str
    operation_hash: str | UnsetType


class _UserAction(msgspec.Struct, frozen=True):
    data: _Choice
    target_message_id: str


class _Confirmation(msgspec.Struct, frozen=True):
    """The message that answers an action's request for leave."""

    id: str
    author: _Tool
    content: _Content
    metadata: dict[str, dict[str, dict[str, _UserAction]]]
    recipient: str = "all"


class _Payload(msgspec.Struct, frozen=True):
    action: str
    messages: list[_Message] | list[_Confirmation]
    parent_message_id: str
    model: str
    timezone_offset_min: int
    suggestions: tuple[str, ...] | UnsetType
    history_and_training_disabled: bool
    conversation_mode: _Mode | _GizmoMode
    force_paragen: bool
    force_rate_limit: bool
    arkose_token: str | UnsetType | None
    conversation_id: str | UnsetType = UNSET


def _uuid4() -> str:
    return str(uuid.uuid4())


def upstream_model(family: Family) -> str:
    """The upstream's name for the model that answers a family."""
    return _KINDS[family].model


def wants_arkose(family: Family) -> bool:
    """Whether the upstream may want an Arkose token for a family's model."""
    return _KINDS[family].arkose_token is UNSET


def encode_payload(
    job: ChatJob,
    new_id: Callable[[], str] = _uuid4,
    *,
    uploaded: Mapping[Identity, Uploaded] | None = None,
    arkose_token: str | None = None,
    keep_history: bool = True,
    gizmo: Gizmo | None = None,
) -> bytes:
    """The JSON body of `POST /backend-api/conversation`.

    `uploaded` are the job's files as the upstream knows them.

    `new_id` makes the ids, first one for each message and then the parent's. Without an
    `arkose_token` the upstream may add one of its own. Without `keep_history` it keeps nothing of
    the conversation, and no files of its sandbox either. `gizmo` is the GPT that
    answers, if it is one.
    """
    kind = _KINDS[job.family]
    messages = [_message(message, new_id(), uploaded or {}) for message in job.messages]
    payload = _Payload(
        action="next",
        messages=messages,
        parent_message_id=new_id(),
        model=kind.model,
        timezone_offset_min=-480,
        suggestions=kind.suggestions,
        history_and_training_disabled=not keep_history,
        conversation_mode=_GizmoMode(gizmo.info, gizmo.id) if gizmo else _Mode(),
        force_paragen=False,
        force_rate_limit=False,
        arkose_token=arkose_token or kind.arkose_token,
    )
    return msgspec.json.encode(payload)


def _message(message: Message, id: str, uploaded: Mapping[Identity, Uploaded]) -> _Message:
    """A message with its pictures where they stand, and all its files beside it."""
    parts: list[str | _Pointer] = []
    files: list[Uploaded] = []
    for part in message.parts:
        if isinstance(part, str):
            parts.append(part)
            continue
        file = uploaded[part.identity]
        files.append(file)
        if file.is_picture:
            pointer = f"file-service://{file.id}"
            parts.append(
                _Pointer("image_asset_pointer", pointer, file.size, file.width, file.height)
            )
    kind = "multimodal_text" if any(file.is_picture for file in files) else "text"
    attachments = [_attachment(file) for file in files]
    return _Message(
        id,
        _Author(message.role),
        _Content(kind, parts or [""]),
        _Metadata(attachments or UNSET),
    )


def _attachment(file: Uploaded) -> _Attachment:
    return _Attachment(
        name=file.name,
        id=file.id,
        mimeType=file.type,
        size=file.size,
        width=file.width if file.is_picture else UNSET,
        height=file.height if file.is_picture else UNSET,
        fileTokenSize=UNSET if file.tokens is None else file.tokens,
    )


def encode_confirmation(
    job: ChatJob,
    conversation_id: str,
    wanted: ConfirmationWanted,
    leave: Leave,
    new_id: Callable[[], str] = _uuid4,
    *,
    arkose_token: str | None = None,
    keep_history: bool = True,
    gizmo: Gizmo | None = None,
) -> bytes:
    """The JSON body by which a conversation goes on after leave was given (2.4).

    The rest as for `encode_payload`.
    """
    action = _UserAction(
        _Choice(leave.type, leave.operation_hash or UNSET),
        leave.target_message_id or wanted.message_id,
    )
    answer = _Confirmation(
        new_id(),
        # The tool, without its operation.
        _Tool(wanted.tool.partition(".")[0]),
        _Content("text", [""]),
        {"jit_plugin_data": {"from_client": {"user_action": action}}},
    )
    payload = _Payload(
        action="next",
        messages=[answer],
        parent_message_id=wanted.message_id,
        model=upstream_model(job.family),
        timezone_offset_min=-480,
        suggestions=UNSET,
        history_and_training_disabled=not keep_history,
        conversation_mode=_GizmoMode(gizmo.info, gizmo.id) if gizmo else _Mode(),
        force_paragen=False,
        force_rate_limit=False,
        arkose_token=arkose_token,
        conversation_id=conversation_id,
    )
    return msgspec.json.encode(payload)
