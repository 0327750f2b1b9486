"""A job: one accepted request, as the front end hands it to the workers."""

from __future__ import annotations

from typing import Literal

import msgspec

from wire import VERSION

Lane = Literal["chat", "images"]
Role = Literal["system", "user", "assistant"]
Family = Literal["gpt_4_s", "gpt_4_mobile", "gpt_3_5", "gpt_4_gizmo"]
"""What kind of model answers; `gpt_4_gizmo` is a GPT, which the job names."""


class Message(msgspec.Struct, frozen=True, array_like=True):
    """One turn of the conversation so far."""

    role: Role
    text: str


class ChatJob(msgspec.Struct, frozen=True, array_like=True, tag="chat"):
    """A chat request, ready for any upstream.

    Carries the bearer and the prompt in the clear, so it crosses Redis only sealed.
    `version` comes first, so that a worker of another version can tell. `copies` asks for images to
    be put into our media store even where the upstream's own addresses are handed out.
    """

    version: int
    id: str
    family: Family
    bearer: str
    messages: list[Message]
    copies: bool = False
    gpt: str = ""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(ChatJob)


def encode_job(job: ChatJob) -> bytes:
    """The job as msgpack, still to be sealed."""
    return _encoder.encode(job)


def decode_job(body: bytes) -> ChatJob:
    """The inverse of `encode_job`.

    Raises:
        msgspec.MsgspecError: the bytes are no job of this version.
    """
    job = _decoder.decode(body)
    if job.version != VERSION:
        raise msgspec.ValidationError(f"job of version {job.version}, this worker speaks {VERSION}")
    return job
