"""The parser of server-sent events: strangers' bytes, in reads that are cut anywhere."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.support.fuzzing import PLACES, cut, fuzzed
from tests.support.work import Searched
from workers.http.sse import EventParser, EventTooLargeError, ServerSentEvent

_WORDS = st.sampled_from(
    [
        *(b"\n", b"\n", b"\n\n", b"\r", b"\r\n", b"\r\n\r\n", b"\n\r", b"\xef\xbb\xbf", b"\0"),
        *(b"data: ", b"data:", b"data", b"event: ", b"event:delta", b"id: 7", b"retry: 1", b":"),
        *(b"[DONE]", b"{}", b'{"a": "\xe2\x80\xa8"}', b"\xc2\x85", b"\x0b\x0c", b"\xff", b" "),
        *(b"x" * 300, b"data: x\n\n", b"event: ping\r\n"),
    ]
)
STREAMS = st.lists(_WORDS | st.binary(max_size=6), max_size=40).map(b"".join)
LIMIT = 400
"""Bytes of the largest event here."""


def parse(reads: list[bytes]) -> tuple[list[ServerSentEvent], bool, bytes]:
    """The events of a stream, True if one was too large, and the bytes that remain."""
    parser = EventParser(LIMIT)
    events: list[ServerSentEvent] = []
    try:
        for read in reads:
            events += parser.feed(read)
    except EventTooLargeError:
        return events, True, b""
    return events, False, parser.remainder


def by_the_standard(stream: bytes) -> list[ServerSentEvent]:
    """The events of a stream, line by line as the HTML standard reads them."""
    text = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    events, name, data = [], b"", list[bytes]()
    for line in text.split(b"\n")[:-1]:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
        if line == b"":
            if data:
                event = name.decode(errors="replace") or "message"
                events.append(ServerSentEvent(event, b"\n".join(data)))
            name, data = b"", []
    return events


@fuzzed(STREAMS, PLACES)
def test_events_are_those_of_the_standard_however_the_stream_is_cut(
    stream: bytes, places: list[int]
) -> None:
    events, too_large, _ = parse(cut(stream, places))
    expected = by_the_standard(stream)
    assert events == (expected[: len(events)] if too_large else expected)
    if not too_large:
        assert parse([bytes([byte]) for byte in stream]) == parse([stream])


@fuzzed(STREAMS, PLACES)
def test_no_event_is_larger_than_the_limit_and_no_more_is_held(
    stream: bytes, places: list[int]
) -> None:
    parser = EventParser(LIMIT)
    try:
        for read in cut(stream, places):
            assert all(len(event.data) <= LIMIT for event in parser.feed(read))
            assert parser.held <= LIMIT
    except EventTooLargeError:
        pass


@fuzzed(STREAMS, st.integers(1, 64))
def test_no_byte_is_searched_more_than_a_few_times(stream: bytes, size: int) -> None:
    parser = EventParser()
    held = parser._held = Searched()
    for at in range(0, len(stream), size):
        parser.feed(stream[at : at + size])
    reads = len(stream) // size + 1
    assert held.searched <= 2 * (len(stream) + reads)
