"""Placeholders in the translation, for events that take I/O or the operator's permission to make.

The upstream names images and files by its own pointers, and requests permission to call an action.
Each is replaced by one event of ours: by `files/downloads`, or, for a permission, by `exchange`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from workers.pandora.translate.records import Message, Metadata

_MAX_WORDS = 200  # characters of an action's domain and operation


class ImagePlaceholder(msgspec.Struct, frozen=True, gc=False):
    """An `Image`, by its asset pointer: `file-service://file-X` or `sediment://file_X`."""

    tool: Literal["dalle", "python"]
    pointer: str
    prompt: str | None = None


class FilePlaceholder(msgspec.Struct, frozen=True, gc=False):
    """A `File` of the sandbox, by the message that links to it."""

    message_id: str
    path: str


class Permission(msgspec.Struct, frozen=True, gc=False):
    """An answer offered: `type` is "allow", "always_allow", "deny" or "oauth_redirect"."""

    type: str
    target_message_id: str
    operation_hash: str | None = None


class PermissionRequest(msgspec.Struct, frozen=True):
    """A request for permission to call an action, or an `Asked` without it. The turn ends after it.

    `tool` is the author's name for a message with the answer.
    """

    message_id: str
    tool: str
    domain: str
    operation: str
    offers: list[Permission]


Placeholder = ImagePlaceholder | FilePlaceholder

ConfirmPolicy = Literal["no", "allow", "always_allow"]
"""The operator's answer to actions that request permission (`settings.Gpts`)."""


def choose_permission(request: PermissionRequest, policy: ConfirmPolicy) -> Permission | None:
    """The answer to give, None for none. Without an offer to allow always, allow this once."""
    offered = {offer.type: offer for offer in request.offers}
    match policy:
        case "no":
            return None
        case "allow":
            return offered.get("allow")
        case "always_allow":
            return offered.get("always_allow") or offered.get("allow")


def read_drawn(message: Message) -> list[ImagePlaceholder]:
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
                images.append(ImagePlaceholder(tool, part.asset_pointer, prompt))
            case _:
                images.append(ImagePlaceholder(tool, part.asset_pointer))
    return images


def read_displayed(metadata: Metadata | None) -> list[ImagePlaceholder]:
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
                images.append(ImagePlaceholder("python", pointer))
    return images


def read_permission_request(message: Message) -> PermissionRequest | None:
    """The request in a tool's message, if it has one."""
    metadata = message.metadata
    match metadata.jit_plugin_data if metadata else None:
        case {"from_server": {"type": "confirm_action" | "oauth_required", "body": dict(body)}}:
            pass
        case _:
            return None
    offers = body.get("actions")
    return PermissionRequest(
        message_id=message.id,
        tool=(message.author.name if message.author else None) or "",
        domain=_words(body.get("domain")),
        operation=_words(body.get("operation")),
        offers=[_permission(offer) for offer in offers if isinstance(offer, dict)]
        if isinstance(offers, list)
        else [],
    )


def _permission(offer: dict[str, object]) -> Permission:
    kind = offer.get("type")
    match offer.get(kind) if isinstance(kind, str) else None:
        case dict(details):
            target, hashed = details.get("target_message_id"), details.get("operation_hash")
        case _:
            target, hashed = None, None
    return Permission(
        type=kind if isinstance(kind, str) else "",
        target_message_id=target if isinstance(target, str) else "",
        operation_hash=hashed if isinstance(hashed, str) else None,
    )


def _words(value: object) -> str:
    return value[:_MAX_WORDS] if isinstance(value, str) else ""
