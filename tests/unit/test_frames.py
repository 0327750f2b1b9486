"""Frames of a WebSocket, in both shapes, and the answer buffers that they fill."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest

from workers.pandora.websocket.buffers import EARLY_BYTES, FULL, AnswerBuffers
from workers.pandora.websocket.frames import ACK_EVERY, Frames, LostError, Piece
from workers.pandora.websocket.handover import Address, read_address, read_handover


def bare(body: bytes, response_id: str = "r", *, more: bool = True) -> dict[str, object]:
    return {
        "type": "http.response.body",
        "body": base64.b64encode(body).decode(),
        "more_body": more,
        "response_id": response_id,
        "conversation_id": "c",
    }


def numbered(number: int, data: object) -> str:
    frame = {"sequenceId": number, "type": "message", "from": "group", "dataType": "json"}
    return json.dumps(frame | {"data": data})


def connected(id: str = "one", ticket: str | None = "t") -> str:
    frame = {"type": "system", "event": "connected", "connectionId": id}
    return json.dumps(frame | ({"reconnectionToken": ticket} if ticket else {}))


def test_a_bare_frame_is_a_piece_without_acknowledgement() -> None:
    frames = Frames()
    assert frames.receive(json.dumps(bare(b"data: x"))) == Piece("r", "c", b"data: x", False)
    assert frames.receive(json.dumps(bare(b"", more=False))) == Piece("r", "c", b"", True)
    assert frames.ack(now=True) is None
    assert frames.resumption() is None


def test_numbered_frames_are_taken_once_and_acknowledged_in_groups() -> None:
    frames = Frames()
    frames.receive(connected())
    acks = []
    for number in range(1, ACK_EVERY + 4):
        assert frames.receive(numbered(number, bare(b"x"))) is not None
        acks.append(frames.ack())
    assert [ack for ack in acks if ack] == [
        f'{{"type":"sequenceAck","sequenceId":{ACK_EVERY}}}',
    ]
    assert frames.ack(now=True) == f'{{"type":"sequenceAck","sequenceId":{ACK_EVERY + 3}}}'
    assert frames.ack(now=True) is None
    assert frames.receive(numbered(ACK_EVERY, bare(b"x"))) is None
    assert frames.receive(numbered(ACK_EVERY + 4, bare(b"y"))) == Piece("r", "c", b"y", False)
    assert frames.unreadable == 0


def test_the_same_connection_may_return_with_a_new_token_and_another_one_is_a_loss() -> None:
    frames = Frames()
    frames.receive(connected("one", "t1"))
    frames.receive(connected("one", "t2"))
    back = {"awps_connection_id": "one", "awps_reconnection_token": "t2"}
    assert frames.resumption() == back
    frames.receive(connected("one", None))
    assert frames.resumption() == back
    with pytest.raises(LostError):
        frames.receive(connected("two"))
    frames.receive('{"type":"system","event":"disconnected","message":"bye"}')
    assert frames.resumption() is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "[]",
        "[" * 5000,
        '{"type":"ack","ackId":1}',
        '{"type":"message","data":"text"}',
        '{"type":"message"}',
        json.dumps(bare(b"x") | {"body": "%%%"}),
        json.dumps(bare(b"x") | {"body": "é"}),
        json.dumps(bare(b"x") | {"body": 3}),
        json.dumps(bare(b"x") | {"type": "http.response.start"}),
    ],
)
def test_a_frame_that_is_not_a_piece_is_counted_and_ignored(text: str) -> None:
    frames = Frames()
    assert frames.receive(text) is None
    assert frames.unreadable == 1


def test_a_frame_that_cannot_be_read_is_acknowledged_like_the_others() -> None:
    frames = Frames()
    frames.receive(numbered(7, "a string"))
    assert frames.ack(now=True) == '{"type":"sequenceAck","sequenceId":7}'


def test_every_cut_of_a_stream_into_frames_gives_the_same_bytes() -> None:
    stream = 'data: {"text": "你好"}\n\ndata: [DONE]\n\n'.encode()
    for size in range(1, len(stream) + 1):
        frames, got = Frames(), b""
        cuts = [stream[at : at + size] for at in range(0, len(stream), size)]
        for number, cut in enumerate(cuts, 1):
            for text in (numbered(number, bare(cut)), numbered(number, bare(cut))):
                piece = frames.receive(text)
                got += piece.body if piece else b""
        assert got == stream


# ----- handovers


def test_a_handover_names_the_user_of_its_socket() -> None:
    claims = base64.urlsafe_b64encode(b'{"sub":"user-1","exp":1}').decode().rstrip("=")
    body = {
        "wss_url": f"wss://hub.example/client?access_token=h.{claims}.s",
        "expires_at": "2024-02-02T03:37:10.002621+00:00",
        "conversation_id": "c",
        "response_id": "r",
    }
    handover = read_handover(json.dumps(body).encode())
    assert handover is not None
    assert (handover.response_id, handover.conversation_id) == ("r", "c")
    assert handover.address == Address(str(body["wss_url"]), "user-1", 1706845030.002621)
    assert "hub.example" not in repr(handover)
    assert read_address(json.dumps(body).encode()) == handover.address


@pytest.mark.parametrize(
    "url", [None, "", "http://x/", "wss://", "wss://[x", "wss://x:99999/", "file:///x"]
)
def test_an_invalid_socket_url_is_no_url(url: str | None) -> None:
    body = json.dumps({"wss_url": url, "response_id": "r"}).encode()
    handover = read_handover(body)
    assert handover is not None
    assert handover.address is None
    assert read_address(body) is None


def test_a_socket_url_without_a_readable_token_belongs_to_no_user() -> None:
    for token in ("", "?access_token=", "?access_token=a.%%.c", "?access_token=a.W10.c"):
        address = read_address(json.dumps({"wss_url": f"wss://x/{token}"}).encode())
        assert address is not None
        assert (address.user, address.expires_at) == ("", None)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"wss_url": "wss://x"}', b"\xff"])
def test_a_body_that_hands_nothing_over_is_not_read_as_a_handover(body: bytes) -> None:
    assert read_handover(body) is None


# ----- mail


def piece(body: bytes, id: str = "r", *, last: bool = False) -> Piece:
    return Piece(id, "c", body, last)


async def test_an_answer_buffer_is_read_whole_and_then_ends(
    loop: asyncio.AbstractEventLoop,
) -> None:
    box = AnswerBuffers(lambda: False)
    mail = box.claim("r")
    box.deliver(piece(b"other", "stranger"))
    box.deliver(piece(b"a"))
    box.deliver(piece(b""))
    box.deliver(piece(b"b", last=True))
    box.deliver(piece(b"after"))
    assert [await mail.read(), await mail.read()] == [b"ab", b""]
    box.release("r")
    assert box.empty


async def test_pieces_that_arrived_before_a_loss_are_read_first(
    loop: asyncio.AbstractEventLoop,
) -> None:
    box = AnswerBuffers(lambda: False)
    mail = box.claim("r")
    box.deliver(piece(b"a"))
    box.mark_lost()
    assert [await mail.read(), await mail.read()] == [b"a", b""]
    assert await box.claim("later").read() == b""


async def test_early_pieces_are_kept_only_while_a_post_is_in_progress(
    loop: asyncio.AbstractEventLoop,
) -> None:
    posting = False
    box = AnswerBuffers(lambda: posting)
    box.deliver(piece(b"a"))
    posting = True
    box.deliver(piece(b"b"))
    box.deliver(piece(b"c", last=True))
    mail = box.claim("r")
    assert [await mail.read(), await mail.read()] == [b"bc", b""]
    box.deliver(piece(b"d", "by conversation"))
    assert await box.claim("c").read() == b"d"


async def test_an_answer_that_came_too_early_and_too_large_is_broken_off_and_not_torn(
    loop: asyncio.AbstractEventLoop,
) -> None:
    box = AnswerBuffers(lambda: True)
    box.deliver(piece(b"small", "other"))
    for _ in range(3):
        box.deliver(piece(b"x" * (EARLY_BYTES // 2)))
    assert await box.claim("r").read() == b""
    assert await box.claim("other").read() == b"small"


async def test_a_reader_far_behind_blocks_the_socket_until_it_reads_or_detaches(
    loop: asyncio.AbstractEventLoop,
) -> None:
    box = AnswerBuffers(lambda: False)
    for detached in (False, True):
        mail = box.claim("r")
        box.deliver(piece(b"x" * (FULL + 1)))
        waiting = asyncio.create_task(mail.room())
        await asyncio.sleep(0)
        assert not waiting.done()
        if detached:
            box.release("r")
        else:
            assert len(await mail.read()) == FULL + 1
        await waiting
