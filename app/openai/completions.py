"""The dialect of `POST /v1/completions`: the prompt is one message of a user. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from app.openai.answers import FinishName, QueuePlace, Usage
from app.openai.bounds import MOST_PARTS, MOST_STOPS
from app.openai.chunks import fingerprint
from app.openai.dialect import Answer, DecodedRequest, Dialect, RenderOptions
from app.openai.errors import ApiError, BadRequest, JobFailed, UnsupportedParameter
from app.openai.file_text import Body
from app.openai.reading import AnswerReader, FinishReason
from app.openai.requests import (
    AtLeastOne,
    ChatMessage,
    ChatRequest,
    Name,
    Stop,
    StreamOptions,
    decode_body,
)
from app.openai.sse import DONE, encode, sse_message
from wire.events import Event, Started


class CompletionRequest(msgspec.Struct, frozen=True):
    """The body of `POST /v1/completions`."""

    model: Name
    prompt: str | Annotated[list[str | int | list[int]], Meta(max_length=MOST_PARTS)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Name | int | None = None
    service_tier: Name | None = None
    stop: Stop | Annotated[list[Stop], Meta(max_length=MOST_STOPS)] | None = None
    max_tokens: AtLeastOne | None = None

    # Not supported; see `_decode`.
    n: AtLeastOne | None = None
    best_of: AtLeastOne | None = None
    echo: bool | None = None
    suffix: str | None = None
    logprobs: Annotated[int, Meta(ge=0)] | None = None

    @property
    def unsupported(self) -> str | None:
        """The first field that asks for something that is not supported, or None."""
        asked = {
            "n": (self.n or 1) > 1,
            "best_of": (self.best_of or 1) > 1,
            "echo": self.echo,
            "suffix": self.suffix,
            "logprobs": self.logprobs is not None,
        }
        return next((name for name in asked if asked[name]), None)


class TextChoice(msgspec.Struct, frozen=True, kw_only=True):
    """The only choice: a piece of the text, or all of it."""

    index: int = 0
    text: str
    logprobs: None = None
    finish_reason: FinishName | None


class TextCompletion(msgspec.Struct, frozen=True, kw_only=True):
    """A completion, or one chunk of it."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[TextChoice]
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET
    queue: QueuePlace | msgspec.UnsetType = msgspec.UNSET


class TextAnswer(Answer):
    """One completion, as far as its events have been received."""

    def __init__(
        self,
        id: str,
        model: str,
        created: int,
        reader: AnswerReader,
        options: RenderOptions = RenderOptions(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(id, reader, options)
        self._begun = False
        self._head = TextCompletion(
            id=id, model=model, created=created, system_fingerprint=None, choices=[]
        )

    @property
    def begun(self) -> bool:
        """True once something has been rendered, or skipped for a client that resumes."""
        return self._begun

    def add(self, events: Iterable[Event]) -> bytes:
        """Add events, and return the SSE messages that show them to a streaming client."""
        rendered = b""
        for event in events:
            if isinstance(event, Started):
                self._head = msgspec.structs.replace(
                    self._head, system_fingerprint=fingerprint(event.model)
                )
            text = "".join(str(piece) for piece in self._reader.add(event))
            if text or self.finish:
                self._begun = True
                rendered += self._messages.next(self._chunk(text, self.finish))
            if self.finish:
                return rendered
            if self._reader.failed is not None:
                self.failure = JobFailed(self._reader.failed)
                rendered += self.error(self.failure)
        return rendered

    def empty_delta(self, place: QueuePlace | None) -> bytes:
        """Render a chunk without text as a keep-alive; `place` while the job is waiting."""
        self._begun = True
        chunk = msgspec.structs.replace(self._chunk(""), queue=place or msgspec.UNSET)
        return sse_message(chunk)

    def error(self, failure: ApiError) -> bytes:
        """Render an error in the middle of a stream, which then ends without `[DONE]`."""
        error = COMPLETIONS.renamed(failure).object
        if not self._options.errors_as_text:
            return sse_message(error)
        text = f"\n\nError: {error.error.message}"
        return sse_message(self._chunk(text if self.text else text.lstrip())) + sse_message(error)

    def ending(self, usage: Usage | None) -> bytes:
        """Render the end of the stream, with the usage for clients that asked for it."""
        last = msgspec.structs.replace(self._head, usage=usage or msgspec.UNSET)
        return (self._messages.next(last) if usage else b"") + DONE

    def whole(self, usage: Usage) -> bytes:
        """Render the whole answer, as the body of a response."""
        return encode(msgspec.structs.replace(self._chunk(self.text, self.finish), usage=usage))

    def _chunk(self, text: str, finish: FinishReason | None = None) -> TextCompletion:
        choice = TextChoice(text=text, finish_reason=finish)
        usage = None if self._options.include_usage else msgspec.UNSET
        return msgspec.structs.replace(self._head, choices=[choice], usage=usage)


def _decode(body: Body) -> DecodedRequest:
    request = decode_body(CompletionRequest, body)
    if name := request.unsupported:
        message = f"`{name}` is not supported with this value. Remove it."
        raise UnsupportedParameter(message, param=name)
    chat = ChatRequest(
        model=request.model,
        messages=[ChatMessage("user", _prompt(request))],
        stream=request.stream,
        stream_options=request.stream_options,
        user=request.user,
        service_tier=request.service_tier,
        stop=request.stop,
        max_tokens=request.max_tokens,
    )
    return DecodedRequest(lambda _: chat, TextAnswer)


def _prompt(request: CompletionRequest) -> str:
    match request.prompt:
        case str(text) | [str(text)] if text:
            return text
        case "" | [""] | []:
            raise BadRequest("`prompt` must not be empty.", param="prompt")
        case [str(), *_]:
            message = "Several prompts are not supported. Send one request for each."
        case _:
            message = "A prompt of tokens is not supported. Send its text."
    raise UnsupportedParameter(message, param="prompt")


def _field(path: str) -> str:
    return "prompt" if path.startswith("messages") else path


COMPLETIONS = Dialect("cmpl-", _decode, _field)
"""The dialect of `POST /v1/completions`."""
