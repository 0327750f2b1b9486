"""The forms of relayed answers by their paths. Pure."""

from __future__ import annotations

from collections.abc import Callable

from app.openai.answers import QueuePlace
from app.openai.errors import ApiError
from app.relayed.chunks import ChunkForm, CompletionForm
from app.relayed.folding import BodyFold, Fold
from app.relayed.form import Form, Head
from app.relayed.messages import MessageForm
from app.relayed.responses import ResponseForm
from wire.jobs import ApiPath


class BodyForm(Form):
    """Form of an answer that is never streamed."""

    def fold(self) -> Fold:
        """See `Form`."""
        return BodyFold(self.head.model)

    def alive(self, place: QueuePlace | None) -> bytes:
        """Render nothing."""
        return b""

    def error(self, failure: ApiError) -> bytes:
        """Render nothing."""
        return b""


FORMS: dict[ApiPath, Callable[[Head], Form]] = {
    "chat/completions": ChunkForm,
    "completions": CompletionForm,
    "responses": ResponseForm,
    "messages": MessageForm,
    "embeddings": BodyForm,
}
"""The form of each path."""
