"""Requests of `POST /v1/messages`, as the chats that they ask for.

Each message becomes one message of the chat, after that of `system`, and each block one part of it,
so that their paths correspond. Paths of the chat, such as `messages[2].content[0]`, are renamed by
`field`. Errors that are raised here have Anthropic's own paths already: `messages.1.content.0`.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from app.openai.bounds import MOST_MESSAGES, MOST_PARTS, MOST_STOP_SEQUENCES
from app.openai.errors import BadRequest, UnsupportedParameter
from app.openai.file_text import MESSAGES_FILES, Body, FileText, FileTextError
from app.openai.requests import (
    AnyPart,
    AssistantCall,
    AtLeastOne,
    ChatMessage,
    ChatRequest,
    FileData,
    FilePart,
    FunctionCall,
    FunctionName,
    ImagePart,
    ImageUrl,
    JsonSchemaFormat,
    Name,
    Part,
    ResponseFormat,
    ResultPart,
    Stop,
    StreamOptions,
    TextPart,
    ToolChoice,
    Tools,
    decode_body,
    invalid_field,
)
from app.openai.tool_definitions import check_size

_ABSENT = msgspec.Raw()


class TextBlock(msgspec.Struct, frozen=True, tag="text"):
    """A text."""

    text: str


TextBlocks = Annotated[list[TextBlock], Meta(max_length=MOST_PARTS)]


class Source(msgspec.Struct, frozen=True):
    """Source of a picture or document: `base64`, `url`, `text` or `content`."""

    type: str
    media_type: Name = ""
    data: FileText | None = None
    url: FileText | None = None
    content: str | TextBlocks = ""


class Block(msgspec.Struct, frozen=True):
    """A block of a message or of a tool's result."""

    type: str
    text: str = ""
    source: Source | None = None
    title: str | None = None
    id: Name = ""
    name: Name = ""
    input: msgspec.Raw = msgspec.Raw(b"{}")
    tool_use_id: Name = ""
    content: str | Blocks | None = None
    is_error: bool | None = None


Blocks = Annotated[list[Block], Meta(max_length=MOST_PARTS)]


class GivenMessage(msgspec.Struct, frozen=True):
    """One message of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | Blocks


class Metadata(msgspec.Struct, frozen=True):
    """Data about the request."""

    user_id: Name | None = None


class Thinking(msgspec.Struct, frozen=True):
    """Configuration of extended thinking."""

    type: str


class ToolUseChoice(msgspec.Struct, frozen=True):
    """Choice among the tools."""

    type: Literal["auto", "any", "tool", "none"]
    name: Name = ""
    disable_parallel_tool_use: bool | None = None


class OutputFormat(msgspec.Struct, frozen=True):
    """Format of the answer's text."""

    type: Literal["json_schema"]
    schema: msgspec.Raw


class OutputConfig(msgspec.Struct, frozen=True):
    """Configuration of the answer's text."""

    format: OutputFormat | None = None


class MessagesRequest(msgspec.Struct, frozen=True):
    """The body of `POST /v1/messages`, and of `POST /v1/messages/count_tokens`."""

    model: Name
    messages: Annotated[list[GivenMessage], Meta(max_length=MOST_MESSAGES)]
    system: str | TextBlocks | None = None
    max_tokens: AtLeastOne | None = None
    stop_sequences: Annotated[list[Stop], Meta(max_length=MOST_STOP_SEQUENCES)] | None = None
    stream: bool | None = None
    metadata: Metadata | None = None
    service_tier: Name | None = None
    tools: Tools | None = None
    tool_choice: ToolUseChoice | None = None
    output_config: OutputConfig | None = None

    # Without an effect; see `ignored`.
    thinking: Thinking | None = None
    mcp_servers: msgspec.Raw = _ABSENT

    @property
    def ignored(self) -> tuple[str, ...]:
        """The fields that ask for something that is not supported."""
        asked = {
            "thinking": self.thinking is not None and self.thinking.type != "disabled",
            "mcp_servers": bytes(self.mcp_servers) not in (b"", b"null", b"[]"),
        }
        return tuple(name for name in asked if asked[name])


class _Tool(msgspec.Struct, frozen=True):
    type: str | None = None
    name: msgspec.Raw = _ABSENT
    description: msgspec.Raw = msgspec.Raw(b"null")
    input_schema: msgspec.Raw = msgspec.Raw(b"null")


_tools = msgspec.json.Decoder(_Tool)

_PLACE = re.compile(r" - at `[^`]*`$")
_MESSAGE = re.compile(r"^messages\[(\d+)\](.*)$")
_PATHS = (
    (re.compile(r"^(tools\[\d+\])\.function\b"), r"\1"),
    (re.compile(r"^(tools\[\d+\])\.parameters\b"), r"\1.input_schema"),
    (re.compile(r"^response_format\.json_schema\b"), "output_config.format"),
    (re.compile(r"^response_format$"), "output_config.format"),
    (re.compile(r"\.(image_url\.url|file\.file_data)$"), ".source"),
)


def field(path: str) -> str:
    """Return the name that a field of a chat request has here, or the path of it."""
    if message := _MESSAGE.match(path):
        number = int(message[1])
        path = f"messages[{number - 1}]{message[2]}" if number else "system"
    for pattern, name in _PATHS:
        path = pattern.sub(name, path)
    return _dotted(path)


def _dotted(path: str) -> str:
    return re.sub(r"\[(\d+)\]", r".\1", path)


def decode_messages(body: Body) -> MessagesRequest:
    """Decode a request.

    Raises:
        BadRequest: the body is invalid; the error names the field.
    """
    try:
        request = decode_body(MessagesRequest, body, MESSAGES_FILES)
    except BadRequest as failure:
        raise _renamed(failure) from None
    if not request.messages:
        raise BadRequest("`messages` must contain at least one message.", param="messages")
    return request


def _renamed(failure: BadRequest) -> BadRequest:
    """Name the field of a decoder's error as Anthropic does."""
    if failure.param:
        path = _dotted(failure.param)
        failure.args = (_PLACE.sub("", str(failure)).replace(failure.param, path),)
        failure.param = path
    return failure


def to_chat(request: MessagesRequest) -> ChatRequest:
    """Return the chat that a request asks for.

    Raises:
        BadRequest: a block or a tool is invalid or not supported; the error names it.
    """
    choice = request.tool_choice
    return ChatRequest(
        model=request.model,
        messages=_messages(request),
        stream=request.stream,
        stream_options=StreamOptions(include_usage=True),
        user=request.metadata.user_id if request.metadata else None,
        service_tier=request.service_tier,
        stop=request.stop_sequences,
        max_tokens=request.max_tokens,
        tools=_functions(request.tools or []) or None,
        tool_choice=_choice(choice) if choice else None,
        parallel_tool_calls=not (choice and choice.disable_parallel_tool_use),
        response_format=_format(request.output_config),
    )


def _messages(request: MessagesRequest) -> list[ChatMessage]:
    given = enumerate(request.messages)
    system = ChatMessage("system", _joined(request.system or "") or None)
    return [system, *(_message(message, f"messages.{at}.content") for at, message in given)]


def _joined(texts: str | list[TextBlock]) -> str:
    return texts if isinstance(texts, str) else "\n".join(block.text for block in texts)


def _message(message: GivenMessage, path: str) -> ChatMessage:
    if isinstance(message.content, str):
        return ChatMessage(message.role, message.content)
    if message.role != "user":
        return _said(message, path)
    blocks = enumerate(message.content)
    return ChatMessage("user", [_part_or_result(block, f"{path}.{at}") for at, block in blocks])


def _said(message: GivenMessage, path: str) -> ChatMessage:
    """Return a message of the assistant: its texts, then its calls."""
    parts: list[AnyPart] = []
    calls: list[AssistantCall] = []
    for at, block in enumerate(message.content):
        match block:
            case Block(type="tool_use", id=id, name=name, input=input):
                calls.append(AssistantCall(id, FunctionCall(name, bytes(input).decode())))
            case Block(type="thinking" | "redacted_thinking"):
                pass
            case Block():
                parts.append(_part(block, f"{path}.{at}"))
    return ChatMessage(message.role, parts or None, tool_calls=calls)


def _part_or_result(block: Block, path: str) -> AnyPart:
    if block.type != "tool_result":
        return _part(block, path)
    content = block.content
    if isinstance(content, list):
        inner = [_part(part, f"{path}.content.{at}") for at, part in enumerate(content)]
        return ResultPart(block.tool_use_id, inner, block.is_error)
    return ResultPart(block.tool_use_id, content, block.is_error)


def _part(block: Block, path: str) -> Part:
    match block:
        case Block(type="text", text=text):
            return TextPart(text)
        case Block(type="image", source=Source(type="base64", data=FileText() as data) as source):
            return ImagePart(ImageUrl(data.as_data_url(source.media_type)))
        case Block(type="image", source=Source(type="url", url=FileText() as url)):
            return ImagePart(ImageUrl(url))
        case Block(type="document", source=Source() as source):
            return _document(source, block.title, path)
        case Block(type="image"):
            raise _unsupported_source(path)
    message = f"Blocks of type `{block.type[:50]}` are not supported here. Remove it."
    raise UnsupportedParameter(message, param=path)


def _document(source: Source, title: str | None, path: str) -> Part:
    match source:
        case Source(type="base64", data=FileText() as data):
            return FilePart(FileData(data.as_data_url(source.media_type), title))
        case Source(type="url", url=FileText() as url):
            return FilePart(FileData(url, title))
        case Source(type="text", data=FileText() as data):
            return TextPart(_titled(_text(data, path), title))
        case Source(type="content", content=content):
            return TextPart(_titled(_joined(content), title))
    raise _unsupported_source(path)


def _unsupported_source(path: str) -> UnsupportedParameter:
    message = "This `source` is not supported. Send the content as base64, or its URL."
    return UnsupportedParameter(message, param=f"{path}.source")


def _text(data: FileText, path: str) -> str:
    try:
        return "".join(data.slices())
    except FileTextError:
        message = "The text of this document is not valid."
        raise BadRequest(message, param=f"{path}.source") from None


def _titled(text: str, title: str | None) -> str:
    named = f" title={msgspec.json.encode(title).decode()}" if title else ""
    return f"<document{named}>\n{text}\n</document>"


def _functions(tools: list[msgspec.Raw]) -> list[msgspec.Raw]:
    check_size(sum(memoryview(raw).nbytes for raw in tools), "tools")
    return [_function(raw, number) for number, raw in enumerate(tools)]


def _function(raw: msgspec.Raw, number: int) -> msgspec.Raw:
    """Return the definition of a tool as a chat has it; tools that Anthropic runs, by their type.

    They are left out by that; see `app/openai/tool_definitions.py`.
    """
    tool = _decode(raw, _tools, f"tools[{number}]")
    if tool.type not in (None, "custom"):
        return msgspec.Raw(msgspec.json.encode({"type": tool.type}))
    function = {"description": tool.description, "parameters": tool.input_schema}
    if bytes(tool.name):
        function["name"] = tool.name
    return msgspec.Raw(msgspec.json.encode({"type": "function", "function": function}))


def _choice(choice: ToolUseChoice) -> Literal["none", "auto", "required"] | ToolChoice:
    match choice.type:
        case "tool":
            return ToolChoice(FunctionName(choice.name))
        case "any":
            return "required"
        case other:
            return other


def _format(config: OutputConfig | None) -> ResponseFormat | None:
    if config is None or config.format is None:
        return None
    return ResponseFormat("json_schema", JsonSchemaFormat(schema=config.format.schema))


T = TypeVar("T")


def _decode(raw: msgspec.Raw, decoder: msgspec.json.Decoder[T], path: str) -> T:
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise _renamed(invalid_field(str(error), path)) from None
