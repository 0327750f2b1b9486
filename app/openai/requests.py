"""OpenAI's dialect: what clients send and what they get, as types. Pure.

Unknown fields are let through, since clients send many that mean nothing here; a field that is
known but ill-typed is refused with its path.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from app.openai.errors import BadRequest, UnsupportedParameter
from wire.events import Finish
from wire.jobs import Attachment, Message, Role


class TextPart(msgspec.Struct, frozen=True, tag="text"):
    """A piece of text in a list content."""

    text: str


class ImageUrl(msgspec.Struct, frozen=True):
    """Where a picture or file is: an `http(s):` URL, or a `data:` URL that has it."""

    url: str


class ImagePart(msgspec.Struct, frozen=True, tag="image_url"):
    """A picture or file in a list content."""

    image_url: ImageUrl


class AudioPart(msgspec.Struct, frozen=True, tag="input_audio"):
    """Sound in a list content."""


class FileData(msgspec.Struct, frozen=True):
    """A file: its bytes in base64 or as a `data:` URL, or an `http(s):` URL; and its name."""

    file_data: str | None = None
    filename: str | None = None


class FilePart(msgspec.Struct, frozen=True, tag="file"):
    """A file in a list content."""

    file: FileData


class RefusalPart(msgspec.Struct, frozen=True, tag="refusal"):
    """A refusal that an assistant once gave."""

    refusal: str


Part = TextPart | ImagePart | AudioPart | FilePart | RefusalPart


class ChatMessage(msgspec.Struct, frozen=True):
    """One message of the conversation so far."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None


class StreamOptions(msgspec.Struct, frozen=True):
    """What a streamed answer should carry besides."""

    include_usage: bool | None = None


class ResponseFormat(msgspec.Struct, frozen=True):
    """What the answer's text should be."""

    type: Literal["text", "json_object", "json_schema"]


class JsonObject(msgspec.Struct, frozen=True):
    """An object of which it matters only that it is there."""


AtLeastOne = Annotated[int, Meta(ge=1)]
Stop = Annotated[str, Meta(max_length=1000)]


class ChatRequest(msgspec.Struct, frozen=True):
    """The body of `POST /v1/chat/completions`."""

    model: str
    messages: list[ChatMessage]
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    # Where it stands in line: among its key's users, and how urgent it is.
    user: str | None = None
    service_tier: str | None = None

    # What cuts the answer: the gateway does it.
    stop: Stop | Annotated[list[Stop], Meta(max_length=4)] | None = None
    max_tokens: AtLeastOne | None = None
    max_completion_tokens: AtLeastOne | None = None

    # What the upstream knows nothing of; see `unsupported`.
    n: AtLeastOne | None = None
    tools: list[JsonObject] | None = None
    functions: list[JsonObject] | None = None
    tool_choice: Literal["none", "auto", "required"] | JsonObject | None = None
    function_call: Literal["none", "auto"] | JsonObject | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0)] | None = None
    response_format: ResponseFormat | None = None
    modalities: list[str] | None = None
    audio: JsonObject | None = None

    @property
    def stops(self) -> list[str]:
        """The stop sequences; an empty one stops nothing and is left out."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [stop for stop in given if stop]

    @property
    def longest(self) -> int | None:
        """The most tokens that the answer may have: the lesser of both fields."""
        given = [n for n in (self.max_tokens, self.max_completion_tokens) if n is not None]
        return min(given, default=None)

    @property
    def unsupported(self) -> str | None:
        """A field that asks for what the upstream cannot do; None if there is none.

        Values that ask for nothing, which many clients always send, are no matter.
        """
        form = self.response_format
        asks = {
            "n": self.n is not None and self.n > 1,
            "tools": bool(self.tools),
            "functions": bool(self.functions),
            "tool_choice": self.tool_choice not in (None, "none", "auto"),
            "function_call": self.function_call not in (None, "none", "auto"),
            "logprobs": bool(self.logprobs),
            "top_logprobs": bool(self.top_logprobs),
            "response_format": form is not None and form.type != "text",
            "modalities": "audio" in (self.modalities or ()),
            "audio": self.audio is not None,
        }
        return next((name for name, asked in asks.items() if asked), None)

    @property
    def include_usage(self) -> bool:
        """Whether a streamed answer ends with its usage."""
        return bool(self.stream_options and self.stream_options.include_usage)


_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")


class ImagesRequest(msgspec.Struct, frozen=True):
    """The body of `POST /v1/images/generations`."""

    # OpenAI's own limit. A job of images travels through Redis whole.
    prompt: Annotated[str, Meta(max_length=32_000)]
    model: str | None = None
    n: int | None = None
    size: str | None = None
    response_format: Literal["url", "b64_json"] | None = None
    user: str | None = None

    @property
    def wish(self) -> str:
        """The prompt, with the one of DALL-E's sizes that comes nearest to what was asked for."""
        shape = _SIZE.fullmatch(self.size or "")
        if shape is None:
            return self.prompt
        width, height = int(shape[1]), int(shape[2])
        long = "1792x1024" if width > height else "1024x1792"
        size = "1024x1024" if width == height else long
        return f"{self.prompt}\n\nSize: {size}"


class DrawnImage(msgspec.Struct, frozen=True, omit_defaults=True):
    """One image of an answer."""

    url: str | None = None
    b64_json: str | None = None
    revised_prompt: str | None = None


class ImagesAnswer(msgspec.Struct, frozen=True):
    """The answer to a request for images. `reply` is all that was said besides."""

    created: int
    data: list[DrawnImage]
    reply: str


T = TypeVar("T")
Body = bytes | bytearray

_decoder = msgspec.json.Decoder(ChatRequest)
_images_decoder = msgspec.json.Decoder(ImagesRequest)
_PATH = re.compile(r" - at `(?:key in )?\$\.?(?P<path>[^`]*)`$")
_MISSING = re.compile(r"missing required field `(?P<name>[^`]*)`")


def decode_chat(body: Body) -> ChatRequest:
    """Decode a chat request.

    Raises:
        BadRequest: it is not JSON, or not of this shape; names the field.
    """
    request = _decode(_decoder, body)
    if not request.messages:
        raise BadRequest("There are no messages.", param="messages")
    return request


def decode_images(body: Body) -> ImagesRequest:
    """Decode a request for images.

    Raises:
        BadRequest: it is not JSON, or not of this shape; names the field.
    """
    request = _decode(_images_decoder, body)
    if not request.prompt.strip():
        raise BadRequest("There is no prompt.", param="prompt")
    if request.size not in (None, "", "auto") and not _SIZE.fullmatch(request.size):
        raise BadRequest("size must be like 1024x1024.", param="size")
    return request


_HALF_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])")


def _decode(decoder: msgspec.json.Decoder[T], body: Body) -> T:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise BadRequest(str(error), param=_param(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if half := _HALF_PAIR.search(body):
            raise BadRequest(
                f"The body has half a character, {half[0].decode()}: a text was cut in the middle"
                " of a surrogate pair."
            ) from None
        raise BadRequest(f"The body is not valid JSON: {error}") from None
    except RecursionError:
        raise BadRequest("The body is nested too deeply.") from None


def _param(complaint: str) -> str | None:
    """The path of the field that a decoder complains of."""
    path, missing = _PATH.search(complaint), _MISSING.search(complaint)
    parts = [path["path"] if path else "", missing["name"] if missing else ""]
    return ".".join(filter(None, parts)) or None


_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    # The upstream knows no tools of the client's; what they said is still part of the talk.
    "tool": "user",
    "function": "user",
}


class GivenFile(msgspec.Struct, frozen=True):
    """A file as a request names it. `param` is the field that has its URL, of whatever kind."""

    param: str
    url: str
    name: str = ""


def given_files(messages: list[ChatMessage]) -> list[GivenFile]:
    """The files of all messages, in order.

    Raises:
        BadRequest: a part can be no file, or is sound, which the upstream cannot hear.
    """
    return [
        _given(part, path)
        for path, part in _parts(messages)
        if not isinstance(part, TextPart | RefusalPart)
    ]


def to_messages(messages: list[ChatMessage], files: Mapping[str, Attachment]) -> list[Message]:
    """The conversation as a job carries it; messages without content are left out.

    `files` are those of `given_files`, by their `param`.

    Raises:
        BadRequest: nothing is left.
    """
    turns = []
    for index, message in enumerate(messages):
        if message.content is not None:
            turns.append(Message(_ROLES[message.role], _content(message.content, index, files)))
    if not turns:
        raise BadRequest("No message has any content.", param="messages")
    return turns


def _parts(messages: list[ChatMessage]) -> Iterator[tuple[str, Part]]:
    """Every part of a list content, with its path."""
    for index, message in enumerate(messages):
        if isinstance(message.content, list):
            for number, part in enumerate(message.content):
                yield _path(index, number), part


def _path(message: int, part: int) -> str:
    return f"messages[{message}].content[{part}]"


def _given(part: ImagePart | FilePart | AudioPart, path: str) -> GivenFile:
    match part:
        case ImagePart(image_url=ImageUrl(url=url)):
            return GivenFile(f"{path}.image_url.url", url)
        case FilePart(file=FileData(file_data=str(data), filename=name)):
            if not re.match(r"(?i)data:|https?://", data):
                kind = mimetypes.guess_type(name or "")[0] or "application/octet-stream"
                data = f"data:{kind};base64,{data}"
            return GivenFile(f"{path}.file.file_data", data, name or "")
        case FilePart():
            message = "Send the file itself: this gateway keeps no files to be named by an id."
            raise UnsupportedParameter(message, param=f"{path}.file.file_data")
        case AudioPart():
            raise UnsupportedParameter("The upstream takes no sound.", param=path)


def _content(
    content: str | list[Part], index: int, files: Mapping[str, Attachment]
) -> str | list[str | Attachment]:
    """Texts that follow each other become one; a text alone stands for itself."""
    if isinstance(content, str):
        return content
    parts: list[str | Attachment] = []
    for number, part in enumerate(content):
        match part:
            case TextPart(text=text) | RefusalPart(refusal=text):
                if parts and isinstance(parts[-1], str):
                    parts[-1] += f"\n{text}"
                else:
                    parts.append(text)
            case _:
                parts.append(files[_given(part, _path(index, number)).param])
    return parts[0] if len(parts) == 1 and isinstance(parts[0], str) else parts


class Usage(msgspec.Struct, frozen=True):
    """How long the request and the answer are, in tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChunkDelta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a chunk adds to the message."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChunkChoice(msgspec.Struct, frozen=True, kw_only=True):
    """The only choice of a chunk."""

    index: int = 0
    delta: ChunkDelta
    logprobs: None = None
    finish_reason: Finish | None = None


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a streamed answer."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[ChunkChoice]
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET


class CompletionMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class CompletionChoice(msgspec.Struct, frozen=True, kw_only=True):
    """The only choice of a completion."""

    index: int = 0
    message: CompletionMessage
    logprobs: None = None
    finish_reason: Finish


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that is not streamed."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage
    system_fingerprint: str | None


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of `GET /v1/models`."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `GET /v1/models`."""

    object: Literal["list"] = "list"
    data: list[Model]
