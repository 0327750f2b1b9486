"""Idempotency of requests: the key that names a job, so that a retry is given the same job.

A client that sends an `Idempotency-Key` may repeat its request after its connection broke, and is
attached to the job of its first request. The messages of a streamed answer are numbered (`id:`
lines; see `app/openai/sse.py`), so it may also name the last one it received (`Last-Event-ID`).
Without a key that header is ignored: browsers and SSE libraries send it by themselves.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping

import msgspec

from app.openai.errors import BadRequest
from wire.seal import Seal

LONGEST_KEY = 255
"""Characters."""

_LONG = 64 * 1024
"""Bytes above which decoding a body once more would take too much time and memory."""


class Idempotency(msgspec.Struct, frozen=True):
    """Name that a client gave its job.

    `digest` is the same for the same request, and so reveals a key that is used for another one.
    `resumes`: the client has received a part of the answer, so no other job is of use to it.
    """

    key: str
    digest: str
    resumes: bool = False

    def turn(self, number: int) -> Idempotency:
        """Name one of several turns that a request takes, counted from 0.

        The names of later ones have a line break, which no client's key has.
        """
        if number == 0:
            return self
        return Idempotency(f"{self.key}\n{number}", self.digest)


def key_name(seal: Seal, identity: str, key: str) -> str:
    """Return the name in Redis of a caller's idempotency key."""
    return seal.owned("idempotency", identity, key)


async def read_idempotency(
    headers: Mapping[str, str], path: str, body: bytes | bytearray, seal: Seal
) -> Idempotency | None:
    """Read the `Idempotency-Key` of a request whose body is valid JSON; None without the header.

    Raises:
        BadRequest: the key is not 1 to 255 printable ASCII characters.
    """
    key = headers.get("idempotency-key")
    if key is None:
        return None
    if not (1 <= len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
        message = f"`Idempotency-Key` must be 1 to {LONGEST_KEY} printable ASCII characters."
        raise BadRequest(message, param="Idempotency-Key")
    if len(body) > _LONG:
        digest = await asyncio.to_thread(request_digest, seal, path, body)
    else:
        digest = request_digest(seal, path, body)
    return Idempotency(key, digest, resumes=bool(headers.get("last-event-id")))


def request_digest(seal: Seal, path: str, body: bytes | bytearray) -> str:
    """Return a name for a request that reveals nothing of it and ignores its JSON's formatting.

    A long body is compared byte by byte: a client that repeats one does not format it anew.
    """
    canonical = body
    if len(body) <= _LONG:
        try:
            canonical = msgspec.json.encode(msgspec.json.decode(body), order="sorted")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # invalid in a field that is not read here
    return seal.name("request", f"{path} {hashlib.sha256(canonical).hexdigest()}")
