"""`/v1/completions`: a message says something by the `text` of a choice."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from workers.openai.dialects.choices import Choice, Choices
from workers.openai.dialects.dialect import NULL, says


class TextChoice(Choice, gc=False):
    """A choice with the next piece of its text."""

    text: Raw = NULL


_decoder: msgspec.json.Decoder[list[TextChoice] | None] = msgspec.json.Decoder(
    list[TextChoice] | None
)


class Completions(Choices[TextChoice]):
    """The `Dialect` of completions."""

    def __init__(self, asked: int = 1) -> None:
        super().__init__(_decoder, asked)

    def _says(self, choice: TextChoice) -> bool:
        return says(choice.text)
