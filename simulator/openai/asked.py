"""Requests in each dialect, decoded to the little that an answer depends on. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar, cast

import msgspec

from simulator.openai.errors import ERRORS, RefusedError, invalid

Schema = Mapping[str, object]
Part = Mapping[str, object]
Content = str | list[dict[str, object]] | None


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request. `must_call` is a function's name, or "" for any, or None.

    `schema` is that of a JSON answer, {} for any object. `number` is that of the answers that are
    wanted, and `limit` the most tokens of each.
    """

    model: str
    stream: bool
    question: str
    prompt_tokens: int
    results: tuple[str, ...] = ()
    functions: dict[str, Schema] = {}
    must_call: str | None = None
    schema: Schema | None = None
    number: int = 1
    limit: int | None = None
    logprobs: bool = False
    usage: bool = False


class Message(msgspec.Struct, frozen=True):
    """A message of a chat, or an item of the Responses API."""

    role: str = ""
    content: Content = None
    type: str = "message"
    output: Content = None


class Tool(msgspec.Struct, frozen=True):
    """A function that may be called, in whichever form a dialect gives it."""

    name: str = ""
    function: dict[str, object] = {}
    parameters: Schema | None = None
    input_schema: Schema | None = None


class StreamOptions(msgspec.Struct, frozen=True):
    """Options of a streamed answer."""

    include_usage: bool = False


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    """The members that all dialects share."""

    model: str = ""
    stream: bool = False
    tools: list[Tool] | None = None
    tool_choice: str | dict[str, object] | None = None

    @property
    def functions(self) -> dict[str, Schema]:
        """The schema of each function's arguments."""
        return dict(map(_function, self.tools or ()))

    @property
    def must_call(self) -> str | None:
        """The function that has to be called, "" for any, None if none has to."""
        choice = self.tool_choice
        if isinstance(choice, str) or choice is None:
            return "" if choice == "required" else None
        if choice.get("type") == "any":
            return ""
        named = cast(Mapping[str, object], choice.get("function", choice))
        return str(named["name"]) if "name" in named else None


class ChatBody(_Body, frozen=True, kw_only=True):
    """Body of `POST /v1/chat/completions`."""

    messages: list[Message]
    stream_options: StreamOptions | None = None
    n: int | None = None
    logprobs: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    response_format: dict[str, object] | None = None


class CompletionBody(_Body, frozen=True, kw_only=True):
    """Body of `POST /v1/completions`."""

    prompt: str | list[str | int]
    stream_options: StreamOptions | None = None
    n: int | None = None
    best_of: int | None = None
    logprobs: int | None = None
    max_tokens: int | None = None


class ResponseBody(_Body, frozen=True, kw_only=True):
    """Body of `POST /v1/responses`."""

    input: str | list[Message]
    text: dict[str, object] | None = None
    max_output_tokens: int | None = None


class MessagesBody(_Body, frozen=True, kw_only=True):
    """Body of `POST /v1/messages`."""

    messages: list[Message]
    system: Content = None
    max_tokens: int | None = None


class EmbeddingsBody(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /v1/embeddings`."""

    input: str | list[str | int | list[int]]
    model: str = ""
    encoding_format: str = "float"
    dimensions: int | None = None


B = TypeVar("B")


def decode(body: bytes, kind: type[B]) -> B:
    """Decode a body. Raises RefusedError (400) if it does not fit."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError(invalid(str(error))) from None


def chat(body: bytes) -> Asked:
    """Read a chat. Raises RefusedError."""
    given = decode(body, ChatBody)
    limit = given.max_completion_tokens
    return Asked(
        model=given.model,
        stream=given.stream,
        question=_question(given.messages),
        prompt_tokens=_tokens(given.messages),
        results=_results(given.messages),
        functions=given.functions,
        must_call=given.must_call,
        schema=_wanted_json(given.response_format, "json_schema"),
        number=given.n or 1,
        limit=given.max_tokens if limit is None else limit,
        logprobs=bool(given.logprobs),
        usage=given.stream_options is not None and given.stream_options.include_usage,
    )


def completion(body: bytes) -> Asked:
    """Read a completion. Raises RefusedError."""
    given = decode(body, CompletionBody)
    prompts = given.prompt if isinstance(given.prompt, list) else [given.prompt]
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    return Asked(
        model=given.model,
        stream=given.stream,
        question=texts[-1] if texts else "",
        prompt_tokens=sum(map(_words, texts)) or len(prompts),
        number=(len(texts) or 1) * max(given.n or 1, given.best_of or 1),
        limit=given.max_tokens,
        logprobs=given.logprobs is not None,
        usage=given.stream_options is not None and given.stream_options.include_usage,
    )


def response(body: bytes) -> Asked:
    """Read a request of the Responses API. Raises RefusedError."""
    given = decode(body, ResponseBody)
    text = isinstance(given.input, str)
    items = [Message("user", given.input)] if isinstance(given.input, str) else given.input
    return Asked(
        model=given.model,
        stream=given.stream,
        question=given.input if isinstance(given.input, str) else _question(items),
        prompt_tokens=_tokens(items),
        results=() if text else _results(items),
        functions=given.functions,
        must_call=given.must_call,
        schema=_wanted_json(cast(Part, (given.text or {}).get("format")), ""),
        limit=given.max_output_tokens,
        usage=True,
    )


def messages(body: bytes) -> Asked:
    """Read a request in Anthropic's dialect. Raises RefusedError."""
    given = decode(body, MessagesBody)
    return Asked(
        model=given.model,
        stream=given.stream,
        question=_question(given.messages),
        prompt_tokens=_tokens(given.messages) + _words(_text(given.system)),
        results=_results(given.messages),
        functions=given.functions,
        must_call=given.must_call,
        limit=given.max_tokens,
        usage=True,
    )


def _function(tool: Tool) -> tuple[str, Schema]:
    named = tool.function or msgspec.structs.asdict(tool)
    schema = named.get("parameters") or tool.input_schema or {}
    return str(named.get("name", "")), cast(Schema, schema)


def _wanted_json(form: Part | None, inner: str) -> Schema | None:
    """Return the schema of a JSON answer, {} for any object, None if text is wanted."""
    if not form or form.get("type") not in ("json_object", "json_schema"):
        return None
    holder = cast(Part, form.get(inner, form)) if inner else form
    return cast(Schema, holder.get("schema") or {})


def _parts(content: Content) -> Iterator[Part]:
    if isinstance(content, str):
        yield {"type": "text", "text": content}
    for part in content if isinstance(content, list) else ():
        if "image" in str(part.get("type")):
            raise RefusedError(ERRORS["image"])
        yield part


def _text(content: Content) -> str:
    return "".join(str(part.get("text", "")) for part in _parts(content))


def _message_results(message: Message) -> Iterator[str]:
    """Yield the results of calls that a message gives, in whichever form its dialect has."""
    if message.role == "tool":
        yield _text(message.content)
    elif message.type == "function_call_output":
        yield _text(message.output)
    for part in _parts(message.content):
        if part.get("type") == "tool_result":
            yield _text(cast(Content, part.get("content")))


def _asked_at(messages: Sequence[Message]) -> int:
    """Return the index of the last question, which gives no results; -1 without one."""
    asked = (
        n
        for n, message in enumerate(messages)
        if message.role == "user" and not any(True for _ in _message_results(message))
    )
    return max(asked, default=-1)


def _question(messages: Sequence[Message]) -> str:
    at = _asked_at(messages)
    return _text(messages[at].content) if at >= 0 else ""


def _results(messages: Sequence[Message]) -> tuple[str, ...]:
    after = messages[_asked_at(messages) + 1 :]
    return tuple(result for message in after for result in _message_results(message))


def _tokens(messages: Iterable[Message]) -> int:
    return sum(_words(_text(message.content)) + 4 for message in messages)


def _words(text: str) -> int:
    return len(text.split())
