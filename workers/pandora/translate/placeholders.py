"""What the translation asks the rim for, in the place of the event it will become.

The upstream names images and files by its own pointers, and asks for leave to call an action. Who
holds the conversation turns each of these into one event of ours (`client`, `downloads`).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from workers.pandora.translate.records import Message, Metadata

_MAX_WORDS = 200  # characters of an action's domain and operation


class ImageWanted(msgspec.Struct, frozen=True):
    """An `Image`, by its asset pointer: `file-service://file-X` or `sediment://file_X`."""

    tool: Literal["dalle", "python"]
    pointer: str
    prompt: str | None = None


class FileWanted(msgspec.Struct, frozen=True):
    """A `File` of the sandbox, by the message that links to it."""

    message_id: str
    path: str


class Leave(msgspec.Struct, frozen=True):
    """One way to answer: `type` is "allow", "always_allow", "deny" or "oauth_redirect"."""

    type: str
    target_message_id: str
    operation_hash: str | None = None


class ConfirmationWanted(msgspec.Struct, frozen=True):
    """Leave to call an action, or, if nobody gives it, an `Asked`. The turn ends after it.

    `tool` is the name of the author that a message with the answer has to bear.
    """

    message_id: str
    tool: str
    domain: str
    operation: str
    leaves: list[Leave]


Wanted = ImageWanted | FileWanted | ConfirmationWanted

Confirm = Literal["no", "allow", "always_allow"]
"""How the operator answers actions that ask for leave (`settings.Gpts`)."""


def choose_leave(wanted: ConfirmationWanted, confirm: Confirm) -> Leave | None:
    """The answer to give, None for none. What may not be allowed for good is allowed this once."""
    offered = {leave.type: leave for leave in wanted.leaves}
    match confirm:
        case "no":
            return None
        case "allow":
            return offered.get("allow")
        case "always_allow":
            return offered.get("always_allow") or offered.get("allow")


def read_drawn(message: Message) -> list[ImageWanted]:
    """The images among a message's parts."""
    content = message.content
    name = message.author.name if message.author else None
    tool: Literal["dalle", "python"] = "python" if name == "python" else "dalle"
    images = []
    for part in (content.parts if content else None) or ():
        if part is None or isinstance(part, str) or not part.asset_pointer:
            continue
        match part.metadata:
            case {"dalle": {"prompt": str(prompt)}}:
                images.append(ImageWanted(tool, part.asset_pointer, prompt))
            case _:
                images.append(ImageWanted(tool, part.asset_pointer))
    return images


def read_displayed(metadata: Metadata | None) -> list[ImageWanted]:
    """The images that code has displayed so far."""
    match metadata.aggregate_result if metadata else None:
        case {"messages": list(messages)}:
            pass
        case _:
            return []
    images = []
    for entry in messages:
        match entry:
            case {"message_type": "image", "image_url": str(pointer)} if pointer:
                images.append(ImageWanted("python", pointer))
    return images


def read_confirmation(message: Message) -> ConfirmationWanted | None:
    """The leave that a tool's message asks for, if it does."""
    metadata = message.metadata
    match metadata.jit_plugin_data if metadata else None:
        case {"from_server": {"type": "confirm_action" | "oauth_required", "body": dict(body)}}:
            pass
        case _:
            return None
    given = body.get("actions")
    return ConfirmationWanted(
        message_id=message.id,
        tool=(message.author.name if message.author else None) or "",
        domain=_words(body.get("domain")),
        operation=_words(body.get("operation")),
        leaves=[_leave(one) for one in given if isinstance(one, dict)]
        if isinstance(given, list)
        else [],
    )


def _leave(given: dict[str, object]) -> Leave:
    kind = given.get("type")
    match given.get(kind) if isinstance(kind, str) else None:
        case dict(details):
            target, hashed = details.get("target_message_id"), details.get("operation_hash")
        case _:
            target, hashed = None, None
    return Leave(
        type=kind if isinstance(kind, str) else "",
        target_message_id=target if isinstance(target, str) else "",
        operation_hash=hashed if isinstance(hashed, str) else None,
    )


def _words(value: object) -> str:
    return value[:_MAX_WORDS] if isinstance(value, str) else ""
