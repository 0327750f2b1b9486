"""What is known of files that were uploaded for an account, so that none is uploaded twice."""

from __future__ import annotations

from arq.connections import ArqRedis

from wire.jobs import Attachment
from wire.seal import Seal


class UploadedFiles:
    """The upstream's word for each file, in Redis, for `ttl` seconds; never with a `ttl` of 0.

    A file is the same if its bytes, its type and its name are, and only to one bearer: another
    account could not see it. The names in Redis tell neither.
    """

    def __init__(self, redis: ArqRedis, seal: Seal, ttl: float) -> None:
        self._redis = redis
        self._seal = seal
        self._ttl = round(ttl * 1000)

    async def get(self, bearer: str, file: Attachment) -> bytes | None:
        """What `put` was given for this file, None if it was given nothing or that has expired.

        Raises:
            SealError: it cannot be read.
            redis.RedisError: Redis is away; so do the others.
        """
        if not self._ttl:
            return None
        key = self._key(bearer, file)
        box = await self._redis.get(key)
        return None if box is None else self._seal.open(box, key)

    async def put(self, bearer: str, file: Attachment, known: bytes) -> None:
        """Remember something of a file; the time begins anew."""
        if self._ttl:
            key = self._key(bearer, file)
            await self._redis.set(key, self._seal.seal(known, key), px=self._ttl)

    def _key(self, bearer: str, file: Attachment) -> str:
        what = "\n".join((bearer, *file.identity))
        return f"gateway:upload:{self._seal.name('upload', what)}"
