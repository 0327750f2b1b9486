"""The conversations in an account's history."""

from __future__ import annotations

import logging
from urllib.parse import quote

import msgspec

from workers.pandora.backend import Backend, UnreachableError

TIMEOUT = 10.0
"""Seconds for the upstream to delete one conversation."""

_POOL = "pk-"

_log = logging.getLogger(__name__)


class _Visibility(msgspec.Struct, frozen=True):
    is_visible: bool


class Conversations:
    """Conversations upstream."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def delete(self, bearer: str, conversation_id: str) -> bool:
        """Delete a conversation as the web page does; return whether it is gone. Raises nothing."""
        path = f"/conversation/{quote(conversation_id, safe='')}"
        hidden = _Visibility(is_visible=False)
        try:
            response = await self._backend.call(
                "PATCH", path, bearer, json=hidden, timeout=TIMEOUT, max_bytes=0
            )
        except UnreachableError as error:
            reason = error.reason
        else:
            status = response.status
            # A 404 of a pool may come from another of its accounts, which does not know the
            # conversation.
            if status == 200 or (status == 404 and not bearer.startswith(_POOL)):
                return True
            reason = f"http_{status}"
        _log.warning(
            "The upstream did not delete a conversation",
            extra={"event": "deletion_refused", "reason": reason},
        )
        return False
