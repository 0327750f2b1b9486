"""Requests of `POST /v1/responses`, as the chats that they ask for.

Each item of the input becomes one message, after that of the instructions, so that their paths
correspond: `input[2].content[0]` is `messages[3].content[0]`. Messages without content are skipped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from app.openai.bounds import MOST_MESSAGES, MOST_PARTS, MOST_TOOLS
from app.openai.errors import BadRequest, ItemNotFound, UnsupportedParameter
from app.openai.file_text import RESPONSES_FILES, Body, FileText
from app.openai.requests import (
    AllowedTools,
    AnyPart,
    AssistantCall,
    AtLeastOne,
    AudioPart,
    ChatMessage,
    ChatRequest,
    CustomCall,
    FileData,
    FilePart,
    FunctionCall,
    FunctionName,
    ImagePart,
    ImageUrl,
    JsonSchemaFormat,
    Name,
    NamedTool,
    Part,
    RefusalPart,
    ResponseFormat,
    StreamOptions,
    TextPart,
    ToolChoice,
    Tools,
    decode_body,
    invalid_field,
)
from app.openai.tool_definitions import qualified_name

_ABSENT, _NULL = msgspec.Raw(), msgspec.Raw(b"null")


class InputPart(msgspec.Struct, frozen=True):
    """A part of an item's content: a text, a picture or a file."""

    type: str
    text: str = ""
    refusal: str = ""
    image_url: FileText | None = None
    file_data: FileText | None = None
    file_url: FileText | None = None
    filename: str | None = None


InputParts = Annotated[list[InputPart], Meta(max_length=MOST_PARTS)]


class InputItem(msgspec.Struct, frozen=True):
    """One item of the input: a message, a function call, or its result."""

    type: str = "message"
    role: Literal["user", "assistant", "system", "developer"] = "user"
    content: str | InputParts | None = None
    id: str | None = None
    call_id: str | None = None
    name: str = ""
    namespace: str | None = None
    arguments: str | None = None
    input: str = ""
    tools: Tools = []
    output: str | InputParts = ""


class ResponsesRequest(msgspec.Struct, frozen=True):
    """The body of `POST /v1/responses`."""

    model: Name
    input: str | Annotated[list[InputItem], Meta(max_length=MOST_MESSAGES)]
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: AtLeastOne | None = None
    user: Name | int | None = None
    safety_identifier: Name | None = None
    service_tier: Name | None = None
    tools: Tools | None = None
    tool_choice: msgspec.Raw = _ABSENT
    parallel_tool_calls: bool | None = None
    text: msgspec.Raw = _ABSENT
    metadata: msgspec.Raw = _ABSENT
    store: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0)] | None = None

    # Only items are stored, not whole responses; see `_STATEFUL`.
    previous_response_id: str | None = None
    conversation: msgspec.Raw = _ABSENT
    prompt: msgspec.Raw = _ABSENT
    background: bool | None = None


class _Tool(msgspec.Struct, frozen=True):
    type: str


class _AllowedTool(msgspec.Struct, frozen=True):
    name: Name = ""


class _ToolChoice(msgspec.Struct, frozen=True):
    type: str
    name: Name = ""
    mode: Literal["auto", "required"] = "auto"
    tools: Annotated[list[_AllowedTool], Meta(max_length=MOST_TOOLS)] = []


class _TextFormat(msgspec.Struct, frozen=True):
    type: Literal["text", "json_object", "json_schema"] = "text"
    name: Name = ""
    description: str | None = None
    schema: msgspec.Raw = _ABSENT


class _TextOptions(msgspec.Struct, frozen=True):
    format: _TextFormat | None = None


Choice = Literal["none", "auto", "required"] | _ToolChoice | None
_kinds = msgspec.json.Decoder(_Tool)
_texts = msgspec.json.Decoder(_TextOptions)
_choices: msgspec.json.Decoder[Choice] = msgspec.json.Decoder(Choice)

_STATEFUL = {
    "previous_response_id": "Send the whole conversation in `input`.",
    "conversation": "Send the whole conversation in `input`.",
    "prompt": "Send its text in `instructions`.",
    "background": "Stream the response, or wait for it.",
}
_MESSAGE = re.compile(r"^messages\[(\d+)\](.*)$")
_PATHS = (
    (re.compile(r"^messages$"), "input"),
    (re.compile(r"^(tools\[\d+\])\.(?:function|custom)\b"), r"\1"),
    (re.compile(r"^response_format\.json_schema\b"), "text.format"),
    (re.compile(r"^response_format$"), "text.format"),
)


def field(path: str) -> str:
    """Return the name that a field of a chat request has here, or the path of it."""
    if message := _MESSAGE.match(path):
        path = f"input[{int(message[1]) - 1}]{message[2]}"
    for pattern, name in _PATHS:
        path = pattern.sub(name, path)
    path = path.removesuffix(".image_url.url") + ".image_url" * path.endswith(".image_url.url")
    return path.removesuffix(".file.file_data")


def decode_responses(body: Body) -> ResponsesRequest:
    """Decode a request.

    Raises:
        BadRequest: the body is invalid, or needs an earlier response; the error names the field.
    """
    request = decode_body(ResponsesRequest, body, RESPONSES_FILES)
    for name, advice in _STATEFUL.items():
        if getattr(request, name) not in (None, False, "", _ABSENT, _NULL):
            message = f"`{name}` is not supported by this gateway. {advice}"
            raise UnsupportedParameter(message, param=name)
    if not request.input:
        raise BadRequest("`input` must not be empty.", param="input")
    return request


def references(request: ResponsesRequest) -> dict[str, str]:
    """Return the ids of the items that a request refers to, and the paths of the references.

    Raises:
        BadRequest: two references are the same, or one has no id.
    """
    found: dict[str, str] = {}
    for at, item in enumerate(request.input):
        if isinstance(item, InputItem) and item.type == "item_reference":
            path = f"input[{at}]"
            if not item.id:
                raise BadRequest(f"Missing required parameter: '{path}.id'.", param=f"{path}.id")
            if item.id in found:
                message = f"Duplicate item found with id '{item.id[:100]}'. Remove duplicate items."
                raise BadRequest(message, param=path)
            found[item.id] = path
    return found


def to_chat(request: ResponsesRequest, stored: Mapping[str, ChatMessage] = {}) -> ChatRequest:
    """Return the chat that a request asks for. `stored` are the items that it refers to.

    Raises:
        BadRequest: an item, a part, a tool or the format is invalid.
        ItemNotFound: an item that it refers to is not stored.
    """
    return ChatRequest(
        model=request.model,
        messages=_messages(request, stored),
        stream=request.stream,
        stream_options=StreamOptions(include_usage=True),
        user=request.safety_identifier if request.user is None else request.user,
        service_tier=request.service_tier,
        max_completion_tokens=request.max_output_tokens,
        tools=_tools(request) or None,
        tool_choice=_tool_choice(request.tool_choice),
        parallel_tool_calls=request.parallel_tool_calls,
        response_format=_format(request.text),
        top_logprobs=request.top_logprobs,
    )


def _messages(request: ResponsesRequest, stored: Mapping[str, ChatMessage]) -> list[ChatMessage]:
    instructions = ChatMessage("system", request.instructions or None)
    if isinstance(request.input, str):
        return [instructions, ChatMessage("user", request.input)]
    items = enumerate(request.input)
    messages = (_message(item, f"input[{at}]", stored) for at, item in items)
    return _joined([instructions, *messages])


def _joined(messages: list[ChatMessage]) -> list[ChatMessage]:
    """Make the calls that follow a message of the assistant a part of it, as a chat has them.

    The items of the calls stay as empty messages, so that paths still correspond.
    """
    joined: list[ChatMessage] = []
    calls: list[AssistantCall] | None = None  # those of the assistant's latest message
    for message in messages:
        if message.role != "assistant":
            calls = None
        elif message.content is None and calls is not None:
            calls += message.calls
            message = ChatMessage("assistant")
        elif message.content is not None or message.calls:
            calls = list(message.calls)
            message = replace(message, tool_calls=calls)
        joined.append(message)
    return joined


def _message(item: InputItem, path: str, stored: Mapping[str, ChatMessage]) -> ChatMessage:
    match item.type:
        case "message":
            return ChatMessage(item.role, _content(item.content, f"{path}.content"))
        case "function_call":
            name = qualified_name(item.name, item.namespace)
            call = AssistantCall(item.call_id, FunctionCall(name, item.arguments))
            return ChatMessage("assistant", tool_calls=[call])
        case "custom_tool_call":
            name = qualified_name(item.name, item.namespace)
            call = AssistantCall(item.call_id, custom=CustomCall(name, item.input))
            return ChatMessage("assistant", tool_calls=[call])
        case "function_call_output" | "custom_tool_call_output":
            output = _content(item.output, f"{path}.output")
            return ChatMessage("tool", output, tool_call_id=item.call_id)
        case "reasoning":
            return ChatMessage("assistant")  # skipped, since it has no content
        case "additional_tools":
            return ChatMessage("system")  # skipped as well; see `_tools`
        case "item_reference":
            return _referred(item.id or "", path, stored)
        case other:
            message = f"Items of type `{other[:50]}` are not supported."
            raise UnsupportedParameter(message, param=path)


def _referred(id: str, path: str, stored: Mapping[str, ChatMessage]) -> ChatMessage:
    if id not in stored:
        raise ItemNotFound(
            f"Item with id '{id[:100]}' not found. Items are stored for a limited time, and only if"
            " `store` is not false. Send the item itself instead of a reference.",
            param=path,
        )
    return stored[id]


def _content(content: str | list[InputPart] | None, path: str) -> str | list[AnyPart] | None:
    if not isinstance(content, list):
        return content
    return [_part(part, f"{path}[{at}]") for at, part in enumerate(content)]


def _part(part: InputPart, path: str) -> Part:
    match part:
        case InputPart(type="input_text" | "output_text" | "text"):
            return TextPart(part.text)
        case InputPart(type="refusal"):
            return RefusalPart(part.refusal)
        case InputPart(type="input_image", image_url=FileText() as url):
            return ImagePart(ImageUrl(url))
        case InputPart(type="input_file", file_data=FileText() as data):
            return FilePart(FileData(data, part.filename))
        case InputPart(type="input_file", file_url=FileText() as url):
            return FilePart(FileData(url, part.filename))
        case InputPart(type="input_audio"):
            return AudioPart()
        case InputPart(type="input_image" | "input_file"):
            message = "`file_id` is not supported. Send the file's content or its URL."
        case _:
            message = f"Parts of type `{part.type[:50]}` are not supported."
    raise UnsupportedParameter(message, param=path)


def _tools(request: ResponsesRequest) -> list[msgspec.Raw]:
    """Return the tools of a request, then those that it adds within the input, as Codex does."""
    tools = [_nested(raw, f"tools[{at}]") for at, raw in enumerate(request.tools or ())]
    for number, item in enumerate(request.input):
        if isinstance(item, InputItem) and item.type == "additional_tools":
            path = f"input[{number}].tools"
            tools += [_nested(raw, f"{path}[{at}]") for at, raw in enumerate(item.tools)]
    return tools


def _nested(raw: msgspec.Raw, path: str) -> msgspec.Raw:
    """Return the definition of a tool as a chat has it: a function is inside of its tool."""
    match _decode(raw, _kinds, path).type:
        case "function":
            return msgspec.Raw(b'{"type":"function","function":' + bytes(raw) + b"}")
        case "custom":
            return msgspec.Raw(b'{"type":"custom","custom":' + bytes(raw) + b"}")
        case _:
            return raw


def _tool_choice(raw: msgspec.Raw) -> Literal["none", "auto", "required"] | ToolChoice | None:
    if raw in (_ABSENT, _NULL):
        return None
    choice = _decode(raw, _choices, "tool_choice")
    if not isinstance(choice, _ToolChoice):
        return choice
    if choice.type in ("function", "custom"):
        return ToolChoice(FunctionName(choice.name))
    if choice.type == "allowed_tools":
        tools = [NamedTool(FunctionName(tool.name)) for tool in choice.tools if tool.name]
        return ToolChoice(allowed_tools=AllowedTools(tools, choice.mode))
    return ToolChoice()  # refused, as in a chat


def _format(raw: msgspec.Raw) -> ResponseFormat | None:
    if raw in (_ABSENT, _NULL):
        return None
    form = _decode(raw, _texts, "text").format
    if form is None:
        return None
    schema = JsonSchemaFormat(form.name, form.description, form.schema)
    return ResponseFormat(form.type, schema if form.type == "json_schema" else None)


T = TypeVar("T")


def _decode(raw: msgspec.Raw, decoder: msgspec.json.Decoder[T], path: str) -> T:
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise invalid_field(str(error), path) from None
