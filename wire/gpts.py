"""Cached info about the operator's GPTs: workers fetch it, front ends list the reachable GPTs.

The info about a GPT has an owner: the gateway's own key (`EVERYBODY`), or the bearer of one client,
which may see GPTs that others may not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from wire.redis.client import Redis
from wire.seal import Seal

EVERYBODY = ""
"""Owner of cached info that was fetched with the gateway's own key."""

KEPT = 24 * 3600.0
"""Seconds for which info is kept beyond its refresh time, in case the upstream does not answer."""

MISSED = 180.0
"""Seconds for which an unreachable GPT is not listed; workers ask for it again meanwhile."""


class GptInfos:
    """The infos in Redis, which are fresh for `refresh` seconds."""

    def __init__(self, redis: Redis, seal: Seal, refresh: float) -> None:
        self._redis = redis
        self._seal = seal
        self._kept = round(KEPT * 1000)
        self._refresh = round(refresh * 1000)

    async def get(self, owner: str, id: str) -> tuple[bytes, bool] | None:
        """The upstream's JSON, and True if it is still fresh; None if there is no info.

        Raises:
            SealError: the info cannot be read.
            redis.RedisError: Redis is unreachable. All methods raise this.
        """
        key = self._key("gpt", owner, id)
        pipeline: Any = self._redis.pipeline(transaction=False)
        box, left = await pipeline.get(key).pttl(key).execute()
        if box is None:
            return None
        return self._seal.open(box, key), left > self._kept

    async def put(self, owner: str, id: str, info: bytes) -> None:
        """Store the info of a GPT that can be reached."""
        key = self._key("gpt", owner, id)
        pipeline: Any = self._redis.pipeline()
        pipeline.set(key, self._seal.seal(info, key), px=self._kept + self._refresh)
        await pipeline.delete(self._key("gpt-missed", owner, id)).execute()

    async def miss(self, owner: str, id: str) -> None:
        """Record that a GPT cannot be reached."""
        pipeline: Any = self._redis.pipeline()
        pipeline.set(self._key("gpt-missed", owner, id), b"", px=round(MISSED * 1000))
        await pipeline.delete(self._key("gpt", owner, id)).execute()

    async def missed(self, bearer: str, ids: Iterable[str]) -> set[str]:
        """Those of the given GPTs that could not be reached, with our key or with this bearer."""
        candidates = [(id, owner) for id in ids for owner in dict.fromkeys((EVERYBODY, bearer))]
        if not candidates:
            return set()
        keys = [self._key("gpt-missed", owner, id) for id, owner in candidates]
        found = await self._redis.mget(keys)
        return {id for (id, _), mark in zip(candidates, found, strict=True) if mark is not None}

    def _key(self, kind: str, owner: str, id: str) -> str:
        return f"gateway:{kind}:{self._seal.name('gpt', f'{owner}:{id}')}"
