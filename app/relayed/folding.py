"""Folds the pieces of a relayed stream into one body, for a client that does not stream. Pure.

The worker always asks for a stream, since servers notice sooner that a stream was left. The body
has the keys that the server's own would have, also those of fields that are unknown here: in a
message, texts of the same place are joined, lists are merged by the `index` of their items or
appended, and of everything else the last value counts. Each piece is decoded once, and texts are
joined at the end, so the work is linear in the length of the answer.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec

from app.relayed.model_name import with_model
from wire.events import Piece

Object = dict[str, Any]
"""A JSON object of a server: its fields are as many as there are servers."""

_KEPT = frozenset(("role", "id", "type", "name"))
"""Texts of a message that a server may repeat in each piece, instead of continuing them."""

_STEP = 16
"""Items of a list that are encoded at once: each may be as large as a piece."""

_LONG = 1024 * 1024
"""Characters of a text that are encoded at once."""

_CHUNK = ".chunk"
_RESPONSE = "response."
_FINAL = ("response.completed", "response.incomplete")


class UnreadableAnswer(Exception):
    """The server's stream does not make up a body: it is not JSON, or its end is missing."""


class Fold(ABC):
    """The pieces of one answer so far."""

    def add(self, piece: Piece) -> None:
        """Add a piece.

        Raises:
            UnreadableAnswer: see there.
        """
        with _of_any_shape():
            self._add(piece)

    def body(self) -> bytes:
        """Return the whole body. Raises like `add`."""
        with _of_any_shape():
            return self._body()

    @abstractmethod
    def _add(self, piece: Piece) -> None: ...

    @abstractmethod
    def _body(self) -> bytes: ...


@contextmanager
def _of_any_shape() -> Iterator[None]:
    """Treat a server's JSON of another shape than the dialect's as unreadable, wherever it is."""
    try:
        yield
    except (AttributeError, TypeError, RecursionError, msgspec.MsgspecError) as error:
        raise UnreadableAnswer from error


class BodyFold(Fold):
    """Fold of an answer that is not a stream at all: one piece is the body."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._parts: list[bytes] = []

    def _add(self, piece: Piece) -> None:
        self._parts.append(piece.data)

    def _body(self) -> bytes:
        return with_model(b"".join(self._parts), self._model)


class ResponseFold(Fold):
    """Fold of the events of a response, whose last one has the whole response."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._last: Piece | None = None

    def _add(self, piece: Piece) -> None:
        if piece.name in _FINAL or not piece.name.startswith(_RESPONSE):
            self._last = piece

    def _body(self) -> bytes:
        response = _decoded(self._last.data).get("response") if self._last else None
        if not isinstance(response, dict):
            raise UnreadableAnswer
        return with_model(_encoded(response), self._model)


class ChunkFold(Fold):
    """Fold of the chunks of chat completions or completions. `head` begins the body."""

    def __init__(self, head: Object) -> None:
        self._head = head
        self._fields: Object = {}
        self._choices: dict[int, _Choice] = {}

    def _add(self, piece: Piece) -> None:
        chunk = _decoded(piece.data)
        for choice in chunk.pop("choices", None) or []:
            self._choices.setdefault(choice.get("index", 0), _Choice()).add(choice)
        _update(self._fields, chunk)

    def _body(self) -> bytes:
        kind = str(self._fields.pop("object", "")).removesuffix(_CHUNK)
        choices = [self._choices[index].whole(index) for index in sorted(self._choices)]
        body = {**self._head, "object": kind, "choices": choices, **self._fields}
        return _encoded(body)


class MessageFold(Fold):
    """Fold of the events of an Anthropic message."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._message: Object = {}
        self._blocks: dict[int, _Block] = {}

    def _add(self, piece: Piece) -> None:
        event = _decoded(piece.data)
        match event:
            case {"type": "message_start", "message": dict(message)}:
                self._message = message
            case {"type": "content_block_start", "content_block": dict(block)}:
                self._blocks[event.get("index", 0)] = _Block(block)
            case {"type": "content_block_delta", "index": index, "delta": dict(delta)}:
                self._blocks.setdefault(index, _Block({})).add(delta)
            case {"type": "message_delta"}:
                _update(self._message, event.get("delta") or {})
                _update(self._message.setdefault("usage", {}), event.get("usage") or {})

    def _body(self) -> bytes:
        if not self._message:
            raise UnreadableAnswer
        blocks = [self._blocks[index].whole() for index in sorted(self._blocks)]
        return with_model(_encoded({**self._message, "content": blocks}), self._model)


class _Choice:
    """One choice of a completion."""

    def __init__(self) -> None:
        self._fields: Object = {}
        self._message: Object | None = None
        self._text: _Text | None = None

    def add(self, choice: Object) -> None:
        choice.pop("index", None)
        if (delta := choice.pop("delta", None)) is not None:
            self._message = {} if self._message is None else self._message
            for key, value in delta.items():
                self._message[key] = _merged(self._message.get(key), key, value)
        if (text := choice.pop("text", None)) is not None:
            self._text = self._text or _Text()
            self._text.parts.append(text)
        for key, value in choice.items():
            appends = isinstance(value, dict | list)  # logprobs, ids of tokens
            before = self._fields.get(key)
            self._fields[key] = _merged(before, key, value) if appends else _last(before, value)

    def whole(self, index: int) -> Object:
        choice = {"index": index, "finish_reason": None, **_whole_object(self._fields)}
        if self._text is not None:
            choice["text"] = self._text.whole()
        if self._message is not None:
            choice["message"] = _whole_message(self._message)
        return choice


class _Block:
    """One content block of a message."""

    def __init__(self, block: Object) -> None:
        self._block: Object = {}
        self._input = _Text()
        self.add(block)

    def add(self, delta: Object) -> None:
        for key, value in delta.items():
            match key:
                case "partial_json":
                    self._input.parts.append(value)
                case "type":
                    self._block.setdefault(key, value)  # later ones name the kind of delta
                case "citation":
                    self._block["citations"] = _merged(self._block.get("citations"), key, [value])
                case "input":
                    self._block[key] = value
                case _:
                    self._block[key] = _merged(self._block.get(key), key, value)

    def whole(self) -> Object:
        block = _whole_object(self._block)
        if self._input.parts:
            try:
                block["input"] = msgspec.json.decode(_repaired(self._input.whole()))
            except msgspec.DecodeError:
                pass  # cut off by the limit of tokens
        return block


class _Text:
    """A text in parts."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def whole(self) -> str:
        return "".join(self.parts)


class _List:
    """A list in parts; items that have an index are merged by it."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._places: dict[int, int] = {}

    def add(self, items: list[Any]) -> None:
        for item in items:
            match item:
                case {"index": int(index)} if self._continues(index, item):
                    place = self._places[index]
                    self.items[place] = _merged(self.items[place], "", item)
                case {"index": int(index)}:
                    self._places[index] = len(self.items)
                    self.items.append(_merged(None, "", item))
                case dict() | list():  # kept encoded: it takes a fraction of the memory
                    self.items.append(_raw(item))
                case _:
                    self.items.append(item)

    def _continues(self, index: int, item: Object) -> bool:
        """Some servers give each of several calls the index 0, but an id of its own."""
        if index not in self._places:
            return False
        known, id = self.items[self._places[index]].get("id"), item.get("id")
        return not known or not id or known == id


def _merged(before: Any, key: str, value: Any) -> Any:
    """Merge a value of a message into what came before at the same place."""
    match value:
        case str() if key in _KEPT:
            return before or value
        case str():
            text = before if isinstance(before, _Text) else _Text()
            text.parts.append(value)
            return text
        case list():
            items = before if isinstance(before, _List) else _List()
            items.add(value)
            return items
        case dict():
            merged = before if isinstance(before, dict) else {}
            for inner, item in value.items():
                merged[inner] = _merged(merged.get(inner), inner, item)
            return merged
    return _last(before, value)


def _last(before: Any, value: Any) -> Any:
    return before if value is None else value


def _update(before: Object, after: Object) -> None:
    for key, value in after.items():
        before[key] = _last(before.get(key), value)


def _whole(value: Any) -> Any:
    match value:
        case _Text():
            return value.whole()
        case _List():
            return [_whole(item) for item in value.items]
        case dict():
            return _whole_object(value)
    return value


def _whole_object(parts: Object) -> Object:
    return {key: _whole(value) for key, value in parts.items()}


def _whole_message(parts: Object) -> Object:
    message = {"role": "assistant", "content": None, **_whole_object(parts)}
    calls = message.get("tool_calls")
    for call in calls or []:
        if not isinstance(call, msgspec.Raw):  # it had no index
            call.pop("index", None)
    if not message["content"]:
        message["content"] = None if calls or message.get("function_call") else ""
    return message


def _decoded(data: bytes) -> Object:
    try:
        decoded = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            decoded = json.loads(data.decode(errors="replace"))  # takes surrogates
        except ValueError:
            raise UnreadableAnswer from None
    if not isinstance(decoded, dict):
        raise UnreadableAnswer
    return decoded


def _encoded(value: Any) -> bytes:
    """Encode a value in steps, between which other threads run."""
    parts: list[bytes] = []
    _encode(value, parts)
    return b"".join(parts)


def _raw(value: Any) -> msgspec.Raw:
    """Encode a part of one piece."""
    try:
        return msgspec.Raw(msgspec.json.encode(value))
    except UnicodeEncodeError:
        return msgspec.Raw(_encoded(value))


def _encode(value: Any, parts: list[bytes]) -> None:
    match value:
        case dict():
            parts.append(b"{")
            for key, item in value.items():
                parts += (_encoded_text(key), b":")
                _encode(item, parts)
                parts.append(b",")
            _close(parts, b"}")
        case list():
            parts.append(b"[")
            for start in range(0, len(value), _STEP):
                _encode_items(value[start : start + _STEP], parts)
            _close(parts, b"]")
        case str():
            _encode_text(value, parts)
        case _:
            parts.append(msgspec.json.encode(value))


def _encode_items(items: list[Any], parts: list[bytes]) -> None:
    """Encode items of a list, each with a comma behind it; as one, if they are many."""
    if len(items) == _STEP:
        with suppress(UnicodeEncodeError):
            parts += (msgspec.json.encode(items)[1:-1], b",")
            return
    for item in items:
        _encode(item, parts)
        parts.append(b",")


def _close(parts: list[bytes], end: bytes) -> None:
    """End an object or a list, whose last item has a comma behind it."""
    if parts[-1] == b",":
        parts.pop()
    parts.append(end)


def _encode_text(text: str, parts: list[bytes]) -> None:
    parts.append(b'"')
    for start in range(0, len(text), _LONG):
        parts.append(_encoded_text(text[start : start + _LONG])[1:-1])
    parts.append(b'"')


def _encoded_text(text: str) -> bytes:
    try:
        return msgspec.json.encode(text)
    except UnicodeEncodeError:
        return msgspec.json.encode(_repaired(text))


def _repaired(text: str) -> str:
    """Join halves of characters, since some servers cut them in two; replace single ones."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
