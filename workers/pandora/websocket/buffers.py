"""Buffers of the answers that arrive over one WebSocket, one for each job that waits for one.

Frames of other responses belong to the user's browser tabs and are ignored. But while a POST of the
account is under way, a frame may arrive before the response with its id; meanwhile all are kept, up
to a limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from wire.events import OVERHEAD
from workers.pandora.websocket.frames import Piece

EARLY_BYTES = 1024 * 1024
EARLY_ANSWERS = 64
FULL = 8 * 1024 * 1024


class AnswerBuffer:
    """One answer's bytes, on their way from the socket to their reader.

    `ended` is set by the last frame, `lost` when the socket is gone for good.
    """

    def __init__(self) -> None:
        self.ended = False
        self.lost = False
        self.closed = False
        self._bytes = bytearray()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def read(self) -> bytes:
        """Wait for bytes and return all there are; b"" at the end, complete or broken off."""
        while not self._bytes and not (self.ended or self.lost):
            self._changed.clear()
            await self._changed.wait()
        data = bytes(self._bytes)
        self._bytes.clear()
        self._room.set()
        return data

    async def room(self) -> None:
        """Wait while the reader is too far behind."""
        await self._room.wait()

    def put(self, body: bytes, *, last: bool) -> None:
        """Add the body of a piece."""
        if self.closed or self.ended:
            return
        self._bytes += body
        self.ended = last
        if len(self._bytes) > FULL:
            self._room.clear()
        self._changed.set()

    def mark_lost(self) -> None:
        """Mark the answer as lost: no more pieces will arrive."""
        self.lost = True
        self._changed.set()

    def close(self) -> None:
        """Drop all bytes, now and later: there is no reader any more."""
        self.closed = True
        self._bytes.clear()
        self._room.set()


class AnswerBuffers:
    """All answers of one socket. `expecting` returns True while a POST is under way."""

    def __init__(self, expecting: Callable[[], bool]) -> None:
        self._expecting = expecting
        self._lost = False
        self._buffers: dict[str, AnswerBuffer] = {}
        self._early: dict[str, list[Piece] | None] = {}  # None: overflowed
        self._early_bytes = 0
        self._early_lost = False  # there were pieces of more answers than are kept

    @property
    def empty(self) -> bool:
        """True if no job waits for an answer here."""
        return not self._buffers

    def claim(self, id: str) -> AnswerBuffer:
        """Return a buffer for a response or conversation id, with the pieces that arrived early."""
        buffer = self._buffers[id] = AnswerBuffer()
        names = self._names(id)
        for name in names:
            early = self._early.pop(name)
            if early is None:
                buffer.mark_lost()
                continue
            for piece in early:
                self._early_bytes -= _size(piece)
                buffer.put(piece.body, last=piece.last)
        if self._lost or (self._early_lost and not names):
            buffer.mark_lost()
        return buffer

    def release(self, id: str) -> None:
        """Close the buffer of an id: its job has ended."""
        if buffer := self._buffers.pop(id, None):
            buffer.close()

    def deliver(self, piece: Piece) -> AnswerBuffer | None:
        """Put a piece into its buffer, and return the buffer."""
        buffer = self._buffers.get(piece.response_id) or self._buffers.get(piece.conversation_id)
        if buffer is not None:
            buffer.put(piece.body, last=piece.last)
        elif self._expecting():
            self._keep(piece)
        return buffer

    def forget_early(self) -> None:
        """Drop early pieces: no POST is under way any more."""
        self._early.clear()
        self._early_bytes = 0
        self._early_lost = False

    def mark_lost(self) -> None:
        """Mark every answer as lost: the socket is gone."""
        self._lost = True
        for buffer in self._buffers.values():
            buffer.mark_lost()

    def _names(self, id: str) -> list[str]:
        """The response ids under which early pieces for an id are kept."""
        return [
            name
            for name, pieces in self._early.items()
            if name == id or (pieces and pieces[0].conversation_id == id)
        ]

    def _keep(self, piece: Piece) -> None:
        if piece.response_id not in self._early:
            # Once one is not kept, none is: it might be the rest of such an answer.
            self._early_lost = self._early_lost or len(self._early) >= EARLY_ANSWERS
            if self._early_lost:
                return
        kept = self._early.setdefault(piece.response_id, [])
        if kept is None:
            return
        self._early_bytes += _size(piece)
        if self._early_bytes > EARLY_BYTES:
            # An answer with a gap would be worse than none.
            self._early_bytes -= sum(map(_size, (*kept, piece)))
            self._early[piece.response_id] = None
        else:
            kept.append(piece)


def _size(piece: Piece) -> int:
    return OVERHEAD + len(piece.body)
