"""What the upstream tells of a GPT, which a conversation with it has to send back whole."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import quote

import aiohttp
import msgspec
import yarl

from wire.events import Failed
from wire.gpts import EVERYBODY, GptInfos
from wire.redis.outage import REDIS_ERRORS
from wire.seal import SealError
from workers.pandora.refusals import error_of, judge
from workers.upstream import UpstreamError

TIMEOUT = 20.0
"""Seconds that the upstream has to tell about one GPT."""

RETRY = 60.0
"""Seconds between two looks at what is not known, or not fresh."""

_MAX_BYTES = 1024 * 1024
_UNREACHABLE = Failed(
    "upstream_error", "The GPT behind this model cannot be reached.", "gpt_unreachable"
)
_AWAY = Failed("upstream_down", "The upstream could not be reached.", "upstream_unreachable")

_log = logging.getLogger(__name__)


class _Inner(msgspec.Struct, frozen=True):
    id: str


class _Info(msgspec.Struct, frozen=True):
    gizmo: _Inner


class Gizmo(msgspec.Struct, frozen=True):
    """A GPT by the upstream's own id, and all that it tells of it."""

    id: str
    info: msgspec.Raw


class _RefusedError(Exception):
    """The upstream did not tell. `final` if it would not tell again, either."""

    def __init__(self, reason: str, failed: Failed = _UNREACHABLE, *, final: bool = False) -> None:
        super().__init__(reason)
        self.failed = failed
        self.final = final


class Gpts:
    """Asks under `root`, the upstream's URL up to `/backend-api`, with `key_for_info`.

    Without such a key each client's own bearer has to do.
    """

    def __init__(
        self, session: aiohttp.ClientSession, root: str, infos: GptInfos, key_for_info: str = ""
    ) -> None:
        self._session = session
        self._root = root
        self._infos = infos
        self._key = key_for_info

    async def find(self, id: str, bearer: str) -> Gizmo:
        """What is known of a GPT, for a conversation of `bearer`.

        Raises:
            UpstreamError: it cannot be reached.
        """
        whose = EVERYBODY if self._key else bearer
        known, fresh = await self._known(whose, id)
        if known is not None and fresh:
            return known
        try:
            info = await self._ask(id, self._key or bearer)
            found = _read(info)
        except _RefusedError as refused:
            _log.warning(
                "The GPT %s cannot be reached: %s",
                id,
                refused,
                extra={"event": "gpt_unreachable", "gpt": id, "reason": str(refused)},
            )
            if known is not None and not refused.final:
                return known
            with suppress(*REDIS_ERRORS):  # listed or not, it has been refused here
                await self._infos.miss(whose, id)
            # What is wrong with the gateway's own key is not this client's fault.
            ours = self._key and refused.failed.fault == "unauthorized"
            raise error_of(_UNREACHABLE if ours else refused.failed) from None
        with suppress(*REDIS_ERRORS):  # else asked for again next time
            await self._infos.put(whose, id, info)
        return found

    async def keep_asking(self, ids: Sequence[str], retry: float = RETRY) -> None:
        """Know these GPTs at all times. For ever; at once ends without a key to ask with."""
        while self._key:
            for id in ids:
                try:
                    await self.find(id, self._key)
                except UpstreamError:
                    pass  # has been said, and marked
            await asyncio.sleep(retry)

    async def _known(self, whose: str, id: str) -> tuple[Gizmo | None, bool]:
        with suppress(*REDIS_ERRORS, SealError, _RefusedError):
            if known := await self._infos.get(whose, id):
                return _read(known[0]), known[1]
        return None, False

    async def _ask(self, id: str, key: str) -> bytes:
        url = yarl.URL(f"{self._root}/gizmos/{quote(id, safe='')}", encoded=True)
        body = b""
        try:
            async with (
                asyncio.timeout(TIMEOUT),
                self._session.get(
                    url, headers={"Authorization": f"Bearer {key}"}, allow_redirects=False
                ) as response,
            ):
                async for data in response.content.iter_any():
                    body += data
                    if len(body) > _MAX_BYTES:
                        raise _RefusedError("too_large", final=True)
        except (TimeoutError, ValueError) as error:
            raise _RefusedError(type(error).__name__) from None
        except (aiohttp.ClientError, OSError) as error:
            raise _RefusedError(type(error).__name__, _AWAY) from None
        status = response.status
        if status == 200:
            return body
        failed = _UNREACHABLE
        if status == 401:
            judged = judge(status, response.content_type, body)
            failed = judged.failed if isinstance(judged, UpstreamError) else failed
        raise _RefusedError(f"http_{status}", failed, final=status in (401, 403, 404))


def _read(info: bytes) -> Gizmo:
    try:
        return Gizmo(msgspec.json.decode(info, type=_Info).gizmo.id, msgspec.Raw(info))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _RefusedError("no_info") from None
