"""What the server insists on in `POST /conversation` beyond its shape."""

from __future__ import annotations

from simulator.errors import NO_CONVERSATION, UNUSUAL_ACTIVITY, RefusedError, detail, invalid
from simulator.files import File, Files
from simulator.history import Conversation, History
from simulator.payload import Payload, UserAction

GIZMO_MODEL = "gpt-4-gizmo"


def check_conversation(asked: Payload, bearer: str, history: History) -> Conversation | None:
    """The conversation that goes on, None for a new one.

    Raises RefusedError: 404 for a conversation that is not the bearer's, 422 for a confirmation
    that nobody asked for or that names the wrong action.
    """
    going_on: Conversation | None = None
    if asked.conversation_id:
        going_on = history.find(asked.conversation_id, bearer)
        if going_on is None:
            raise RefusedError(NO_CONVERSATION)
    choice = asked.choice
    if choice is not None:
        _check_choice(asked, choice, going_on)
    return going_on


def _check_choice(asked: Payload, choice: UserAction, going_on: Conversation | None) -> None:
    if going_on is None or going_on.asked is None:
        raise RefusedError(invalid(["messages", 0], "no action waits for a confirmation"))
    where: list[str | int] = ["messages", 0, "metadata", "jit_plugin_data"]
    if choice.target_message_id != going_on.asked.id:
        raise RefusedError(invalid([*where, "target_message_id"], "not the message that asked"))
    if asked.parent_message_id != going_on.asked.id:
        raise RefusedError(invalid(["parent_message_id"], "not the message that asked"))
    if choice.data.type == "always_allow":
        if choice.data.operation_hash != going_on.operation_hash:
            raise RefusedError(invalid([*where, "operation_hash"], "not the operation's"))
        if getattr(going_on.asked.step, "consequential", False):
            raise RefusedError(invalid([*where, "type"], "always_allow was not offered"))


def check_gizmo(asked: Payload) -> None:
    """Raises RefusedError (422) when a GPT's model comes without the GPT."""
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
    """Raises RefusedError (422) for a file that the messages refer to and that is not there, not
    the bearer's, not wholly uploaded, no image where one must be, or of another size than was said.
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
    """The tokens handed out; each is good for one conversation."""

    def __init__(self) -> None:
        self._unspent: set[str] = set()

    def add(self, token: str) -> None:
        """A token has been handed out."""
        self._unspent.add(token)

    def spend(self, token: str | None, header: str | None) -> None:
        """Take the token of a request, which stands in its body and in its header.

        Raises RefusedError (403, as the real server does) when it is missing or worthless.
        """
        if token is None or token not in self._unspent or header != token:
            raise RefusedError(detail(403, UNUSUAL_ACTIVITY))
        self._unspent.discard(token)
