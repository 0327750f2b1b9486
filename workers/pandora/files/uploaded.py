"""Files that have been uploaded for an account, remembered so that none is uploaded twice."""

from __future__ import annotations

import contextlib

import msgspec

from wire.jobs import Attachment
from wire.media_types import PICTURES
from wire.redis.client import Redis
from wire.redis.outage import REDIS_ERRORS
from wire.seal import Seal, SealError


class Uploaded(msgspec.Struct, frozen=True):
    """A file in the upstream's own terms. `type` is "" for a type that it does not read itself.

    A picture has a width and a height, a document the number of its tokens, if that is known.
    """

    id: str
    name: str
    type: str
    size: int
    width: int = 0
    height: int = 0
    tokens: int | None = None

    @property
    def is_picture(self) -> bool:
        """True if the model looks at it, as opposed to reading it."""
        return self.type in PICTURES


class UploadedFiles:
    """Uploaded files in Redis, each for `ttl` seconds; none with a `ttl` of 0.

    A file is the same if its bytes, its type and its name are, and only for one bearer: another
    account could not see it. The keys in Redis reveal none of these. Best effort: without Redis
    nothing is known, and a file is uploaded again.
    """

    def __init__(self, redis: Redis, seal: Seal, ttl: float) -> None:
        self._redis = redis
        self._seal = seal
        self._ttl = round(ttl * 1000)

    async def get(self, bearer: str, file: Attachment) -> Uploaded | None:
        """The file as it was uploaded before; None if it was not, or its time is over."""
        if not self._ttl:
            return None
        key = self._key(bearer, file)
        with contextlib.suppress(*REDIS_ERRORS, SealError, msgspec.MsgspecError):
            if sealed := await self._redis.get(key):
                return msgspec.json.decode(self._seal.open(sealed, key), type=Uploaded)
        return None

    async def put(self, bearer: str, file: Attachment, uploaded: Uploaded) -> None:
        """Remember an uploaded file; its time begins anew."""
        if not self._ttl:
            return
        key = self._key(bearer, file)
        sealed = self._seal.seal(msgspec.json.encode(uploaded), key)
        with contextlib.suppress(*REDIS_ERRORS):
            await self._redis.set(key, sealed, px=self._ttl)

    def _key(self, bearer: str, file: Attachment) -> str:
        identity = "\n".join((bearer, *file.identity))
        return f"gateway:upload:{self._seal.name('upload', identity)}"
