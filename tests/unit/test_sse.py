"""Server-sent events from bytes: whole, byte by byte, cut at random, and with a tail."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.http.sse import EventParser, EventTooLargeError, ServerSentEvent


def parse(*reads: bytes) -> list[ServerSentEvent]:
    parser = EventParser()
    return [event for read in reads for event in parser.feed(read)]


def byte_by_byte(stream: bytes) -> list[ServerSentEvent]:
    return parse(*(stream[i : i + 1] for i in range(len(stream))))


def data_of(*reads: bytes) -> list[bytes]:
    return [event.data for event in parse(*reads)]


PING = b"event: ping\r\ndata: 2023-12-15 08:18:09.331532\r\n\r\n"


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\ndata: b\n\n", [("message", b"a"), ("message", b"b")]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [("message", b"a"), ("message", b"b")]),
        (b"data: a\r\rdata: b\r\r", [("message", b"a"), ("message", b"b")]),
        (b"data: a\n\r\ndata: b\r\n\n", [("message", b"a"), ("message", b"b")]),
        (b"data:a\n\n", [("message", b"a")]),
        (b"data:  a \n\n", [("message", b" a ")]),
        (b"data: a: b\n\n", [("message", b"a: b")]),
        (b"data: a\ndata: b\ndata\n\n", [("message", b"a\nb\n")]),
        (b"data\n\n", [("message", b"")]),
        (b"data: \n\ndata: [DONE]\n\n", [("message", b""), ("message", b"[DONE]")]),
        (b"event: delta\ndata: x\n\ndata: y\n\n", [("delta", b"x"), ("message", b"y")]),
        (b"event: a\nevent: b\ndata: x\n\n", [("b", b"x")]),
        (b"event:\ndata: x\n\n", [("message", b"x")]),
        (b": ping - 2025-03-06\n\ndata: x\n\n", [("message", b"x")]),
        (b": ping\ndata: x\n: ping\n\n", [("message", b"x")]),
        (b"event: ping\n\n", []),
        (b"id: 7\nretry: 10\nother: z\ndata: x\n\n", [("message", b"x")]),
        (b"\n\n\n\ndata: x\n\n\n\ndata: y\n\n", [("message", b"x"), ("message", b"y")]),
        (b"\xef\xbb\xbfdata: x\n\ndata: y\n\n", [("message", b"x"), ("message", b"y")]),
        (b"data: \xef\xbb\xbfx\n\n", [("message", b"\xef\xbb\xbfx")]),
        (PING + b"data: x\n\n", [("ping", b"2023-12-15 08:18:09.331532"), ("message", b"x")]),
        (b"data: send data: x\n\n", [("message", b"send data: x")]),
        (
            "data: a\u2028b\u0085c\x0b\x0cd\n\n".encode(),
            [("message", "a\u2028b\u0085c\x0b\x0cd".encode())],
        ),
        ("data: 当然\n\n".encode(), [("message", "当然".encode())]),
        (b"event: \xff\ndata: \xff\xfe\n\n", [("\ufffd", b"\xff\xfe")]),
        (b"", []),
    ],
)
def test_a_stream_gives_its_events_whole_byte_by_byte_and_with_a_tail(
    stream: bytes, expected: list[tuple[str, bytes]]
) -> None:
    events = [ServerSentEvent(*row) for row in expected]
    assert parse(stream) == events
    assert byte_by_byte(stream) == events
    for i in range(len(stream)):
        assert parse(stream[:i], stream[i:]) == events
    assert parse(stream + b"data: unfinished\n") == events


def test_an_event_comes_out_as_soon_as_its_empty_line_has_begun() -> None:
    parser = EventParser()
    assert parser.feed(b"data: a\r\n") == []
    assert [event.data for event in parser.feed(b"\r")] == [b"a"]
    assert parser.feed(b"\ndata: b") == []
    assert [event.data for event in parser.feed(b"\n\n")] == [b"b"]


def test_an_lf_completes_a_cr_only_if_nothing_is_between_them() -> None:
    assert data_of(b"data: a\r", b"", b"\n", b"\n") == [b"a"]
    assert data_of(b"data: a\r", b"\n", b"data: b\n\n") == [b"a\nb"]


def test_an_unfinished_block_at_the_end_is_not_an_event() -> None:
    assert data_of(b"data: a\n\ndata: b\n") == [b"a"]


def test_an_event_over_the_limit_is_refused_however_it_arrives() -> None:
    stream = b"data: " + b"x" * 100 + b"\n\n"
    assert len(EventParser(max_event_bytes=106).feed(stream)) == 1
    for size in (1, 7, len(stream)):
        parser = EventParser(max_event_bytes=105)
        reads = (stream[i : i + size] for i in range(0, len(stream), size))
        with pytest.raises(EventTooLargeError, match="larger than 105 bytes"):
            list(map(parser.feed, reads))


def test_several_events_together_may_exceed_the_limit() -> None:
    assert len(EventParser(max_event_bytes=20).feed(b"data: a\n\n" * 100)) == 100


LINES = st.lists(
    st.one_of(
        st.sampled_from([b"", b"", b": c", b"event: ping", b"data", b"data:", b"id: 1"]),
        st.text(max_size=8).map(
            lambda text: b"data: " + text.replace("\r", "").replace("\n", "").encode()
        ),
    ),
    max_size=20,
)


@given(st.data(), LINES, st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_random_cuts_and_line_ends_give_the_same_events(
    data: st.DataObject, lines: list[bytes], line_end: bytes
) -> None:
    whole = parse(b"\n".join(lines) + b"\n")
    stream = line_end.join(lines) + line_end
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    edges = [0, *cuts, len(stream)]
    assert parse(*(stream[a:b] for a, b in pairwise(edges))) == whole


@given(st.binary(), st.integers(1, 5))
def test_random_bytes_never_raise_and_parse_alike_however_they_are_cut(
    stream: bytes, size: int
) -> None:
    assert parse(*(stream[i : i + size] for i in range(0, len(stream), size))) == parse(stream)
