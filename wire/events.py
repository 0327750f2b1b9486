"""Events of an answer: neutral, published by a worker, numbered per job and attempt.

Workers know nothing of OpenAI's dialect, and front ends nothing of the upstream's; these types are
all that they share about an answer.

`gc=False`: they hold nothing but strings and numbers, so the garbage collector need not walk them.
"""

from __future__ import annotations

from typing import Literal, TypeGuard, get_args

import msgspec

Finish = Literal["stop", "length", "content_filter"]

Fault = Literal[
    "unauthorized",  # the upstream refused the client's bearer
    "key_revoked",  # the client's gateway key was revoked
    "forbidden",  # the upstream refused the account or the address
    "too_long",  # the upstream found the messages too long
    "bad_file",  # the upstream refused one of the client's files
    "bad_request",  # the upstream refused the request for another reason of its own
    "rate_limited",  # the account is over an upstream limit
    "upstream_error",  # the upstream answered with an error, or broke off its answer
    "upstream_down",  # the upstream could not be reached
    "upstream_timeout",  # the upstream did not begin in time, or went silent
    "cancelled",  # the job was cancelled, not by this client
    "waited_too_long",  # the job did not begin in time: no fault of either side
    "gateway_error",  # our own fault: a worker died, or a bug
    "reply_abandoned",  # one front end stopped following the answer, which may go on without it
]
"""The side at fault for a failure. Only front ends map it to an HTTP status."""


class Started(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="started"):
    """The upstream has begun to answer. `model` is its own name for the model."""

    model: str


Kind = Literal["text", "code", "output"]
"""Prose for the user; code, query or prompt for a tool; output of running it."""


class Delta(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="delta"):
    """The next piece of the answer's text, never empty."""

    text: str
    kind: Kind = "text"


class Break(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="break"):
    """A new piece of work begins here, of the same kind as the one before."""


class Citation(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="citation"):
    """A source is cited here, in the text. `url` is None if the upstream did not give it."""

    number: str
    url: str | None


class Drawing(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="drawing"):
    """Running code displays an image here, in its output; the `Image` itself follows."""


class Image(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="image"):
    """An image that a tool made, or, without a `url` and a `name`, the error that prevented it.

    `name` is its name in our media store, from which the front end makes the URL for the client;
    `url` is the upstream's own, if clients get that. `prompt` is the prompt of the drawing tool.
    `error` is the upstream's or our own code for the failure.
    """

    tool: Literal["dalle", "python"]
    url: str | None
    name: str = ""
    prompt: str | None = None
    error: str | None = None


class File(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="file"):
    """URL, inside parentheses of the text, of a file that a tool made. Fields as in `Image`."""

    url: str | None
    name: str = ""
    error: str | None = None


class Refusal(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="refusal"):
    """A tool's reason for refusing the model's call. The model mostly repeats it in its answer."""

    message: str


class Asked(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="asked"):
    """A GPT asked to call an action, which was denied because it is not in the allowed list."""

    domain: str
    operation: str


FormatProblem = Literal[
    "invalid_json",  # it is not JSON
    "schema_mismatch",  # it is JSON that is not valid against the schema
    "not_checked",  # it may be valid
]


class FormatMissed(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="format_missed"):
    """The answer is not known to have the JSON format that was asked for, even after a correction.

    `reason` is for the client and may quote the answer, so it is never logged.
    """

    problem: FormatProblem
    reason: str


class Piece(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="piece"):
    """One message of an answer that is relayed as its server wrote it: the SSE message's `data`.

    `name` is the message's event name, if it has one. In the dialects of chat completions and
    completions, the members `id`, `created` and `model` are left out of the JSON.
    """

    data: bytes
    name: str = ""


class Done(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="done"):
    """The ending of a complete answer."""

    finish: Finish


class Complete(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="complete"):
    """The ending of a complete relayed answer, whose pieces say why it ended.

    `usage` is the message, in the form of a `Piece`, that only tells the usage, b"" if there was
    none. Not every client asked for it. `pause`: seconds for which the account has used up a limit.
    """

    usage: bytes = b""
    pause: float = 0.0


class Failed(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="failed"):
    """The ending of a job without a complete answer.

    `message` is for the client and may quote the upstream, so it is never logged.
    `code` is the upstream's or our own code for the error; `retry_after` is in seconds. `status`,
    `kind` (its type) and `param` are those of an error that is relayed as the upstream wrote it.
    """

    fault: Fault
    message: str
    code: str | None = None
    retry_after: float | None = None
    status: int = 0
    kind: str | None = None
    param: str | None = None


Event = (
    Started
    | Delta
    | Break
    | Citation
    | Drawing
    | Image
    | File
    | Refusal
    | Asked
    | FormatMissed
    | Piece
    | Done
    | Complete
    | Failed
)
Ending = Done | Complete | Failed
_ENDINGS = frozenset(get_args(Ending))


def is_ending(event: Event | None) -> TypeGuard[Ending]:
    """Return True for an ending. Runs for every token.

    `isinstance` takes ten times as long to see that a struct is *not* of a type.
    """
    return type(event) in _ENDINGS


OVERHEAD = 64
"""Bytes that an event counts besides its text, so that many small ones are bounded, too."""


def size_of(event: Event) -> int:
    """Return about as many bytes as an event takes."""
    if type(event) is Delta:
        return OVERHEAD + len(event.text)
    if type(event) is Piece:
        return OVERHEAD + len(event.data)
    fields = msgspec.structs.astuple(event)
    return OVERHEAD + sum(len(field) for field in fields if isinstance(field, str | bytes))


UNNUMBERED = -1


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """Consecutive events of one attempt of one job.

    `first` is the number of the first event, counted from 0 in each attempt. It is `UNNUMBERED`
    for an ending that another process than the attempt's worker published, since only the worker
    knows the number: the events before it are in the log. `tokens`, with an ending, are those of
    the request and of the answer.
    """

    job: str
    attempt: int
    first: int
    events: list[Event]
    tokens: tuple[int, int] | None = None


_encoder = msgspec.msgpack.Encoder()
_frame_decoder = msgspec.msgpack.Decoder(list[Batch])


def encode_frame(batches: list[Batch]) -> bytes:
    """Encode batches for a channel or a log. The result still has to be sealed."""
    return _encoder.encode(batches)


def decode_frame(frame: bytes) -> list[Batch]:
    """Decode the result of `encode_frame`.

    Raises:
        msgspec.MsgspecError: not a frame of this version.
    """
    return _frame_decoder.decode(frame)
