"""Lists of inputs to embed, for a server that would take a slot for each of them at once. Pure.

A job holds one slot, so its inputs are sent one after another, and their answers are joined.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from wire.events import Failed
from workers.openai.request import Request
from workers.upstream import BROKEN_OFF, UpstreamError

MOST_INPUTS = 10_000

TOO_MANY = Failed(
    "bad_request",
    f"`input` has more than {MOST_INPUTS} items. Send fewer at a time.",
    status=400,
    kind="invalid_request_error",
    param="input",
)

_Members = dict[str, Raw]
_encode = msgspec.json.Encoder().encode


class _Asked(msgspec.Struct):
    input: list[Raw] = []


class _Answered(msgspec.Struct):
    data: list[_Members]
    usage: dict[str, int] = {}


def each_input(request: Request) -> Iterator[Request]:
    """Return a request for each input, if there are several; else none.

    Raises:
        UpstreamError: there are more than `MOST_INPUTS`.
    """
    try:
        inputs = msgspec.json.decode(request.body, type=_Asked).input
    except msgspec.ValidationError:
        return iter(())  # one text
    if len(inputs) < 2 or bytes(inputs[0])[:1] in b"-0123456789":  # one input, as tokens
        return iter(())
    if len(inputs) > MOST_INPUTS:
        raise UpstreamError(TOO_MANY)
    members = msgspec.json.decode(request.body, type=_Members)
    return (replace(request, body=_encode({**members, "input": [one]})) for one in inputs)


def join_embeddings(answers: Sequence[bytes]) -> bytes:
    """Return the answers to single inputs, in their order, as one. Their usage is summed.

    Raises:
        UpstreamError: one of them is not a list of embeddings.
    """
    try:
        read = [msgspec.json.decode(answer, type=_Answered) for answer in answers]
    except msgspec.ValidationError:
        raise UpstreamError(BROKEN_OFF, passing=True) from None
    data = [item for answer in read for item in answer.data]
    for index, item in enumerate(data):
        item["index"] = Raw(_encode(index))
    members: dict[str, object] = dict(msgspec.json.decode(answers[0], type=_Members))
    members["data"] = data
    if read[0].usage:
        members["usage"] = {
            name: sum(answer.usage.get(name, 0) for answer in read) for name in read[0].usage
        }
    return _encode(members)
