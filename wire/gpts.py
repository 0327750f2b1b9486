"""What is known of the operator's GPTs: workers find it out, front ends list what can be reached.

The info about a GPT belongs to whoever asked for it: the gateway's own key (`EVERYBODY`), or the
bearer of one client, who may see GPTs that others may not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from wire.redis.client import Redis
from wire.seal import Seal

EVERYBODY = ""
"""Whose info it is when the gateway has a key of its own to ask with."""

KEPT = 24 * 3600.0
"""Seconds for which an info is kept beyond its refreshing, should the upstream not answer."""

MISSED = 180.0
"""Seconds for which a GPT that could not be reached is left out; it is asked for in between."""


class GptInfos:
    """The infos in Redis; they are to be asked for again after `refresh` seconds."""

    def __init__(self, redis: Redis, seal: Seal, refresh: float) -> None:
        self._redis = redis
        self._seal = seal
        self._kept = round(KEPT * 1000)
        self._refresh = round(refresh * 1000)

    async def get(self, whose: str, id: str) -> tuple[bytes, bool] | None:
        """The JSON that the upstream gave, and whether it is still fresh.

        Raises:
            SealError: it cannot be read.
            redis.RedisError: Redis is away; so do the others.
        """
        key = self._key("gpt", whose, id)
        pipeline: Any = self._redis.pipeline(transaction=False)
        box, left = await pipeline.get(key).pttl(key).execute()
        if box is None:
            return None
        return self._seal.open(box, key), left > self._kept

    async def put(self, whose: str, id: str, info: bytes) -> None:
        """Keep an info: the GPT can be reached."""
        key = self._key("gpt", whose, id)
        pipeline: Any = self._redis.pipeline()
        pipeline.set(key, self._seal.seal(info, key), px=self._kept + self._refresh)
        await pipeline.delete(self._key("gpt-missed", whose, id)).execute()

    async def miss(self, whose: str, id: str) -> None:
        """Say that a GPT cannot be reached."""
        pipeline: Any = self._redis.pipeline()
        pipeline.set(self._key("gpt-missed", whose, id), b"", px=round(MISSED * 1000))
        await pipeline.delete(self._key("gpt", whose, id)).execute()

    async def missed(self, bearer: str, ids: Iterable[str]) -> set[str]:
        """Those of some GPTs that could not be reached, for everybody or with this bearer."""
        looked = [(id, whose) for id in ids for whose in dict.fromkeys((EVERYBODY, bearer))]
        if not looked:
            return set()
        keys = [self._key("gpt-missed", whose, id) for id, whose in looked]
        found = await self._redis.mget(keys)
        return {id for (id, _), mark in zip(looked, found, strict=True) if mark is not None}

    def _key(self, kind: str, whose: str, id: str) -> str:
        return f"gateway:{kind}:{self._seal.name('gpt', f'{whose}:{id}')}"
