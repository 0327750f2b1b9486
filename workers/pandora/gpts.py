"""The upstream's info about GPTs, which a conversation with a GPT has to send back whole."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from urllib.parse import quote

import msgspec

from wire.events import Failed
from wire.gpts import EVERYBODY, GptInfos
from wire.redis.outage import REDIS_ERRORS
from wire.seal import SealError
from workers.http.unreachable import UNREACHABLE, UnreachableError
from workers.pandora.backend import TOO_LARGE, Backend
from workers.pandora.json_decoding import decode_json
from workers.pandora.refusals import error_of
from workers.upstream import UpstreamError

TIMEOUT = 20.0
"""Seconds for the upstream to return the info of one GPT."""

RETRY = 60.0
"""Seconds between two attempts to refresh infos that are unknown or stale."""

_MAX_BYTES = 1024 * 1024
_UNREACHABLE = Failed(
    "upstream_error", "The GPT behind this model cannot be reached.", "gpt_unreachable"
)

logger = logging.getLogger(__name__)


class _Id(msgspec.Struct, frozen=True):
    id: str


class _Info(msgspec.Struct, frozen=True):
    gizmo: _Id


class Gizmo(msgspec.Struct, frozen=True):
    """A GPT: the upstream's own id for it, and the whole info about it."""

    id: str
    info: msgspec.Raw


class _RefusedError(Exception):
    """The upstream returned no info; `final` if another attempt would return none either."""

    def __init__(self, reason: str, failed: Failed = _UNREACHABLE, *, final: bool = False) -> None:
        super().__init__(reason)
        self.failed = failed
        self.final = final


class Gpts:
    """Infos of GPTs, fetched with `key_for_info`, or without one with each client's own bearer."""

    def __init__(self, backend: Backend, infos: GptInfos, key_for_info: str = "") -> None:
        self._backend = backend
        self._infos = infos
        self._key = key_for_info

    async def find(self, id: str, bearer: str) -> Gizmo:
        """The GPT for a conversation of `bearer`, from Redis while it is fresh.

        Raises:
            UpstreamError: it cannot be reached.
        """
        owner = EVERYBODY if self._key else bearer
        known, fresh = await self._cached(owner, id)
        if known is not None and fresh:
            return known
        try:
            info = await self._fetch(id, self._key or bearer)
            found = _read(info)
        except _RefusedError as refused:
            logger.warning(
                "a GPT cannot be reached",
                extra={"event": "gpt_unreachable", "gpt": id, "reason": str(refused)},
            )
            if known is not None and not refused.final:
                return known
            with contextlib.suppress(*REDIS_ERRORS):  # listed or not, it has been refused here
                await self._infos.miss(owner, id)
            # A refusal of the gateway's own key is not this client's fault.
            ours = self._key and refused.failed.fault == "unauthorized"
            raise error_of(_UNREACHABLE if ours else refused.failed) from None
        with contextlib.suppress(*REDIS_ERRORS):  # fetched again next time
            await self._infos.put(owner, id, info)
        return found

    async def keep_asking(self, ids: Sequence[str], retry: float = RETRY) -> None:
        """Keep the infos of these GPTs fresh, forever. Without `key_for_info` return at once."""
        while self._key:
            for id in ids:
                with contextlib.suppress(UpstreamError):  # already logged, and marked
                    await self.find(id, self._key)
            await asyncio.sleep(retry)

    async def _cached(self, owner: str, id: str) -> tuple[Gizmo | None, bool]:
        with contextlib.suppress(*REDIS_ERRORS, SealError, _RefusedError):
            if cached := await self._infos.get(owner, id):
                return _read(cached[0]), cached[1]
        return None, False

    async def _fetch(self, id: str, key: str) -> bytes:
        path = f"/gizmos/{quote(id, safe='')}"
        try:
            response = await self._backend.call(
                "GET", path, key, timeout=TIMEOUT, max_bytes=_MAX_BYTES
            )
        except UnreachableError as error:
            failed = _UNREACHABLE if error.timed_out else error.failed
            raise _RefusedError(error.detail, failed) from None
        if response.flaw == TOO_LARGE:
            raise _RefusedError(TOO_LARGE, final=True)
        if response.flaw:
            raise _RefusedError(response.flaw, UNREACHABLE)
        status = response.status
        if status == 200:
            return response.body
        failed = _UNREACHABLE
        if status == 401:
            refusal = response.refusal()
            failed = refusal.failed if isinstance(refusal, UpstreamError) else failed
        raise _RefusedError(f"http_{status}", failed, final=status in (401, 403, 404))


def _read(info: bytes) -> Gizmo:
    decoded = decode_json(info, _Info)
    if decoded is None:
        raise _RefusedError("no_info")
    return Gizmo(decoded.gizmo.id, msgspec.Raw(info))
