"""The two encodings of events that the server has used: whole events, and v1's differences."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Protocol

from simulator.events import Event

_SHORTEST = 22


class Encoding(Protocol):
    """Encoding of a reply. Events must be encoded in the order in which they are sent."""

    def begin(self) -> bytes:
        """Encode the beginning of a stream."""

    def event(self, event: Event) -> bytes:
        """Encode one event; the result may be empty."""

    def done(self, conversation_id: str) -> bytes:
        """Encode the end of a complete answer."""


class Whole:
    """Encoding of 2023: each event repeats its whole message. Stateless."""

    def __init__(self, *, raw: bool, crlf: bool) -> None:
        self._encode = json.JSONEncoder(ensure_ascii=not raw).encode
        self._end = b"\r\n\r\n" if crlf else b"\n\n"

    def begin(self) -> bytes:
        """Return nothing."""
        return b""

    def event(self, event: Event) -> bytes:
        """Encode the event itself."""
        return b"data: " + self._encode(event).encode() + self._end

    def done(self, conversation_id: str) -> bytes:
        """Encode `[DONE]`."""
        return b"data: [DONE]" + self._end


class V1:
    """Encoding of late 2024: each event has the changes since the one before it.

    A key `p` or `o` is left out if it is the same as in the event before.
    """

    def __init__(self, *, raw: bool, crlf: bool) -> None:
        self._encode = json.JSONEncoder(ensure_ascii=not raw).encode
        self._line = b"\r\n" if crlf else b"\n"
        self._shown: Event | None = None
        self._id: object = None
        self._roots = 0
        self._path: str | None = None
        self._operation: str | None = None

    def begin(self) -> bytes:
        """Encode the event that names the encoding."""
        return b"event: delta_encoding" + self._line + b'data: "v1"' + self._line * 2

    def event(self, event: Event) -> bytes:
        """Encode the difference to the event before, or the whole event if it has no message."""
        message = event.get("message")
        if not isinstance(message, dict):
            typed = {"type": "moderation"} | event if "moderation_response" in event else event
            return self._data(typed)
        before, self._shown = self._shown, event
        if before is None or message.get("id") != self._id:
            self._id = message.get("id")
            return self._root(event)
        changes = list(differences("", before, event))
        if not changes:
            return b""
        patch: Event = {"p": "", "o": "patch", "v": changes}
        change = changes[0] if len(changes) == 1 else patch
        path, operation = str(change["p"]), str(change["o"])
        if path == self._path:
            del change["p"]
        if operation == self._operation:
            del change["o"]
        self._path, self._operation = path, operation
        return self._delta(change)

    def done(self, conversation_id: str) -> bytes:
        """Encode the typed end, an empty data line as recorded, and `[DONE]`."""
        end: Event = {"type": "message_stream_complete", "conversation_id": conversation_id}
        two = self._line * 2
        return self._data(end) + b"data: " + two + b"data: [DONE]" + two

    def _root(self, event: Event) -> bytes:
        """Encode a new message: the first is marked as added, later ones only have a new `c`."""
        how = {} if self._roots else {"p": "", "o": "add"}
        # Readers disagree about the last path after this, so the next event names its own.
        self._path = self._operation = None
        self._roots += 1
        return self._delta({**how, "v": event, "c": self._roots - 1})

    def _delta(self, value: Event) -> bytes:
        return b"event: delta" + self._line + self._data(value)

    def _data(self, value: Event) -> bytes:
        # Short lines were padded with blanks, so that words could not be guessed from the lengths.
        line = b"data: " + self._encode(value).encode()
        return line.ljust(_SHORTEST) + self._line * 2


def differences(path: str, old: object, new: object) -> Iterator[Event]:
    """Yield the operations that turn an old JSON value into a new one, in v1's terms."""
    if old == new and type(old) is type(new):
        return
    match old, new:
        case str(), str() if new.startswith(old):
            yield {"p": path, "o": "append", "v": new[len(old) :]}
        case dict(), dict():
            yield from _in_objects(path, old, new)
        case list(), list() if len(old) == len(new):
            for at, (was, becomes) in enumerate(zip(old, new, strict=True)):
                yield from differences(f"{path}/{at}", was, becomes)
        case list(), list() if old == new[: len(old)]:
            yield {"p": path, "o": "append", "v": new[len(old) :]}
        case _:
            yield {"p": path, "o": "replace", "v": new}


def _in_objects(path: str, old: Event, new: Event) -> Iterator[Event]:
    for key, was in old.items():
        inside = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
        if key in new:
            yield from differences(inside, was, new[key])
        else:
            yield {"p": inside, "o": "remove"}
    if added := {key: value for key, value in new.items() if key not in old}:
        yield {"p": path, "o": "append", "v": added}
