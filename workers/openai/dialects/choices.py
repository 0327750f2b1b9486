"""The part that chat completions and completions have in common: choices, finishes and usage.

The hot path: one decoding of a message to its members, one of its choices, and one encoding
without the members that the front end replaces. Texts are not decoded at all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import msgspec
from msgspec import Raw

from wire.events import Piece
from workers.http.sse import ServerSentEvent
from workers.openai.dialects.dialect import (
    DONE,
    FAILING,
    NULL,
    read_error,
    read_text,
    says,
)
from workers.openai.error_object import TOO_LARGE, ErrorObject


class Choice(msgspec.Struct, gc=False):
    """The members of a choice that every dialect with choices has."""

    index: int | None = 0
    finish_reason: str | None = None


C = TypeVar("C", bound=Choice)

_decode = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode

_NO_CHOICES = Raw(b"[]")

_LARGE = 64 * 1024
MAX_VALUES = 50_000
"""Objects, lists and members, about, of a large message: they are read in one turn of the loop."""


class Choices(ABC, Generic[C]):
    """A `Dialect` whose messages have `choices`. `asked`: the number that was asked for."""

    def __init__(self, decoder: msgspec.json.Decoder[list[C] | None], asked: int) -> None:
        self.model = ""
        self.said = False
        self.finished = False
        self.ended = False
        self.usage = b""
        self._asked = asked
        self._spoken: set[int] = set()
        self._finished: set[int] = set()
        self._decode_choices = decoder.decode

    @abstractmethod
    def _says(self, choice: C) -> bool:
        """Return True if a choice says something."""

    def read(self, message: ServerSentEvent) -> Piece | ErrorObject | None:
        """See `Dialect`."""
        data = message.data
        if data == DONE:
            self.ended = True
            return None
        if len(data) > _LARGE and _count_values(data) > MAX_VALUES:
            return ErrorObject(TOO_LARGE, is_json=True)
        fields = _decode(data)
        if "error" in fields and says(fields["error"]):
            return read_error(data)
        fields.pop("id", None)
        fields.pop("created", None)
        model = fields.pop("model", NULL)
        if not self.model:
            self.model = read_text(model)
        raw = fields.get("choices")
        choices = self._decode_choices(raw) if raw is not None else None
        if not choices or self.finished:
            return self._read_the_rest(data, fields)
        fresh = False
        for choice in choices:
            index = choice.index or 0
            if index in self._finished:
                continue  # the first finish counts: TabbyAPI repeats it next to the usage
            fresh = True
            self._spoken.add(index)
            if choice.finish_reason:
                if choice.finish_reason in FAILING:
                    return ErrorObject(kind=choice.finish_reason, is_json=True)
                self._finish(index)
            elif not self.said and self._says(choice):
                self.said = True
        if fresh:
            return Piece(_encode(fields))
        self._note_usage(fields)
        return None

    def complete(self) -> Piece | None:
        """See `Dialect`."""
        return None

    def _finish(self, index: int) -> None:
        self.said = True
        self._finished.add(index)
        self.finished = len(self._finished) >= self._asked and self._spoken <= self._finished

    def _read_the_rest(self, data: bytes, fields: dict[str, Raw]) -> Piece | ErrorObject | None:
        """Read a message without choices, or one that comes when all choices are finished."""
        kind = fields.get("object")
        if kind is not None and bytes(kind) == b'"error"':
            return read_error(data)
        if self._note_usage(fields) or self.finished or not fields:
            return None
        return Piece(_encode(fields))

    def _note_usage(self, fields: dict[str, Raw]) -> bool:
        """Keep a message that is only there for the usage."""
        if not says(fields.get("usage", NULL)):
            return False
        self.usage = _encode({**fields, "choices": _NO_CHOICES})
        return True


def _count_values(data: bytes) -> int:
    return data.count(b"{") + data.count(b"[") + data.count(b'":')
