"""Bodies of requests, as OpenAI's types. Pure.

Unknown fields are ignored, since clients send many that mean nothing here. A known field of the
wrong type is refused, and the error names its path; so is one beyond its bound in
`app/openai/bounds.py`.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from app.openai.bounds import (
    LONGEST_NAME,
    LONGEST_STOP,
    MOST_BYTES,
    MOST_MESSAGES,
    MOST_MODALITIES,
    MOST_PARTS,
    MOST_STOPS,
    MOST_TOOLS,
    check_text,
    check_values,
)
from app.openai.errors import BadRequest, UnsupportedParameter
from app.openai.file_text import CHAT_FILES, Body, FileText, cut_files

Name = Annotated[str, Meta(max_length=LONGEST_NAME)]


class TextPart(msgspec.Struct, frozen=True, tag="text"):
    """Text in a list of content parts."""

    text: str


class ImageUrl(msgspec.Struct, frozen=True):
    """Location of a picture or file: an `http(s):` URL, or a `data:` URL with its content."""

    url: FileText


class ImagePart(msgspec.Struct, frozen=True, tag="image_url"):
    """A picture or file in a list of content parts. Some clients send the bare URL."""

    image_url: ImageUrl | str


class AudioPart(msgspec.Struct, frozen=True, tag="input_audio"):
    """Audio in a list of content parts."""


class FileData(msgspec.Struct, frozen=True):
    """A file's name and its content: bare base64, a `data:` URL or an `http(s):` URL."""

    file_data: FileText | None = None
    filename: str | None = None


class FilePart(msgspec.Struct, frozen=True, tag="file"):
    """A file in a list of content parts."""

    file: FileData


class RefusalPart(msgspec.Struct, frozen=True, tag="refusal"):
    """An earlier refusal by the assistant."""

    refusal: str


Part = TextPart | ImagePart | AudioPart | FilePart | RefusalPart
Parts = Annotated[list[Part], Meta(max_length=MOST_PARTS)]


class ResultPart(msgspec.Struct, frozen=True, tag="tool_result"):
    """The result of a tool among the parts of a user's message, as in Anthropic's dialect."""

    tool_use_id: Name
    content: str | Parts | None = None
    is_error: bool | None = None

    @property
    def parts(self) -> list[Part]:
        """The content as parts."""
        return [TextPart(self.content)] if isinstance(self.content, str) else self.content or []


AnyPart = Part | ResultPart


class FunctionCall(msgspec.Struct, frozen=True):
    """A function that the assistant called. `arguments` is JSON, as it wrote it."""

    name: Name = ""
    arguments: str | None = None


class CustomCall(msgspec.Struct, frozen=True):
    """A custom tool that the assistant called. `input` is a free text."""

    name: Name = ""
    input: str = ""


class AssistantCall(msgspec.Struct, frozen=True):
    """A tool that the assistant called."""

    id: Name | None = None
    function: FunctionCall = FunctionCall()
    custom: CustomCall | None = None

    @property
    def called(self) -> FunctionCall:
        """The call as that of a function: the input of a custom tool is its only argument."""
        if self.custom is None:
            return self.function
        arguments = msgspec.json.encode({"input": self.custom.input}).decode()
        return FunctionCall(self.custom.name, arguments)


class ChatMessage(msgspec.Struct, frozen=True):
    """One message of the conversation. A tool's result has the call's id, a function's its name."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[AnyPart], Meta(max_length=MOST_PARTS)] | None = None
    tool_calls: Annotated[list[AssistantCall], Meta(max_length=MOST_TOOLS)] | None = None
    function_call: FunctionCall | None = None
    tool_call_id: Name | None = None
    name: Name | None = None

    @property
    def calls(self) -> list[AssistantCall]:
        """The calls of an assistant, in either dialect."""
        if self.role != "assistant":
            return []
        if self.tool_calls or self.function_call is None:
            return self.tool_calls or []
        return [AssistantCall(function=self.function_call)]


class StreamOptions(msgspec.Struct, frozen=True):
    """Options of a streamed answer."""

    include_usage: bool | None = None


AtLeastOne = Annotated[int, Meta(ge=1)]
Stop = Annotated[str, Meta(max_length=LONGEST_STOP)]
RawObject = Annotated[msgspec.Raw, Meta(extra_json_schema={"type": "object"})]
Tools = Annotated[list[RawObject], Meta(max_length=MOST_TOOLS)]
"""Definitions of tools, decoded only once their size is known to be small (`tools.py`)."""


class JsonSchemaFormat(msgspec.Struct, frozen=True):
    """A schema for the answer, and its name. The schema is decoded in `json_format.py`."""

    name: Name = ""
    description: str | None = None
    schema: msgspec.Raw = msgspec.Raw()


class ResponseFormat(msgspec.Struct, frozen=True):
    """Format of the answer's text."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None


class JsonObject(msgspec.Struct, frozen=True):
    """Any object. Its fields are not read."""


class FunctionName(msgspec.Struct, frozen=True):
    """Name of a function that must be called."""

    name: Name


class NamedTool(msgspec.Struct, frozen=True):
    """Name of a tool that may be called."""

    function: FunctionName | None = None
    custom: FunctionName | None = None


class AllowedTools(msgspec.Struct, frozen=True):
    """Names of the only tools that may be called this time."""

    tools: Annotated[list[NamedTool], Meta(max_length=MOST_TOOLS)]
    mode: Literal["auto", "required"] = "auto"


class ToolChoice(msgspec.Struct, frozen=True):
    """A choice that names tools."""

    function: FunctionName | None = None
    custom: FunctionName | None = None
    allowed_tools: AllowedTools | None = None


class ChatRequest(msgspec.Struct, frozen=True):
    """The body of `POST /v1/chat/completions`."""

    model: Name
    messages: Annotated[list[ChatMessage], Meta(max_length=MOST_MESSAGES)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    # Scheduling: the user among those of the same key, and the priority.
    user: Name | int | None = None
    service_tier: Name | None = None

    # Limits of the answer, enforced by the gateway.
    stop: Stop | Annotated[list[Stop], Meta(max_length=MOST_STOPS)] | None = None
    max_tokens: AtLeastOne | None = None
    max_completion_tokens: AtLeastOne | None = None

    # Emulated, if the operator wants it; see `emulation.py`.
    tools: Tools | None = None
    functions: Tools | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    function_call: Literal["none", "auto"] | FunctionName | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None

    # Not supported by the upstream; see `unsupported`.
    n: AtLeastOne | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0)] | None = None
    modalities: Annotated[list[Name], Meta(max_length=MOST_MODALITIES)] | None = None
    audio: JsonObject | None = None

    @property
    def stops(self) -> list[str]:
        """The stop sequences, without empty ones, which would stop nothing."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [stop for stop in given if stop]

    @property
    def token_limit(self) -> int | None:
        """The maximum number of tokens of the answer: the smaller of both fields."""
        given = [n for n in (self.max_tokens, self.max_completion_tokens) if n is not None]
        return min(given, default=None)

    # Many clients always send such fields with values that ask for nothing; those do not count.

    @property
    def asked_of_tools(self) -> list[str]:
        """The fields that ask for tools."""
        asked = {
            "tools": bool(self.tools),
            "functions": bool(self.functions),
            "tool_choice": self.tool_choice not in (None, "none", "auto"),
            "function_call": self.function_call not in (None, "none", "auto"),
        }
        return [name for name in asked if asked[name]]

    @property
    def asked_of_format(self) -> list[str]:
        """The field that asks for JSON, if it does."""
        asked = self.response_format is not None and self.response_format.type != "text"
        return ["response_format"] if asked else []

    @property
    def unsupported(self) -> list[str]:
        """The other fields that ask for something the upstream does not support."""
        asked = {
            "n": self.n is not None and self.n > 1,
            "logprobs": bool(self.logprobs),
            "top_logprobs": bool(self.top_logprobs),
            "modalities": "audio" in (self.modalities or ()),
            "audio": self.audio is not None,
        }
        return [name for name in asked if asked[name]]

    @property
    def include_usage(self) -> bool:
        """True if the client wants the token usage at the end of the stream."""
        return bool(self.stream_options and self.stream_options.include_usage)


_NULL = msgspec.Raw(b"null")
_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")


class ImagesRequest(msgspec.Struct, frozen=True):
    """The body of `POST /v1/images/generations`."""

    # OpenAI's own limit. An images job is stored in Redis as a whole.
    prompt: Annotated[str, Meta(max_length=32_000)]
    model: Name | None = None
    n: int | None = None
    size: Name | None = None
    response_format: Literal["url", "b64_json"] | None = None
    user: Name | int | None = None

    # Not supported; see `unsupported`.
    stream: bool | None = None
    partial_images: int | None = None
    image: msgspec.Raw = _NULL
    mask: msgspec.Raw = _NULL

    @property
    def wants_base64(self) -> bool:
        """True if the answer has the images themselves. OpenAI's `gpt-image` has no URLs."""
        if self.response_format is None:
            return (self.model or "").startswith(("gpt-image", "chatgpt-image"))
        return self.response_format == "b64_json"

    @property
    def unsupported(self) -> str | None:
        """The first field that asks for something that is not supported, or None."""
        unsupported = {
            "stream": self.stream,
            "partial_images": self.partial_images,
            "image": self.image != _NULL,
            "mask": self.mask != _NULL,
        }
        return next((name for name, asked in unsupported.items() if asked), None)

    @property
    def prompt_with_size(self) -> str:
        """The prompt, followed by the DALL-E size closest to the requested one."""
        requested = _SIZE.fullmatch(self.size or "")
        if requested is None:
            return self.prompt
        width, height = int(requested[1]), int(requested[2])
        oblong = "1792x1024" if width > height else "1024x1792"
        size = "1024x1024" if width == height else oblong
        return f"{self.prompt}\n\nSize: {size}"


T = TypeVar("T")

_IN_A_CHAT = "Send the picture in a message to `/chat/completions`, and ask there for the change."
_IMAGE_ADVICE = {
    "stream": "Remove it; the answer has all images at once.",
    "partial_images": "Remove it; the answer has all images at once.",
    "image": _IN_A_CHAT,
    "mask": _IN_A_CHAT,
}

_PATH = re.compile(r" - at `(?:key in )?\$\.?(?P<path>[^`]*)`$")
_MISSING = re.compile(r"missing required field `(?P<name>[^`]*)`")


def decode_chat(body: Body) -> ChatRequest:
    """Decode a chat request.

    Raises:
        BadRequest: the body is not JSON or not of this type; the error names the field.
    """
    request = decode_body(ChatRequest, body)
    if not request.messages:
        raise BadRequest("`messages` must contain at least one message.", param="messages")
    return request


def decode_images(body: Body) -> ImagesRequest:
    """Decode an image generation request.

    Raises:
        BadRequest: the body is not JSON or not of this type, or asks for something that is not
            supported; the error names the field.
    """
    request = decode_body(ImagesRequest, body)
    if field := request.unsupported:
        message = f"`{field}` is not supported for images. {_IMAGE_ADVICE[field]}"
        raise UnsupportedParameter(message, param=field)
    if not request.prompt.strip():
        raise BadRequest("`prompt` must not be empty.", param="prompt")
    if request.size not in (None, "", "auto") and not _SIZE.fullmatch(request.size):
        raise BadRequest("`size` must have the form `1024x1024`.", param="size")
    return request


_TOO_LONG = re.compile(r"Expected `(?P<kind>array|str)` of length <= (?P<most>\d+)")
_LONGEST_QUOTE = 300
_LONE_SURROGATE = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])")
_BYTE = re.compile(r"\(byte (\d+)\)")
_SURROGATES = 24
"""Bytes of two escapes, twice: a decoder stops near the first one."""


def decode_body(kind: type[T], body: Body, fields: re.Pattern[bytes] = CHAT_FILES) -> T:
    """Decode a body. `fields` are those that may hold long files.

    Raises:
        BadRequest: the body is not JSON or not of this type; the error names the field.
    """
    files: list[FileText] = []
    if len(body) > MOST_BYTES:
        body, files = cut_files(body, fields)
    check_values(body)
    try:
        check_text(body)  # the decoder does not look into a value that is not read here
        return msgspec.json.decode(body, type=kind, dec_hook=partial(_file_text, files))
    except msgspec.ValidationError as error:
        raise invalid_field(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        at = int(found[1]) if (found := _BYTE.search(str(error))) else len(body)
        if lone := _LONE_SURROGATE.search(body, max(0, at - _SURROGATES), at + _SURROGATES):
            raise BadRequest(
                f"The body contains a lone surrogate, {lone[0].decode()}: a text was cut in the"
                " middle of a surrogate pair."
            ) from None
        raise BadRequest(f"The body is not valid JSON: {error}") from None
    except RecursionError:
        raise BadRequest("The body is nested too deeply.") from None


def _file_text(files: list[FileText], _: type, value: object) -> FileText:
    """Return the text of a file: a string, or the number of a file that was cut out.

    A client may send a number itself: it only finds its own files.
    """
    match value:
        case str():
            return FileText(value)
        case int() if 0 <= value < len(files):
            return files[value]
    raise TypeError(f"Expected `str`, got `{type(value).__name__}`")


def invalid_field(message: str, parent: str = "") -> BadRequest:
    """Translate a decoder's error message, which may quote a value of any length.

    `parent` is the path of the field whose value was decoded.
    """
    if len(message) > 2 * _LONGEST_QUOTE:
        message = f"{message[:_LONGEST_QUOTE]}...{message[-_LONGEST_QUOTE:]}"
    param = ".".join(filter(None, (parent, _param(message)))) or None
    if (found := _TOO_LONG.match(message)) is None:
        return BadRequest(message, param=param)
    kind, an_array = ("array", "an array") if found["kind"] == "array" else ("string", "a string")
    failure = BadRequest(
        f"Invalid '{param}': {kind} too long. Expected {an_array} with maximum length"
        f" {found['most']}.",
        param=param,
    )
    failure.code = f"{kind}_above_max_length"
    return failure


def _param(message: str) -> str | None:
    """The path of the field that a decoder's error message names."""
    path, missing = _PATH.search(message), _MISSING.search(message)
    parts = [path["path"] if path else "", missing["name"] if missing else ""]
    return ".".join(filter(None, parts)) or None
