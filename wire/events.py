"""What a worker publishes about a job: neutral events, numbered per job and attempt.

The worker side knows nothing of OpenAI's dialect and the front end nothing of the upstream's;
these types are all they share about an answer.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Finish = Literal["stop", "length", "content_filter"]

Fault = Literal[
    "unauthorized",  # the upstream refused the client's bearer
    "forbidden",  # the upstream refused the account or the address
    "too_long",  # the upstream found the messages too long
    "bad_file",  # the upstream would not take a file of the client's
    "rate_limited",  # the account is over an upstream limit
    "upstream_error",  # the upstream answered with an error, or broke off its answer
    "upstream_down",  # the upstream could not be reached
    "upstream_timeout",  # the upstream did not begin, or went silent
    "cancelled",  # somebody other than this client ended the job
    "waited_too_long",  # nobody's: the job did not begin in time
    "gateway_error",  # our own: a worker died, a bug
    "let_go",  # one front end stopped following the answer, which may go on without it
]
"""Whose fault a failure is. The front end alone knows which HTTP status that makes."""


class Started(msgspec.Struct, frozen=True, array_like=True, tag="started"):
    """The upstream has begun to answer. `model` is its own name for what answers."""

    model: str


Kind = Literal["text", "code", "output"]
"""Prose for the user; what a tool is asked to run, search or draw; what running it printed."""


class Delta(msgspec.Struct, frozen=True, array_like=True, tag="delta"):
    """The next piece of the answer's text, never empty."""

    text: str
    kind: Kind = "text"


class Break(msgspec.Struct, frozen=True, array_like=True, tag="break"):
    """What follows is of the same kind as what came before, but not of the same piece of work."""


class Citation(msgspec.Struct, frozen=True, array_like=True, tag="citation"):
    """A source is named here, in the text. `url` is None if the upstream did not tell which."""

    number: str
    url: str | None


class Drawing(msgspec.Struct, frozen=True, array_like=True, tag="drawing"):
    """Running code displays an image here, in its output; the `Image` itself follows."""


class Image(msgspec.Struct, frozen=True, array_like=True, tag="image"):
    """An image that a tool made, or, without a `url` and a `name`, why it cannot be had.

    `name` is its name in our media store, from which the front end makes the client's address;
    `url` is the upstream's own, where that is handed out. `prompt` is what the upstream drew it
    from. `error` is the upstream's or our own word for what went wrong.
    """

    tool: Literal["dalle", "python"]
    url: str | None
    name: str = ""
    prompt: str | None = None
    error: str | None = None


class File(msgspec.Struct, frozen=True, array_like=True, tag="file"):
    """The address, in the text's parentheses, of a file that a tool made. Fields as in `Image`."""

    url: str | None
    name: str = ""
    error: str | None = None


class Refusal(msgspec.Struct, frozen=True, array_like=True, tag="refusal"):
    """A tool said why it would not do what the model asked of it. The model mostly says so too."""

    message: str


class Asked(msgspec.Struct, frozen=True, array_like=True, tag="asked"):
    """A GPT wants to call an action and was not let: nobody has allowed it."""

    domain: str
    operation: str


class Done(msgspec.Struct, frozen=True, array_like=True, tag="done"):
    """The ending of a whole answer."""

    finish: Finish


class Failed(msgspec.Struct, frozen=True, array_like=True, tag="failed"):
    """The ending of a job that has no whole answer.

    `message` is for the client and may quote the upstream, so it is never logged.
    `code` is the upstream's or our own word for the error; `retry_after` is in seconds.
    """

    fault: Fault
    message: str
    code: str | None = None
    retry_after: float | None = None


Event = (
    Started | Delta | Break | Citation | Drawing | Image | File | Refusal | Asked | Done | Failed
)
Ending = Done | Failed

UNNUMBERED = -1


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """Consecutive events of one attempt of one job.

    `first` is the number of the first event, counted from 0 in each attempt. It is `UNNUMBERED`
    for an ending that somebody other than the attempt's worker published, who cannot know how far
    it came: what was said before it is in the log.
    """

    job: str
    attempt: int
    first: int
    events: list[Event]


_encoder = msgspec.msgpack.Encoder()
_frame_decoder = msgspec.msgpack.Decoder(list[Batch])


def encode_frame(batches: list[Batch]) -> bytes:
    """Batches as they travel over a channel and stand in a log, still to be sealed."""
    return _encoder.encode(batches)


def decode_frame(frame: bytes) -> list[Batch]:
    """The inverse of `encode_frame`.

    Raises:
        msgspec.MsgspecError: the bytes are no frame of this version.
    """
    return _frame_decoder.decode(frame)
