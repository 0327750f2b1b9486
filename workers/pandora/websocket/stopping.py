"""Stopping an answer that comes in frames: its socket stays open, because other answers use it."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from workers.http.unreachable import UnreachableError
from workers.pandora.backend import Backend
from workers.pandora.websocket.handover import Handover

_PATIENCE = 0.4
"""Seconds that a job waits for its answer to be stopped; its slot is held meanwhile."""

_TIMEOUT = 5.0
"""Seconds for the upstream to stop it, after which the stop is given up."""

logger = logging.getLogger(__name__)


class _Stop(msgspec.Struct, frozen=True, omit_defaults=True):
    conversation_id: str
    websocket_request_id: str | None = None


class Stops:
    """Stops of answers that are under way. Best effort: raises nothing."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._tasks: set[asyncio.Task[None]] = set()

    async def stop(self, bearer: str, handover: Handover) -> None:
        """Stop an answer, and wait for it a little."""
        if not handover.conversation_id:
            return
        task = asyncio.create_task(self._post(bearer, handover))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait([task], timeout=_PATIENCE)

    async def aclose(self) -> None:
        """Wait a little for the stops under way, and cancel the remaining ones."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=_PATIENCE)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    async def _post(self, bearer: str, handover: Handover) -> None:
        body = _Stop(handover.conversation_id, handover.request_id)
        try:
            response = await self._backend.call(
                "POST", "/stop_conversation", bearer, json=body, timeout=_TIMEOUT, max_bytes=0
            )
            if response.status in (200, 404):  # 404: it has ended by itself
                return
            reason = f"http_{response.status}"
        except UnreachableError as error:
            reason = error.detail
        logger.warning(
            "an answer could not be stopped upstream",
            extra={"event": "upstream_not_stopped", "reason": reason},
        )
