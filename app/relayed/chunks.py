"""Form of chat completions and completions. Pure.

A chunk arrives without its `id`, `created` and `model`, in place of which it gets the gateway's.
"""

from __future__ import annotations

import msgspec

from app.openai.answers import Chunk, ChunkChoice, ChunkDelta, QueuePlace
from app.openai.completions import TextChoice, TextCompletion
from app.openai.errors import ApiError
from app.openai.sse import DONE, encode, sse_message
from app.relayed.folding import ChunkFold, Fold
from app.relayed.form import Form, Head
from wire.events import Piece

_EMPTY = b"{}"


class ChunkForm(Form):
    """Form of chat completions."""

    done = DONE

    def __init__(self, head: Head) -> None:
        super().__init__(head)
        self._begin = encode(head)[:-1] + b","

    def data(self, piece: Piece) -> bytes:
        """Return a chunk with the gateway's id, the time and the client's name for the model."""
        if piece.data == _EMPTY:
            return self._begin[:-1] + b"}"
        return self._begin + piece.data[1:]

    def fold(self) -> Fold:
        """See `Form`."""
        return ChunkFold(msgspec.structs.asdict(self.head))

    def alive(self, place: QueuePlace | None) -> bytes:
        """Render a chunk without text. It has no role: the server's own chunks bring that."""
        return sse_message(self._chunk("", place))

    def error(self, failure: ApiError) -> bytes:
        """Render an error, after which the stream ends without `[DONE]`."""
        return sse_message(failure.object)

    def error_text(self, text: str) -> bytes:
        """See `Form`."""
        return sse_message(self._chunk(text, None))

    def _chunk(self, text: str, place: QueuePlace | None) -> msgspec.Struct:
        head = self.head
        return Chunk(
            id=head.id,
            created=head.created,
            model=head.model,
            system_fingerprint=None,
            choices=[ChunkChoice(delta=ChunkDelta(content=text))],
            queue=place or msgspec.UNSET,
        )


class CompletionForm(ChunkForm):
    """Form of completions."""

    def _chunk(self, text: str, place: QueuePlace | None) -> msgspec.Struct:
        head = self.head
        return TextCompletion(
            id=head.id,
            created=head.created,
            model=head.model,
            system_fingerprint=None,
            choices=[TextChoice(text=text, finish_reason=None)],
            queue=place or msgspec.UNSET,
        )
