"""The v1 delta encoding: events with changes to an envelope, instead of all of it each time.

A stream has one document per message, an envelope as plain JSON, and operations on it by JSON
pointer (upstream-protocol.md, 6). A field that an operation leaves out is that of the one before.
An invalid operation, or step of a patch, changes nothing.
"""

from __future__ import annotations

import msgspec

from workers.pandora.translate.records import Envelope, Operation

MAX_COPIED = 10_000_000_000
"""Characters that all operations of a stream may copy, about half a second of work.

Each operation on a text copies all of it: small ones on a long text would take the square of their
number. The longest answer of a model, word by word, is a tenth of this."""

MAX_COPIED_AT_ONCE = 100_000_000
"""Characters that one operation, or a patch of many, may copy."""

_PART = 3000
"""Characters that take as long to copy as a part of a message takes to decode."""

_MAX_DOCUMENTS = 1000

_INVALID = (KeyError, IndexError, TypeError, ValueError, OverflowError)
"""Errors of operations that do not fit; msgspec's own are ValueErrors."""


class DeltaError(ValueError):
    """An operation that does not fit its document."""


class TooManyCopiesError(Exception):
    """The operations of a stream copy more than we are willing to."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"operations copy more than {limit} characters")


class Documents:
    """The envelopes of one stream as they are so far."""

    def __init__(self) -> None:
        self._documents: dict[int, object] = {}
        self._path = ""
        self._operation = "add"
        self._count = 0
        self._copied = self._copied_before = 0

    def apply(self, operation: Operation) -> Envelope:
        """The envelope as it is after an operation.

        Raises:
            DeltaError: the operation, or its result, is of no known kind.
            TooManyCopiesError: the operations have copied too much.
        """
        self._copied_before = self._copied
        count = self._count if operation.c is None else operation.c
        whole = isinstance(operation.v, dict) and "message" in operation.v
        if whole and operation.p is None and operation.o is None:
            path, name = "", "add"  # how later messages begin
        else:
            path = self._path if operation.p is None else operation.p
            name = operation.o or self._operation
        self._path, self._operation, self._count = path, name, count
        if count not in self._documents and len(self._documents) >= _MAX_DOCUMENTS:
            raise DeltaError("too many messages")
        try:
            self._documents[count] = self._apply(
                self._documents.get(count), _keys(path), name, operation.v
            )
            envelope = msgspec.convert(self._documents[count], Envelope)
        except _INVALID as error:
            raise DeltaError(name) from error
        self._note_copy(_size(envelope))
        return envelope

    def _note_copy(self, size: int) -> None:
        self._copied += size
        if self._copied > MAX_COPIED:
            raise TooManyCopiesError(MAX_COPIED)
        if self._copied - self._copied_before > MAX_COPIED_AT_ONCE:
            raise TooManyCopiesError(MAX_COPIED_AT_ONCE)

    def _apply(self, document: object, keys: list[str], name: str, value: object) -> object:
        """The document after one operation; it is changed in place where possible."""
        if name == "patch":
            if not isinstance(value, list):
                raise TypeError
            return self._patched(document, keys, value)
        if not keys:
            return self._changed(document, name, value)
        holder = document
        for key in keys[:-1]:
            holder = _inside(holder, key)
        last = keys[-1]
        match holder:
            case dict():
                if name == "remove":
                    del holder[last]
                else:
                    holder[last] = self._changed(holder.get(last), name, value)
            case list():
                at = len(holder) if last == "-" else int(last)
                if name == "remove":
                    del holder[at]
                elif name == "add" or at == len(holder):
                    self._note_copy(len(holder))
                    holder.insert(at, self._changed(None, name, value))
                else:
                    holder[at] = self._changed(holder[at], name, value)
            case _:
                raise TypeError
        return document

    def _patched(self, document: object, keys: list[str], steps: list[object]) -> object:
        path, name = "", ""
        for given in steps:
            try:
                step = msgspec.convert(given, Operation)
                path = path if step.p is None else step.p
                name = step.o or name
                document = self._apply(document, keys + _keys(path), name, step.v)
            except _INVALID:
                continue
        return document

    def _changed(self, old: object, name: str, value: object) -> object:
        match name, old, value:
            case (("add" | "replace"), _, _):
                return value
            case "append", None, _:
                return value
            case "append", str(), str():
                self._note_copy(len(old))
                return old + value
            case "truncate", str(), int():
                self._note_copy(len(old))
                return old[:value]
            case "append", dict(), dict():
                old.update(value)
            case "append", list(), list():
                old.extend(value)
            case "append", list(), _:
                old.append(value)
            case "truncate", list(), int():
                del old[value:]
            case _:
                raise TypeError
        return old


def _keys(path: str) -> list[str]:
    return [key.replace("~1", "/").replace("~0", "~") for key in path.split("/")[1:]]


def _size(envelope: Envelope) -> int:
    """The characters that are read of a message each time, and those that its parts count for."""
    message = envelope.message
    if message is None or message.content is None:
        return 0
    return len(message.text) + _PART * len(message.content.parts or ())


def _inside(holder: object, key: str) -> object:
    match holder:
        case dict():
            return holder[key]
        case list():
            return holder[int(key)]
        case _:
            raise TypeError
