"""Bodies of requests that are relayed: the few fields that the gateway reads. Pure.

All others are the server's business, whatever they are: they are neither decoded nor checked. A
body is bounded as any other is (`app/openai/bounds.py`), so that it stops no event loop.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from msgspec import Meta

from app.openai.bounds import MOST_PARTS
from app.openai.errors import BadRequest, UnsupportedParameter
from app.openai.file_text import RELAYED_FILES, Body
from app.openai.requests import AtLeastOne, Name, StreamOptions, decode_body
from wire.jobs import ApiPath, Sort

_TEXT_OR_LIST = re.compile(rb'\s*["\[]')
_LIST = re.compile(rb"\s*\[")
_NULL = msgspec.Raw(b"null")
_LIST_OF_TOKENS = re.compile(rb"\s*\[\s*-?\d")


RawList = Annotated[msgspec.Raw, Meta(extra_json_schema={"type": "array"})]


class RelayedRequest(msgspec.Struct, frozen=True):
    """The fields of every dialect. `stream` is null or missing for a whole answer."""

    model: Name
    stream: bool | None = None
    user: Name | int | None = None
    service_tier: Name | None = None
    # llama.cpp takes these in every dialect.
    n: AtLeastOne | None = None
    n_cmpl: AtLeastOne | None = None
    best_of: AtLeastOne | None = None

    @property
    def is_streamed(self) -> bool:
        """True if the client wants a stream."""
        return bool(self.stream)

    @property
    def include_usage(self) -> bool:
        """True if the client wants the token usage at the end of the stream."""
        return False

    @property
    def user_name(self) -> str | int | None:
        """The client's own name for its user."""
        return self.user

    @property
    def prompts(self) -> int:
        """Number of prompts that are answered at once."""
        return 1

    @property
    def choices(self) -> int:
        """Number of choices in the answer."""
        return max(self.n or 1, self.n_cmpl or 1) * self.prompts

    @property
    def slots(self) -> int:
        """Number of choices that are made at once, each in a slot of its own."""
        return max(self.choices, (self.best_of or 1) * self.prompts)

    def check(self) -> None:
        """Check the other fields.

        Raises:
            BadRequest: one of them asks for something that cannot be relayed; the error names it.
        """


class _Optioned(RelayedRequest, frozen=True):
    stream_options: StreamOptions | None = None

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


class RelayedChat(_Optioned, frozen=True, kw_only=True):
    """The fields of `POST /v1/chat/completions` that the gateway reads."""

    messages: RawList

    def check(self) -> None:
        _check_list(self.messages, "messages")


class RelayedCompletion(_Optioned, frozen=True):
    """The fields of `POST /v1/completions` that the gateway reads."""

    prompt: msgspec.Raw = msgspec.Raw(b'""')

    @property
    def prompts(self) -> int:
        return _count_prompts(self.prompt)

    def check(self) -> None:
        _count_prompts(self.prompt)


class RelayedResponse(RelayedRequest, frozen=True):
    """The fields of `POST /v1/responses` that the gateway reads."""

    background: bool | None = None
    safety_identifier: Name | None = None

    @property
    def user_name(self) -> str | int | None:
        return self.safety_identifier if self.user is None else self.user

    def check(self) -> None:
        if self.background:
            message = "`background` is not supported. Send the request with `stream` instead."
            raise UnsupportedParameter(message, param="background")


class RelayedMetadata(msgspec.Struct, frozen=True):
    """Data about the request."""

    user_id: Name | None = None


class RelayedMessage(RelayedRequest, frozen=True, kw_only=True):
    """The fields of `POST /v1/messages` that the gateway reads."""

    messages: RawList
    metadata: RelayedMetadata | None = None

    @property
    def user_name(self) -> str | int | None:
        return self.metadata.user_id if self.metadata else None

    def check(self) -> None:
        _check_list(self.messages, "messages")


class RelayedCount(RelayedMessage, frozen=True, kw_only=True):
    """The fields of `POST /v1/messages/count_tokens` that the gateway reads."""

    system: msgspec.Raw = _NULL
    tools: msgspec.Raw = _NULL

    @property
    def has_tools(self) -> bool:
        """True if there are definitions of tools."""
        return _LIST.match(self.tools) is not None

    @property
    def is_streamed(self) -> bool:
        return False


class RelayedEmbeddings(RelayedRequest, frozen=True, kw_only=True):
    """The fields of `POST /v1/embeddings` that the gateway reads."""

    input: Annotated[msgspec.Raw, Meta(extra_json_schema={"type": ["string", "array"]})]

    @property
    def is_streamed(self) -> bool:
        return False

    def check(self) -> None:
        if not _TEXT_OR_LIST.match(self.input):
            raise BadRequest("`input` must be a string or a list.", param="input")


BODIES: dict[ApiPath, type[RelayedRequest]] = {
    "chat/completions": RelayedChat,
    "completions": RelayedCompletion,
    "responses": RelayedResponse,
    "messages": RelayedMessage,
    "messages/count_tokens": RelayedCount,
    "embeddings": RelayedEmbeddings,
}

ID_PREFIXES: dict[ApiPath, str] = {
    "chat/completions": "chatcmpl-",
    "completions": "cmpl-",
    "responses": "resp_",
    "messages": "msg_",
    "embeddings": "embd-",
}
"""Beginning of the ids of the answers on each path."""


def sort_of(path: ApiPath) -> Sort:
    """Return the sort of the jobs of a path."""
    return "embeddings" if path == "embeddings" else "chat"


def decode_relayed(path: ApiPath, body: Body) -> RelayedRequest:
    """Decode the fields of a request that the gateway reads.

    Raises:
        BadRequest: the body is not JSON, or one of these fields is not of its type.
        BodyTooLarge: it is too large apart from its files.
    """
    request = decode_body(BODIES[path], body, RELAYED_FILES)
    request.check()
    return request


def _check_list(value: msgspec.Raw, field: str) -> None:
    if not _LIST.match(value):
        raise BadRequest(f"`{field}` must be a list.", param=field)


def _count_prompts(prompt: msgspec.Raw) -> int:
    """Return the number of prompts in a field that may be a text, tokens, or a list of those."""
    if not _LIST.match(prompt) or _LIST_OF_TOKENS.match(prompt):
        return 1
    try:
        return max(1, len(msgspec.json.decode(prompt, type=_Prompts)))
    except msgspec.ValidationError:
        raise BadRequest(f"`prompt` has more than {MOST_PARTS} items.", param="prompt") from None


_Prompts = Annotated[list[msgspec.Raw], Meta(max_length=MOST_PARTS)]
