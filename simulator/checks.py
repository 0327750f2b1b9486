"""Checks of `POST /conversation` beyond its schema."""

from __future__ import annotations

from simulator.errors import NO_CONVERSATION, UNUSUAL_ACTIVITY, RefusedError, detail, invalid
from simulator.files import File, Files
from simulator.history import Conversation, History
from simulator.payload import Payload, UserAction

GIZMO_MODEL = "gpt-4-gizmo"


def check_conversation(asked: Payload, bearer: str, history: History) -> Conversation | None:
    """Return the conversation that is continued, or None for a new one.

    Raises RefusedError: 404 for a conversation that is not the bearer's, 422 for a confirmation
    that was not asked for or that names the wrong action.
    """
    continued: Conversation | None = None
    if asked.conversation_id:
        continued = history.find(asked.conversation_id, bearer)
        if continued is None:
            raise RefusedError(NO_CONVERSATION)
    choice = asked.choice
    if choice is not None:
        _check_choice(asked, choice, continued)
    return continued


def _check_choice(asked: Payload, choice: UserAction, continued: Conversation | None) -> None:
    if continued is None or continued.asked is None:
        raise RefusedError(invalid(["messages", 0], "no action waits for a confirmation"))
    where: list[str | int] = ["messages", 0, "metadata", "jit_plugin_data"]
    if choice.target_message_id != continued.asked.id:
        raise RefusedError(invalid([*where, "target_message_id"], "not the message that asked"))
    if asked.parent_message_id != continued.asked.id:
        raise RefusedError(invalid(["parent_message_id"], "not the message that asked"))
    if choice.data.type == "always_allow":
        if choice.data.operation_hash != continued.operation_hash:
            raise RefusedError(invalid([*where, "operation_hash"], "not the operation's"))
        if getattr(continued.asked.step, "consequential", False):
            raise RefusedError(invalid([*where, "type"], "always_allow was not offered"))


def check_gizmo(asked: Payload) -> None:
    """Raise RefusedError (422) if a GPT's model is named without the GPT."""
    mode = asked.conversation_mode
    if asked.model != GIZMO_MODEL:
        return
    where = "conversation_mode"
    if mode is None or mode.kind != "gizmo_interaction":
        raise RefusedError(invalid([where, "kind"], "the model needs gizmo_interaction"))
    if not (mode.gizmo_id or "").startswith("g-"):
        raise RefusedError(invalid([where, "gizmo_id"], "not the id of a gizmo"))
    named = mode.gizmo.gizmo.id if mode.gizmo and mode.gizmo.gizmo else None
    if named != mode.gizmo_id and not (asked.conversation_id and named is None):
        raise RefusedError(invalid([where, "gizmo"], "not the gizmo of this id"))


def check_files(asked: Payload, bearer: str, files: Files) -> None:
    """Check the files that the messages refer to.

    Raises RefusedError (422) for one that does not exist, is not the bearer's, is not completely
    uploaded, is not an image although it must be, or has another size than declared.
    """
    for n, message in enumerate(asked.messages):
        for m, attachment in enumerate(message.metadata.attachments):
            where: list[str | int] = ["messages", n, "metadata", "attachments", m]
            file = _ready(str(attachment.get("id")), bearer, files, [*where, "id"])
            if attachment.get("size") not in (None, file.size):
                raise RefusedError(invalid([*where, "size"], f"the file has {file.size} bytes"))
    for n, image in asked.images:
        file_id = image.asset_pointer.removeprefix("file-service://")
        where = ["messages", n, "content", "parts"]
        file = _ready(file_id, bearer, files, where)
        if file.use_case not in ("multimodal", "made"):
            raise RefusedError(invalid(where, "the file was not uploaded as an image"))
        if image.size_bytes not in (None, file.size):
            raise RefusedError(invalid(where, f"the file has {file.size} bytes"))


def _ready(file_id: str, bearer: str, files: Files, where: list[str | int]) -> File:
    file = files.owned(file_id, bearer)
    if file is None or file.state != "ready":
        raise RefusedError(invalid(where, "no such uploaded file"))
    return file


class Arkose:
    """Tokens that were given; each is valid for one conversation."""

    def __init__(self) -> None:
        self._unspent: set[str] = set()

    def add(self, token: str) -> None:
        """Record a token that was given."""
        self._unspent.add(token)

    def spend(self, token: str | None, header: str | None) -> None:
        """Spend the token of a request, which is in its body and in its header.

        Raises RefusedError (403, like the real server) if it is missing or invalid.
        """
        if token is None or token not in self._unspent or header != token:
            raise RefusedError(detail(403, UNUSUAL_ACTIVITY))
        self._unspent.discard(token)
