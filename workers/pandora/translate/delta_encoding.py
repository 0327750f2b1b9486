"""The v1 delta encoding: events with changes to an envelope, instead of all of it each time.

A stream has one document per message, an envelope as plain JSON, and operations on it by JSON
pointer (upstream-protocol.md, 6). A field that an operation leaves out is that of the one before.
An invalid operation, or step of a patch, changes nothing.
"""

from __future__ import annotations

import msgspec

from workers.pandora.translate.records import Envelope, Operation

_MAX_DOCUMENTS = 1000

_INVALID = (KeyError, IndexError, TypeError, ValueError, OverflowError)
"""Errors of operations that do not fit; msgspec's own are ValueErrors."""


class DeltaError(ValueError):
    """An operation that does not fit its document."""


class Documents:
    """The envelopes of one stream as they are so far."""

    def __init__(self) -> None:
        self._documents: dict[int, object] = {}
        self._path = ""
        self._operation = "add"
        self._count = 0

    def apply(self, operation: Operation) -> Envelope:
        """The envelope as it is after an operation.

        Raises:
            DeltaError: the operation, or its result, is of no known kind.
        """
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
            self._documents[count] = _apply(
                self._documents.get(count), _keys(path), name, operation.v
            )
            return msgspec.convert(self._documents[count], Envelope)
        except _INVALID as error:
            raise DeltaError(name) from error


def _keys(path: str) -> list[str]:
    return [key.replace("~1", "/").replace("~0", "~") for key in path.split("/")[1:]]


def _apply(document: object, keys: list[str], name: str, value: object) -> object:
    """The document after one operation; it is changed in place where possible."""
    if name == "patch":
        if not isinstance(value, list):
            raise TypeError
        return _patched(document, keys, value)
    if not keys:
        return _changed(document, name, value)
    holder = document
    for key in keys[:-1]:
        holder = _inside(holder, key)
    last = keys[-1]
    match holder:
        case dict():
            if name == "remove":
                del holder[last]
            else:
                holder[last] = _changed(holder.get(last), name, value)
        case list():
            at = len(holder) if last == "-" else int(last)
            if name == "remove":
                del holder[at]
            elif name == "add" or at == len(holder):
                holder.insert(at, _changed(None, name, value))
            else:
                holder[at] = _changed(holder[at], name, value)
        case _:
            raise TypeError
    return document


def _patched(document: object, keys: list[str], steps: list[object]) -> object:
    path, name = "", ""
    for given in steps:
        try:
            step = msgspec.convert(given, Operation)
            path = path if step.p is None else step.p
            name = step.o or name
            document = _apply(document, keys + _keys(path), name, step.v)
        except _INVALID:
            continue
    return document


def _inside(holder: object, key: str) -> object:
    match holder:
        case dict():
            return holder[key]
        case list():
            return holder[int(key)]
        case _:
            raise TypeError


def _changed(old: object, name: str, value: object) -> object:
    match name, old, value:
        case (("add" | "replace"), _, _):
            return value
        case "append", None, _:
            return value
        case "append", str(), str():
            return old + value
        case "append", dict(), dict():
            return old | value
        case "append", list(), list():
            return old + value
        case "append", list(), _:
            return [*old, value]
        case "truncate", (str() | list()), int():
            return old[:value]
        case _:
            raise TypeError
