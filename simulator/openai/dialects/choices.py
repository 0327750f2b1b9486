"""Parts that chat completions and completions share: chunks with choices, usage, `[DONE]`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

from simulator.openai.answer import Answer
from simulator.openai.asked import Asked
from simulator.openai.dialects.message import DONE, Message, to_json
from simulator.openai.errors import ErrorAnswer
from simulator.openai.likeness import Likeness


class Choices(ABC):
    """An answer of several choices, all with the same words."""

    whole_kind: str
    chunk_kind: str

    def __init__(self, asked: Asked, answer: Answer, like: Likeness, id: str, created: int) -> None:
        self.asked = asked
        self.answer = answer
        self.like = like
        self._id = id
        self._created = created

    @property
    def usage(self) -> dict[str, int]:
        """The numbers of tokens."""
        prompt, completion = self.asked.prompt_tokens, self.answer.tokens * self.asked.number
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }

    def envelope(self, choices: object, **more: object) -> dict[str, object]:
        """Return a chunk, or a whole answer, around choices."""
        return {
            "choices": choices,
            "created": self._created,
            "id": self._id,
            "model": self.asked.model or "tiny",
            "system_fingerprint": "simulator",
            "object": self.chunk_kind,
            **more,
        }

    def choice(self, content: Mapping[str, object], index: int = 0) -> dict[str, object]:
        """Return a choice of a chunk."""
        finish = {"finish_reason": None} if self.like.nulls else {}
        return {**finish, "index": index, **content}

    def of_all(self, content: Mapping[str, object], **more: object) -> Iterator[Message]:
        """Yield a chunk of each choice with the same content."""
        for index in range(self.asked.number):
            yield to_json(self.envelope([self.choice(content, index)], **more))

    def done(self) -> Iterator[Message]:
        """Yield the chunk with the usage, if it was asked for, and `[DONE]`."""
        if self.like.usage != "finish" and self.asked.usage:
            again = self.choice({"delta": {}, "finish_reason": self.answer.finish})
            choices = [again] if self.like.usage == "choice" else []
            yield to_json(self.envelope(choices, usage=self.usage))
        if self.like.done:
            yield DONE

    def error(self, error: ErrorAnswer) -> Iterator[Message]:
        """Yield the error's own object."""
        yield Message(error.body)

    def whole(self) -> object:
        """Return the whole answer."""
        choice = self.whole_choice()
        choices = [{"index": index, **choice} for index in range(self.asked.number)]
        return self.envelope(choices, object=self.whole_kind, usage=self.usage)

    @abstractmethod
    def whole_choice(self) -> dict[str, object]:
        """Return one choice of a whole answer."""


def logprob(text: str) -> dict[str, object]:
    """Return the log probability of a token: the longer it is, the less probable."""
    entry = {"token": text, "bytes": list(text.encode()), "logprob": -len(text) / 4}
    return {**entry, "top_logprobs": [entry]}
