"""Form of Anthropic's messages. A message keeps the server's id. Pure."""

from __future__ import annotations

from app.anthropic.answers import AnswerText, BlockDelta, BlockStart, BlockStop, TextDelta
from app.anthropic.sse import error_event, ping
from app.openai.answers import QueuePlace
from app.openai.errors import ApiError
from app.relayed.folding import Fold, MessageFold
from app.relayed.form import Form, Head, named
from app.relayed.model_name import with_model
from wire.events import Piece


class MessageForm(Form):
    """Form of Anthropic's messages."""

    def __init__(self, head: Head) -> None:
        super().__init__(head)
        self._begun = False
        self._blocks = 0
        self._is_open = False

    def data(self, piece: Piece) -> bytes:
        """Return an event, with the client's name for the model; note the blocks of content."""
        if piece.name == "message_start":
            self._begun = True
            return with_model(piece.data, self.head.model, "message")
        if piece.name == "content_block_start":
            self._blocks += 1
            self._is_open = True
        elif piece.name == "content_block_stop":
            self._is_open = False
        return piece.data

    def fold(self) -> Fold:
        """See `Form`."""
        return MessageFold(self.head.model)

    def alive(self, place: QueuePlace | None) -> bytes:
        """Render a ping."""
        return ping(place)

    def error(self, failure: ApiError) -> bytes:
        """Render an error, which is the last event."""
        return error_event(failure)

    def error_text(self, text: str) -> bytes:
        """Render an error as a block of its own, which does not end."""
        if not self._begun:
            return b""
        at = self._blocks
        closed = _block_event(BlockStop(at - 1)) if self._is_open else b""
        begun = _block_event(BlockStart(at, AnswerText()))
        return closed + begun + _block_event(BlockDelta(at, TextDelta(text)))


def _block_event(event: BlockStart | BlockDelta | BlockStop) -> bytes:
    return named(str(event.__struct_config__.tag), event)
