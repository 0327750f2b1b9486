"""The WebSocket of Pandora's upstream: frames, announcements of answers, and their buffers."""

from __future__ import annotations

import base64
import json
import math

import msgspec
from hypothesis import strategies as st

from tests.support.fuzzing import Json, bodies, fuzzed
from workers.pandora.json_decoding import decode_json
from workers.pandora.websocket.buffers import EARLY_ANSWERS, EARLY_BYTES, AnswerBuffers
from workers.pandora.websocket.frames import Frames, LostError, Piece
from workers.pandora.websocket.handover import read_address, read_handover

_DATA = {
    "type": "http.response.body",
    "body": base64.b64encode(b"data: {}\n\n").decode(),
    "more_body": True,
    "response_id": "r",
    "conversation_id": "c",
}
FRAMES: list[Json] = [
    _DATA,
    {**_DATA, "more_body": False},
    {"sequenceId": 1, "type": "message", "from": "group", "dataType": "json", "data": _DATA},
    {"sequenceId": 2, "type": "message", "data": {**_DATA, "more_body": False}},
    {"type": "system", "event": "connected", "connectionId": "a", "reconnectionToken": "t"},
    {"type": "system", "event": "connected", "connectionId": "b"},
    {"type": "system", "event": "disconnected", "message": "bye"},
    {"type": "ack", "ackId": 1, "success": True},
]
_CLAIMS = base64.urlsafe_b64encode(b'{"sub":"user"}').decode().rstrip("=")
ANNOUNCEMENTS: list[Json] = [
    {
        "wss_url": f"wss://h.example/client?access_token=a.{_CLAIMS}.c",
        "expires_at": "2024-03-01T00:00:00",
        "response_id": "r",
        "conversation_id": "c",
        "websocket_request_id": "w",
    },
    {"wss_url": "ws://[::1]:8080/", "conversation_id": "c", "expires_at": "9999-12-31T23:59:59Z"},
    {"wss_url": "wss://h:99999/?access_token=..", "response_id": ""},
    {"wss_url": "wss://[", "expires_at": "0001-01-01", "response_id": "r"},
]


@fuzzed(st.lists(bodies(FRAMES), max_size=6))
def test_frames_give_pieces_and_numbers_never_go_back(frames: list[bytes]) -> None:
    connection = Frames()
    acknowledged = 0
    for number, frame in enumerate(frames):
        text: str | bytes = frame if number % 2 else frame.decode(errors="replace")
        try:
            piece = connection.receive(text)
        except LostError:
            return
        if piece is not None:
            assert len(piece.body) <= len(frame)
        if (ack := connection.ack(now=True)) is not None:
            assert json.loads(ack)["sequenceId"] > acknowledged
            acknowledged = json.loads(ack)["sequenceId"]
        resumption = connection.resumption()
        assert resumption is None or all(isinstance(one, str) for one in resumption.values())


def is_bare(frame: bytes) -> bool:
    """Return True for a frame without a number."""
    numbered = decode_json(frame, dict[str, msgspec.Raw]) or {}
    return bytes(numbered.get("sequenceId", b"null")) == b"null"


@fuzzed(st.lists(bodies(FRAMES), max_size=6))
def test_a_frame_that_is_repeated_gives_nothing_new(frames: list[bytes]) -> None:
    once, twice = Frames(), Frames()
    try:
        given = [once.receive(frame) for frame in frames]
        repeated = [(twice.receive(frame), twice.receive(frame)) for frame in frames]
    except LostError:
        return
    assert [first for first, _ in repeated] == given
    for frame, (_, second) in zip(frames, repeated, strict=True):
        assert second is None or is_bare(frame)


@fuzzed(bodies(ANNOUNCEMENTS))
def test_an_announcement_is_read_or_not_usable(body: bytes) -> None:
    handover = read_handover(body)
    assert handover is None or handover.id
    address = read_address(body)
    if address is not None:
        assert address.url.lower().strip().startswith(("ws:", "wss:"))
        assert "access_token" not in repr(address)
        assert address.expires_at is None or math.isfinite(address.expires_at)


_PIECES = st.builds(
    Piece,
    st.sampled_from(["", "r", "s", "t"]),
    st.sampled_from(["", "c", "d"]),
    st.sampled_from([b"", b"abc", b"x" * (EARLY_BYTES // 3), b"x" * (EARLY_BYTES + 1)]),
    st.booleans(),
)


@fuzzed(st.lists(_PIECES, max_size=30), st.sampled_from(["r", "s"]))
def test_an_answer_that_begins_early_arrives_whole_or_is_lost(pieces: list[Piece], id: str) -> None:
    buffers = AnswerBuffers(lambda: True)
    expected, ended = b"", False
    for piece in pieces:
        buffers.deliver(piece)
        assert buffers._early_bytes <= EARLY_BYTES
        if piece.response_id == id and not ended:
            expected, ended = expected + piece.body, piece.last
    buffer = buffers.claim(id)
    assert buffer.lost or (bytes(buffer._bytes), buffer.ended) == (expected, ended)


@fuzzed(st.integers(1, 5 * EARLY_ANSWERS), st.integers(1, 5))
def test_early_pieces_of_many_answers_are_few(number: int, each: int) -> None:
    buffers = AnswerBuffers(lambda: True)
    ids = [f"r{one}" for one in range(number)]
    for id in ids * each:
        buffers.deliver(Piece(id, "", b"abc", False))
        assert len(buffers._early) <= EARLY_ANSWERS
    kept = [buffers.claim(id) for id in ids]
    assert all(buffer.lost or bytes(buffer._bytes) == b"abc" * each for buffer in kept)
