"""Commands to a worker, mostly about the attempts it holds, published on its channel by scripts.

Delivery: at most once, and perhaps before the worker has received the claim that they refer to.
A lost `Cancel` is repeated as a verdict at the next renewal; a front end whose `Attach` is lost
reads the job's log. A worker of an older release only logs a command that it does not know.
"""

from __future__ import annotations

import msgspec


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag="cancel"):
    """Stop an attempt and finish its job: since its key was `revoked`, or an operator cancelled it
    (`by_operator`), or no reader is left.
    """

    job: str
    attempt: int
    revoked: bool = False
    by_operator: bool = False


class Attach(msgspec.Struct, frozen=True, array_like=True, tag="attach"):
    """Publish an attempt's events to one more front end from now on."""

    job: str
    attempt: int
    front_end: str


class Drain(msgspec.Struct, frozen=True, array_like=True, tag="drain"):
    """Claim no more jobs, and end when those that run are finished, as after SIGTERM."""


Command = Cancel | Attach | Drain

_decoder: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)


def decode_command(message: bytes) -> Command:
    """Decode a message on a worker's channel.

    Raises:
        msgspec.MsgspecError: not a command of this version.
    """
    return _decoder.decode(message)
