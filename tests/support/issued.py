"""Records of issued keys in Redis, as the scripts of the line read them."""

from __future__ import annotations

from typing import Any

import msgspec

from wire.keyring import IssuedKey
from wire.line import keys
from wire.redis.client import Redis


async def issue(redis: Redis, id: str = "0123456789abcdef", **fields: Any) -> str:
    """Store the record of an issued key with no limits but these; return its id."""
    bare = IssuedKey(id=id, sha256=id * 4, name="a bot", created=0)
    await redis.set(keys.issued(id), msgspec.json.encode(bare.changed(fields)))
    return id
