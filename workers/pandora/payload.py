"""The request bodies that Pandora-Next expects for a job (upstream-protocol.md, 2.2 to 2.4).

Every job is a conversation of its own: no `conversation_id`, a random parent, and the client's
messages in one request, each with its own role.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping

import msgspec
from msgspec import UNSET, UnsetType

from wire.jobs import ChatJob, Family, Identity, Message, Role
from workers.pandora.files.uploaded import Uploaded
from workers.pandora.gpts import Gizmo
from workers.pandora.translate.placeholders import Permission, PermissionRequest

_SUGGESTIONS = (
    "Explain how a sundial tells the time.",
    "Write a short poem about the first snow.",
    "What should I pack for a walk in the hills?",
    "Help me plan a dinner for four friends.",
)


class _ModelFields(msgspec.Struct, frozen=True):
    """One model family: its upstream model, and the fields that the web page sends with it."""

    model: str
    suggestions: tuple[str, ...] | UnsetType
    arkose_token: UnsetType | None


_MODELS: dict[Family, _ModelFields] = {
    "gpt_4_s": _ModelFields("gpt-4", (), UNSET),
    "gpt_4_mobile": _ModelFields("gpt-4-mobile", _SUGGESTIONS, UNSET),
    "gpt_4_gizmo": _ModelFields("gpt-4-gizmo", UNSET, UNSET),
    "gpt_3_5": _ModelFields("text-davinci-002-render-sha", _SUGGESTIONS, None),
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
    """A file of a message; every picture is one, too."""

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
    """The message that answers an action's request for permission."""

    id: str
    author: _Tool
    content: _Content
    metadata: dict[str, dict[str, dict[str, _UserAction]]]
    recipient: str = "all"


class _Payload(msgspec.Struct, frozen=True, kw_only=True):
    action: str = "next"
    messages: list[_Message] | list[_Confirmation]
    parent_message_id: str
    model: str
    timezone_offset_min: int = -480
    suggestions: tuple[str, ...] | UnsetType = UNSET
    history_and_training_disabled: bool
    conversation_mode: _Mode | _GizmoMode
    force_paragen: bool = False
    force_rate_limit: bool = False
    arkose_token: str | UnsetType | None
    conversation_id: str | UnsetType = UNSET


NewId = Callable[[], str]


def _uuid4() -> str:
    return str(uuid.uuid4())


def upstream_model(family: Family) -> str:
    """The upstream's name for the model that answers a family."""
    return _MODELS[family].model


def wants_arkose(family: Family) -> bool:
    """True if the upstream may want an Arkose token for a family's model."""
    return _MODELS[family].arkose_token is UNSET


class Question(msgspec.Struct, frozen=True):
    """A job, with its files as the upstream knows them and its GPT, if it has one.

    Without `keep_history` the upstream keeps nothing of the conversation, and no files of its
    sandbox either.
    """

    job: ChatJob
    uploaded: Mapping[Identity, Uploaded] = {}
    gizmo: Gizmo | None = None
    keep_history: bool = True

    def encode(self, arkose_token: str | None = None, new_id: NewId = _uuid4) -> bytes:
        """The JSON body of `POST /backend-api/conversation`.

        `new_id` makes the ids, first one for each message and then the parent's. Without an
        `arkose_token` the upstream may add one of its own.
        """
        kind = _MODELS[self.job.family]
        payload = _Payload(
            messages=[_message(message, new_id(), self.uploaded) for message in self.job.messages],
            parent_message_id=new_id(),
            model=kind.model,
            suggestions=kind.suggestions,
            history_and_training_disabled=not self.keep_history,
            conversation_mode=self._mode(),
            arkose_token=arkose_token or kind.arkose_token,
        )
        return msgspec.json.encode(payload)

    def encode_confirmation(
        self,
        conversation_id: str,
        request: PermissionRequest,
        permission: Permission,
        arkose_token: str | None = None,
        new_id: NewId = _uuid4,
    ) -> bytes:
        """The JSON body that continues a conversation after a permission was granted (2.4)."""
        action = _UserAction(
            _Choice(permission.type, permission.operation_hash or UNSET),
            permission.target_message_id or request.message_id,
        )
        answer = _Confirmation(
            new_id(),
            # The tool, without its operation.
            _Tool(request.tool.partition(".")[0]),
            _Content("text", [""]),
            {"jit_plugin_data": {"from_client": {"user_action": action}}},
        )
        payload = _Payload(
            messages=[answer],
            parent_message_id=request.message_id,
            model=upstream_model(self.job.family),
            history_and_training_disabled=not self.keep_history,
            conversation_mode=self._mode(),
            arkose_token=arkose_token,
            conversation_id=conversation_id,
        )
        return msgspec.json.encode(payload)

    def _mode(self) -> _Mode | _GizmoMode:
        return _GizmoMode(self.gizmo.info, self.gizmo.id) if self.gizmo else _Mode()


def _message(message: Message, id: str, uploaded: Mapping[Identity, Uploaded]) -> _Message:
    """A message with its pictures in their places, and all its files attached."""
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
