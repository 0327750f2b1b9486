"""Commands to a worker about the attempts it holds, published by the scripts on its channel.

Delivery: at most once, and perhaps before the worker has received the claim that they refer to.
A lost `Cancel` is repeated as a verdict at the next renewal; a front end whose `Attach` is lost
reads the job's log.
"""

from __future__ import annotations

import msgspec


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag="cancel"):
    """Stop an attempt and finish its job. `revoked`: since its key was revoked."""

    job: str
    attempt: int
    revoked: bool = False


class Attach(msgspec.Struct, frozen=True, array_like=True, tag="attach"):
    """Publish an attempt's events to one more front end from now on."""

    job: str
    attempt: int
    front_end: str


Command = Cancel | Attach

_decoder: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)


def decode_command(message: bytes) -> Command:
    """Decode a message on a worker's channel.

    Raises:
        msgspec.MsgspecError: not a command of this version.
    """
    return _decoder.decode(message)
