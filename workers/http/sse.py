"""Server-sent events parsed from bytes, however the network cut them.

The strategy: a block ends at an empty line, so the bytes are split at the LF pairs in one call, and
a block that is a single `data:` line, as every recorded one is, is not looked at any further.
Bytes with a CR in them are first rewritten to LF line ends; a CR that comes last counts as a line
end at once, and an LF at the start of the next bytes is then its other half. Nothing is decoded but
the event's name, so no cut and no broken byte can do harm here. The usual read, which is one such
block and nothing else, takes a short cut.

After the HTML standard, 9.2.6 "Interpreting an event stream"; `id:` and `retry:` are for clients
that reconnect, and dropped.
"""

from __future__ import annotations

import msgspec

MAX_EVENT_BYTES = 4 * 1024 * 1024

_BOM = b"\xef\xbb\xbf"


class ServerSentEvent(msgspec.Struct, frozen=True, gc=False):
    """One dispatched event: its name, "message" unless the upstream gave one, and its data."""

    event: str
    data: bytes


class EventTooLargeError(ValueError):
    """The upstream sent an event larger than we are willing to hold."""

    def __init__(self, limit: int, unit: str = "bytes") -> None:
        super().__init__(f"an upstream event is larger than {limit} {unit}")


class EventParser:
    """Cuts one stream into events.

    There is nothing to close: a block left unfinished by the end of the stream is not an event. It
    stays in `remainder`, since a server that does not send events may have sent it.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._held = bytearray()  # of a block whose end has not come yet
        self._after_cr = False
        self._at_start = True

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """The events that these bytes complete, in order.

        Raises:
            EventTooLargeError: a block grew over the limit; the parser is of no use after that.
        """
        if not data:
            return []
        if not self._held and len(data) <= self._max and _is_usual(data):
            self._after_cr = self._at_start = False
            return [ServerSentEvent("message", data[6:-2])]
        if self._after_cr and data[0] == 0x0A:
            data = data[1:]
        self._after_cr = data.endswith(b"\r")
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

        held = self._held
        if held:
            # Only the new bytes are searched, and copied once a block is whole: an event of
            # megabytes in small reads must not cost the square of its size.
            seam = len(held) - 1
            held += data
            if held.find(b"\n\n", seam) < 0:
                self._check(len(held))
                return []
            data = bytes(held)
            held.clear()

        *blocks, remainder = data.split(b"\n\n")
        if remainder:
            held += remainder
            self._check(len(remainder))
        if blocks and self._at_start:
            self._at_start = False
            blocks[0] = blocks[0].removeprefix(_BOM)

        events = []
        for block in blocks:
            if len(block) > self._max:
                raise EventTooLargeError(self._max)
            if block.startswith(b"data: ") and b"\n" not in block:
                events.append(ServerSentEvent("message", block[6:]))
            elif (event := _interpret(block)) is not None:
                events.append(event)
        return events

    @property
    def held(self) -> int:
        """Bytes of the block that is not complete yet."""
        return len(self._held)

    @property
    def remainder(self) -> bytes:
        """See above."""
        return bytes(self._held)

    def _check(self, size: int) -> None:
        if size > self._max:
            raise EventTooLargeError(self._max)


def _is_usual(data: bytes) -> bool:
    """Return True for one block that is a single `data:` line: mostly a read is just that."""
    return (
        data.startswith(b"data: ")
        and data.endswith(b"\n\n")
        and data.find(b"\n") == len(data) - 2
        and b"\r" not in data
    )


def _interpret(block: bytes) -> ServerSentEvent | None:
    """Any block by the letter of the standard; None without a data line."""
    name = b""
    data: list[bytes] = []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")  # a comment has the empty field
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    if not data:
        return None
    return ServerSentEvent(name.decode("utf-8", "replace") or "message", b"\n".join(data))
