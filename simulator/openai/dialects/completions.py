"""Completions of plain prompts."""

from __future__ import annotations

import time
from collections.abc import Iterator

from simulator.openai.answer import Answer, Piece, Text
from simulator.openai.asked import Asked
from simulator.openai.dialects.choices import Choices
from simulator.openai.dialects.message import Message
from simulator.openai.likeness import Likeness


class Completions(Choices):
    """An answer as `text_completion`s."""

    whole_kind = chunk_kind = "text_completion"

    def __init__(self, asked: Asked, answer: Answer, like: Likeness, id: str) -> None:
        super().__init__(asked, answer, like, f"cmpl-{id}", int(time.time()))

    def begin(self) -> Iterator[Message]:
        """Yield nothing: the first message has the first text."""
        yield from ()

    def progress(self, done: int, total: int) -> Iterator[Message]:
        """Yield nothing: there is no such message."""
        yield from ()

    def piece(self, piece: Piece, *, last: bool) -> Iterator[Message]:
        """Yield a chunk of each choice."""
        if isinstance(piece, Text):
            yield from self.of_all({"text": piece.text, "logprobs": self._logprobs([piece.text])})

    def finish(self) -> Iterator[Message]:
        """Yield the last chunk of each choice, without text."""
        finish = self.answer.finish
        yield from self.of_all({"text": "", "logprobs": None, "finish_reason": finish})

    def whole_choice(self) -> dict[str, object]:
        """Return one choice of a whole answer."""
        texts = [piece.text for piece in self.answer.pieces if isinstance(piece, Text)]
        logprobs = self._logprobs(texts)
        return {
            "text": self.answer.text,
            "logprobs": logprobs,
            "finish_reason": self.answer.finish,
        }

    def _logprobs(self, texts: list[str]) -> dict[str, object] | None:
        if not self.asked.logprobs:
            return None
        return {"tokens": texts, "token_logprobs": [-len(text) / 4 for text in texts]}
