"""Posting a question, and the transport of its answer: the POST's own response, or a WebSocket."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Literal

from runtime.large import work_on
from wire.jobs import ChatJob
from workers.http.body import Body, HttpBody
from workers.http.unreachable import UnreachableError
from workers.pandora.arkose import ArkoseServers
from workers.pandora.backend import SMALL, Backend, read_response
from workers.pandora.deletions import ConversationRecord
from workers.pandora.payload import wants_arkose
from workers.pandora.websocket.handover import read_handover
from workers.pandora.websocket.pool import Sockets

Mode = Literal["auto", "sse", "websocket"]
"""Allowed transports, as in `upstream.transport`."""

Encode = Callable[[str | None], bytes]
"""Encodes a request body with an Arkose token, or without one."""

_REFUSAL_TIMEOUT = 5.0
"""Seconds for the body of an error: enough to read the reason, too few to hide it in a timeout."""

logger = logging.getLogger(__name__)


class Transport:
    """Posts questions. The answers of an account share its WebSockets. To be closed by `aclose`."""

    def __init__(
        self, backend: Backend, mode: Mode = "auto", arkose: ArkoseServers | None = None
    ) -> None:
        self.sockets = Sockets(backend)
        self._backend = backend
        self._mode = mode
        self._arkose = arkose

    async def post(self, job: ChatJob, encode: Encode, record: ConversationRecord) -> Body:
        """Post a question of a job and return the body of its answer.

        Raises:
            UpstreamBusy: the account is in the middle of another answer.
            UpstreamError: there is no answer.
        """
        with self.sockets.expecting(job.bearer):
            if self._mode != "sse":
                await self.sockets.prepare(job.bearer, always=self._mode == "websocket")
            return await self._post(job, encode, record)

    async def aclose(self) -> None:
        """Close the WebSockets."""
        await self.sockets.aclose()

    async def _post(self, job: ChatJob, encode: Encode, record: ConversationRecord) -> Body:
        token = None
        if self._arkose is not None and wants_arkose(job.family):
            token = await self._arkose.token()
        headers = {"Openai-Sentinel-Arkose-Token": token} if token else {}
        try:
            body = await work_on(job.characters, partial(encode, token))
            stream = await self._backend.post_conversation(job.bearer, body, headers)
        except UnreachableError as error:
            logger.warning(
                "the upstream could not be reached (upstream.base_url)",
                extra={
                    "event": "upstream_unreachable",
                    "job": job.id,
                    "reason": error.detail,
                    "address": self._backend.host,
                },
            )
            raise
        if stream.status == 200 and stream.content_type == "text/event-stream":
            return HttpBody(stream, job.id)
        response = await read_response(stream, SMALL, _REFUSAL_TIMEOUT)
        handover = read_handover(response.body) if response.status == 200 else None
        if handover is not None:
            await record.note(handover.conversation_id)
            if self._mode != "sse":
                return await self.sockets.receive(job.bearer, handover)
            await self.sockets.stop(job.bearer, handover)
        logger.info(
            "the upstream refused a question",
            extra={"event": "upstream_refused", "job": job.id, "status": response.status},
        )
        raise response.refusal()
