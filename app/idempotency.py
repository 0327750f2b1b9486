"""How a client comes back to a job: the key it named the job by, and how far it had come. Pure.

A client that sends an `Idempotency-Key` may ask again after its connection broke, and is given the
job that its first request made. The messages of a streamed answer are numbered (`id:` lines), so
it may also say which it has had (`Last-Event-ID`).
"""

from __future__ import annotations

import hashlib

import msgspec

from app.openai.errors import AnswerLost, BadRequest
from wire.seal import Seal

LONGEST_KEY = 255
"""Characters."""

_LONG = 64 * 1024
"""Bytes above which decoding a body once more would take too much time and memory."""

_TAG = 8
_MOST_DIGITS = 9


class Idempotency(msgspec.Struct, frozen=True):
    """What a client named its job by.

    `digest` tells whether another request under the same key is the same request. `resumes`: it has
    had a part of the answer, and wants no other.
    """

    key: str
    digest: str
    resumes: bool = False

    def turn(self, number: int) -> Idempotency:
        """The name of one of several turns that a request takes, counted from 0."""
        if number == 0:
            return self
        return Idempotency(f"{self.key}#{number}", self.digest)


def idempotency(
    given: str | None,
    seal: Seal,
    path: str,
    body: bytes | bytearray,
    *,
    resumes: bool = False,
) -> Idempotency | None:
    """What a request's `Idempotency-Key` header asks for; None if there is none.

    `body` is the request's, and has been found to be JSON. `resumes`: there is a `Last-Event-ID`.

    Raises:
        BadRequest: the key is not 1 to 255 printable ASCII characters.
    """
    if given is None:
        return None
    if not (1 <= len(given) <= LONGEST_KEY and given.isascii() and given.isprintable()):
        message = f"Idempotency-Key must be 1 to {LONGEST_KEY} printable ASCII characters."
        raise BadRequest(message, param="Idempotency-Key")
    return Idempotency(given, digest(seal, path, body), resumes)


def digest(seal: Seal, path: str, body: bytes | bytearray) -> str:
    """A name for a request that tells nothing of it, the same however its JSON is written.

    A long one is compared as it stands: who sends it again does not write it anew.
    """
    canonical = body
    if len(body) <= _LONG:
        try:
            canonical = msgspec.json.encode(msgspec.json.decode(body), order="sorted")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # odd in a field that nobody reads here
    return seal.name("request", f"{path} {hashlib.sha256(canonical).hexdigest()}")


def tag(job: str) -> str:
    """What the ids of an answer's messages begin with; a job's id ends with random digits."""
    return job.rpartition("-")[2][:_TAG]


def resume_after(given: str | None, job: str) -> int:
    """The number of the last message that the client has had, from `Last-Event-ID`; 0 for none.

    Raises:
        AnswerLost: the header speaks of another answer, or of none.
    """
    if not given:
        return 0
    of, _, number = given.rpartition("-")
    counted = number.isascii() and number.isdigit() and len(number) <= _MOST_DIGITS
    if of != tag(job) or not counted:
        raise AnswerLost
    return int(number)
