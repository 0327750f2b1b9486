"""Stopping an answer that comes in frames: leaving its socket would not, others use it too."""

from __future__ import annotations

import asyncio
import logging

import aiohttp
import msgspec

from workers.pandora.websocket.handover import Handover

_PATIENCE = 0.4
"""Seconds that a job waits for its answer to be stopped; its slot is held so long."""

_TIMEOUT = 5.0
"""Seconds that the upstream has to stop it, while nobody waits any more."""

_log = logging.getLogger(__name__)


class _Stop(msgspec.Struct, frozen=True, omit_defaults=True):
    conversation_id: str
    websocket_request_id: str | None = None


class Stops:
    """Asks under `root`, the upstream's URL up to `/backend-api`. Best effort: raises nothing."""

    def __init__(self, session: aiohttp.ClientSession, root: str) -> None:
        self._session = session
        self._url = f"{root}/stop_conversation"
        self._tasks: set[asyncio.Task[None]] = set()

    async def stop(self, bearer: str, handover: Handover) -> None:
        """Stop an answer, and wait for it a little."""
        if not handover.conversation_id:
            return
        task = asyncio.create_task(self._ask(bearer, handover))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait([task], timeout=_PATIENCE)

    async def aclose(self) -> None:
        """Wait a little for what is under way, and give up the rest."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=_PATIENCE)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    async def _ask(self, bearer: str, handover: Handover) -> None:
        body = _Stop(handover.conversation_id, handover.request_id)
        headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}
        try:
            async with (
                asyncio.timeout(_TIMEOUT),
                self._session.post(
                    self._url,
                    data=msgspec.json.encode(body),
                    headers=headers,
                    allow_redirects=False,
                ) as response,
            ):
                reason = f"http_{response.status}"
                if response.status in (200, 404):  # 404: it has ended by itself
                    return
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = type(error).__name__
        _log.warning(
            "An answer could not be stopped upstream: %s",
            reason,
            extra={"event": "upstream_not_stopped", "reason": reason},
        )
