"""The answers that come over one WebSocket, each put into the mail of the job that waits for it.

Frames of other responses belong to the user's browser tabs and are ignored. But while a POST of the
account is under way, a frame may arrive before the response with its id; meanwhile all are kept, up
to a limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from workers.pandora.websocket.frames import Piece

EARLY_BYTES = 1024 * 1024
EARLY_ANSWERS = 64
FULL = 8 * 1024 * 1024


class Mail:
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

    def lose(self) -> None:
        """Mark the end: no more pieces will come."""
        self.lost = True
        self._changed.set()

    def close(self) -> None:
        """Drop all bytes, now and later: there is no reader any more."""
        self.closed = True
        self._bytes.clear()
        self._room.set()


class Mailbox:
    """All answers of one socket. `expecting` returns whether a POST is under way."""

    def __init__(self, expecting: Callable[[], bool]) -> None:
        self._expecting = expecting
        self._lost = False
        self._mails: dict[str, Mail] = {}
        self._early: dict[str, list[Piece] | None] = {}  # None: overflowed
        self._early_bytes = 0

    @property
    def empty(self) -> bool:
        """True if no job waits for an answer here."""
        return not self._mails

    def claim(self, id: str) -> Mail:
        """The mail of a response or conversation id, with the pieces that arrived early."""
        mail = self._mails[id] = Mail()
        for name in self._names(id):
            early = self._early.pop(name)
            if early is None:
                mail.lose()
                continue
            for piece in early:
                self._early_bytes -= len(piece.body)
                mail.put(piece.body, last=piece.last)
        if self._lost:
            mail.lose()
        return mail

    def release(self, id: str) -> None:
        """Close the mail of an id: its job has ended."""
        if mail := self._mails.pop(id, None):
            mail.close()

    def deliver(self, piece: Piece) -> Mail | None:
        """Put a piece into its mail, and return that."""
        mail = self._mails.get(piece.response_id) or self._mails.get(piece.conversation_id)
        if mail is not None:
            mail.put(piece.body, last=piece.last)
        elif self._expecting():
            self._keep(piece)
        return mail

    def forget_early(self) -> None:
        """Drop early pieces: no POST is under way any more."""
        self._early.clear()
        self._early_bytes = 0

    def lose(self) -> None:
        """Lose all mail: the socket is gone for good."""
        self._lost = True
        for mail in self._mails.values():
            mail.lose()

    def _names(self, id: str) -> list[str]:
        """The response ids under which early pieces for an id are kept."""
        return [
            name
            for name, pieces in self._early.items()
            if name == id or (pieces and pieces[0].conversation_id == id)
        ]

    def _keep(self, piece: Piece) -> None:
        kept = self._early.setdefault(piece.response_id, [])
        if kept is None:
            return
        self._early_bytes += len(piece.body)
        if self._early_bytes > EARLY_BYTES or len(self._early) > EARLY_ANSWERS:
            # An answer with a gap would be worse than none.
            self._early_bytes -= sum(len(one.body) for one in (*kept, piece))
            self._early[piece.response_id] = None
        else:
            kept.append(piece)
