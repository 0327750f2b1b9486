"""Deletion of a conversation upstream."""

from __future__ import annotations

import logging
from urllib.parse import quote

import msgspec

from wire.jobs import is_pool
from workers.http.unreachable import UnreachableError
from workers.pandora.backend import Backend

TIMEOUT = 10.0
"""Seconds for the upstream to delete one conversation."""

logger = logging.getLogger(__name__)


class _Visibility(msgspec.Struct, frozen=True):
    is_visible: bool


async def delete_conversation(backend: Backend, bearer: str, conversation_id: str) -> bool:
    """Hide a conversation, which is how the web page deletes it; return True if it is gone.

    Never raises.
    """
    path = f"/conversation/{quote(conversation_id, safe='')}"
    hidden = _Visibility(is_visible=False)
    try:
        response = await backend.call(
            "PATCH", path, bearer, json=hidden, timeout=TIMEOUT, max_bytes=0
        )
    except UnreachableError as error:
        reason = error.detail
    else:
        status = response.status
        # A pool may route the request to an account that does not own the conversation, so its
        # 404 proves nothing.
        if status == 200 or (status == 404 and not is_pool(bearer)):
            return True
        reason = f"http_{status}"
    logger.warning(
        "the upstream did not delete a conversation",
        extra={"event": "conversation_not_deleted", "reason": reason},
    )
    return False
