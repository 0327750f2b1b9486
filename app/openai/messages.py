"""Messages of a chat request: their roles, texts and files, as a job carries them. Pure."""

from __future__ import annotations

import mimetypes
import re
import sys
from collections.abc import Iterator, Mapping
from itertools import chain, groupby

import msgspec

from app.openai.errors import BadRequest, UnsupportedParameter
from app.openai.file_text import FileText
from app.openai.requests import (
    AnyPart,
    AudioPart,
    ChatMessage,
    FileData,
    FilePart,
    ImagePart,
    ImageUrl,
    Part,
    RefusalPart,
    ResultPart,
    TextPart,
)
from app.openai.tools import names_of_calls, render_calls, result_tags
from wire.jobs import Attachment, Message, Role

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    # The upstream has no tools of the client's own; see `tools.py`.
    "tool": "user",
    "function": "user",
}
_RESULTS = ("tool", "function")


class GivenFile(msgspec.Struct, frozen=True):
    """A file in a request. `param` is the path of the field that holds it.

    `source` is a URL, or bare base64 if `base64_type`, the media type of its content, is set.
    """

    param: str
    source: FileText
    name: str = ""
    base64_type: str | None = None


def given_files(messages: list[ChatMessage]) -> list[GivenFile]:
    """Return the files of all messages, in order.

    Raises:
        BadRequest: a part is not a file, or is audio, which the upstream does not support.
    """
    return [
        _given(part, path)
        for path, part in _parts(messages)
        if not isinstance(part, TextPart | RefusalPart)
    ]


def to_messages(messages: list[ChatMessage], files: Mapping[str, Attachment]) -> list[Message]:
    """Convert the conversation to the form that a job carries; skip messages without content.

    `files` are those of `given_files`, by their `param`.

    Raises:
        BadRequest: no message has any content.
    """
    turns = []
    names: dict[str, str] = {}
    for index, message in enumerate(messages):
        names.update(names_of_calls(message.calls))
        if message.content is not None or message.calls or message.role in _RESULTS:
            content = _content(message, index, files, names)
            turns.append(Message(_ROLES[message.role], _with_tools(message, content, names)))
    if not turns:
        raise BadRequest("At least one message must have content.", param="messages")
    return turns


def memory(messages: list[ChatMessage]) -> int:
    """Return the bytes that the texts of messages take: up to four times those of their JSON."""
    size = 0
    for message in messages:
        size += sys.getsizeof(message.content)
        for _, part in _parts([message]):
            size += sys.getsizeof(part.text if isinstance(part, TextPart) else part)
        size += sum(sys.getsizeof(call.function.arguments) for call in message.calls)
        size += sum(sys.getsizeof(call.custom.input) for call in message.calls if call.custom)
    return size


def _parts(messages: list[ChatMessage]) -> Iterator[tuple[str, Part]]:
    """Every part of every list of content parts, with its path."""
    for index, message in enumerate(messages):
        if isinstance(message.content, list):
            for number, part in enumerate(message.content):
                path = _path(message, index, number)
                if isinstance(part, ResultPart):
                    yield from _inner(part, path)
                else:
                    yield path, part


def _inner(result: ResultPart, path: str) -> Iterator[tuple[str, Part]]:
    for number, part in enumerate(result.parts):
        yield f"{path}.content[{number}]", part


def _path(message: ChatMessage, index: int, part: int) -> str:
    """Path of a part, which each dialect renames: a tool's result has a field of its own."""
    field = "output" if message.role in _RESULTS else "content"
    return f"messages[{index}].{field}[{part}]"


def _given(part: ImagePart | FilePart | AudioPart, path: str) -> GivenFile:
    param = _param(part, path)
    match part:
        case ImagePart(image_url=url):
            return GivenFile(param, url.url if isinstance(url, ImageUrl) else FileText(url))
        case FilePart(file=FileData(file_data=FileText() as data, filename=name)):
            is_url = re.match(r"(?i)data:|https?://", data.start)
            kind = mimetypes.guess_type(name or "")[0] or "application/octet-stream"
            return GivenFile(param, data, name or "", None if is_url else kind)
        case FilePart():
            message = "`file_id` is not supported. Send the file's content in `file_data`."
            raise UnsupportedParameter(message, param=param)
        case AudioPart():
            message = "Audio input is not supported. Remove the `input_audio` part."
            raise UnsupportedParameter(message, param=param)


def _param(part: ImagePart | FilePart | AudioPart, path: str) -> str:
    match part:
        case ImagePart(image_url=str()):
            return f"{path}.image_url"
        case ImagePart():
            return f"{path}.image_url.url"
        case FilePart():
            return f"{path}.file.file_data"
        case AudioPart():
            return path


Content = str | list[str | Attachment]


def _content(
    message: ChatMessage, index: int, files: Mapping[str, Attachment], names: Mapping[str, str]
) -> Content:
    """Join adjacent texts, each run once: appending text by text would be quadratic.

    A single text is not wrapped in a list.
    """
    content = message.content or ""
    if isinstance(content, str):
        return content
    joined: list[str | Attachment] = []
    given = chain.from_iterable(
        _texts_and_files(part, _path(message, index, at), files, names)
        for at, part in enumerate(content)
    )
    for is_text, run in groupby(given, lambda part: isinstance(part, str)):
        parts = list(run)
        joined += ["\n".join(map(str, parts))] if is_text else parts
    return joined[0] if len(joined) == 1 and isinstance(joined[0], str) else joined


def _with_tools(message: ChatMessage, content: Content, names: Mapping[str, str]) -> Content:
    """Add the calls that a message makes, or the tags of the result that it is."""
    if message.role in _RESULTS:
        name = names.get(message.tool_call_id or "", message.name or "")
        opening, closing = result_tags(name)
        if isinstance(content, str):
            return f"{opening}\n{content}\n{closing}"
        return [opening, *content, closing]
    if not message.calls:
        return content
    calls = render_calls(message.calls)
    if isinstance(content, str):
        return f"{content}\n\n{calls}" if content else calls
    return [*content, calls]


def _texts_and_files(
    part: AnyPart, path: str, files: Mapping[str, Attachment], names: Mapping[str, str]
) -> list[str | Attachment]:
    """Return one part, or those of a tool's result between its tags."""
    if not isinstance(part, ResultPart):
        return [_text_or_file(part, path, files)]
    name = names.get(part.tool_use_id, "")
    opening, closing = result_tags(name, is_error=bool(part.is_error))
    inside = [_text_or_file(inner, its_path, files) for its_path, inner in _inner(part, path)]
    return [opening, *inside, closing]


def _text_or_file(part: Part, path: str, files: Mapping[str, Attachment]) -> str | Attachment:
    match part:
        case TextPart(text=text) | RefusalPart(refusal=text):
            return text
        case _:
            return files[_param(part, path)]
