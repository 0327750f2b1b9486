"""A job as the request Pandora-Next expects for its family (upstream-protocol.md, 2.2 and 2.3).

Every job is a conversation of its own: no `conversation_id`, a random parent, and the client's
messages in one request, each with its own role.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

import msgspec
from msgspec import UNSET, UnsetType

from wire.jobs import ChatJob, Family, Role

_SUGGESTIONS = (
    "Explain how a sundial tells the time.",
    "Write a short poem about the first snow.",
    "What should I pack for a walk in the hills?",
    "Help me plan a dinner for four friends.",
)


class _Kind(msgspec.Struct, frozen=True):
    """One model family: its upstream model, and what the web page sends along with it."""

    model: str
    suggestions: tuple[str, ...]
    arkose_token: UnsetType | None


_KINDS: dict[Family, _Kind] = {
    "gpt_4_s": _Kind("gpt-4", (), UNSET),
    "gpt_4_mobile": _Kind("gpt-4-mobile", _SUGGESTIONS, UNSET),
    "gpt_3_5": _Kind("text-davinci-002-render-sha", _SUGGESTIONS, None),
}


class _Author(msgspec.Struct, frozen=True):
    role: Role


class _Content(msgspec.Struct, frozen=True):
    content_type: str
    parts: list[str]


class _Message(msgspec.Struct, frozen=True):
    id: str
    author: _Author
    content: _Content
    metadata: dict[str, str]


class _Mode(msgspec.Struct, frozen=True):
    kind: str


class _Payload(msgspec.Struct, frozen=True):
    action: str
    messages: list[_Message]
    parent_message_id: str
    model: str
    timezone_offset_min: int
    suggestions: tuple[str, ...]
    history_and_training_disabled: bool
    conversation_mode: _Mode
    force_paragen: bool
    force_rate_limit: bool
    arkose_token: UnsetType | None


def _uuid4() -> str:
    return str(uuid.uuid4())


def upstream_model(family: Family) -> str:
    """The upstream's name for the model that answers a family."""
    return _KINDS[family].model


def encode_payload(job: ChatJob, new_id: Callable[[], str] = _uuid4) -> bytes:
    """The JSON body of `POST /backend-api/conversation`.

    `new_id` makes the ids, first one for each message and then the parent's.
    """
    kind = _KINDS[job.family]
    messages = [
        _Message(new_id(), _Author(message.role), _Content("text", [message.text]), {})
        for message in job.messages
    ]
    payload = _Payload(
        action="next",
        messages=messages,
        parent_message_id=new_id(),
        model=kind.model,
        timezone_offset_min=-480,
        suggestions=kind.suggestions,
        history_and_training_disabled=False,
        conversation_mode=_Mode("primary_assistant"),
        force_paragen=False,
        force_rate_limit=False,
        arkose_token=kind.arkose_token,
    )
    return msgspec.json.encode(payload)
