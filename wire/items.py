"""Items of responses that are stored for a limited time, since later requests may refer to them.

Sealed, and named by its owner and the id of the item, so that another caller does not find them.
All of them together have a maximum size: the oldest ones are removed first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

import settings
from wire.line.scripts import load, modules
from wire.redis.client import Redis
from wire.seal import Seal, SealError

MOST_AT_ONCE = 1 << 20
"""Bytes of the items that end together. Those beyond are not stored: no model writes so much."""

_AT_ONCE = 8
"""Items that are read in one call, so that their size is known before there are many of them."""

_SCRIPTS = Path(__file__).parent / "item_scripts"


class StoredItems:
    """The items in Redis, each for `responses.keep` seconds.

    All methods raise `REDIS_ERRORS` if Redis cannot be used.
    """

    def __init__(self, redis: Redis, seal: Seal, config: settings.Responses) -> None:
        self._redis = redis
        self._seal = seal
        self.lifetime = round(config.keep * 1000)
        """In milliseconds; 0 if no items are stored."""
        self._max_bytes = config.max_bytes
        self._put = load(redis, _SCRIPTS, modules(seal.fingerprint))["put"]
        self._bounds = f"gateway:items:{seal.fingerprint}", f"gateway:item-bytes:{seal.fingerprint}"

    async def put(self, owner: str, items: Mapping[str, bytes]) -> None:
        """Store items by their ids, up to `MOST_AT_ONCE`; their time begins anew."""
        described: list[str | bytes | int] = []
        left = MOST_AT_ONCE
        for id, item in items.items():
            left -= len(item)
            if left < 0:
                break
            key = self._key(owner, id)
            described += key, self._seal.seal(item, key)
        if described:
            await self._put(self._bounds, [self.lifetime, self._max_bytes, *described])

    async def get(self, owner: str, ids: Iterable[str], most: int) -> dict[str, bytes]:
        """Return the items that there are, by their ids; no further ones after `most` bytes."""
        found: dict[str, bytes] = {}
        rest = iter(ids)
        while sum(map(len, found.values())) <= most and (some := list(islice(rest, _AT_ONCE))):
            keys = [self._key(owner, id) for id in some]
            boxes = await self._redis.mget(keys)
            for id, key, box in zip(some, keys, boxes, strict=True):
                if box is not None and (item := self._open(box, key)) is not None:
                    found[id] = item
        return found

    def _open(self, box: bytes, key: str) -> bytes | None:
        try:
            return self._seal.open(box, key)
        except SealError:
            return None  # damaged, and so of no use

    def _key(self, owner: str, id: str) -> str:
        return f"gateway:item:{self._seal.owned('item', owner, id)}"
