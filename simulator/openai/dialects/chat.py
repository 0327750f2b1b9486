"""Chat completions."""

from __future__ import annotations

import time
from collections.abc import Iterator

from simulator.openai.answer import Answer, Arguments, Call, Piece, Text, Thought
from simulator.openai.asked import Asked
from simulator.openai.dialects.choices import Choices, logprob
from simulator.openai.dialects.message import Message, to_json
from simulator.openai.likeness import Likeness


class Chat(Choices):
    """An answer as `chat.completion.chunk`s, or as a `chat.completion`."""

    whole_kind = "chat.completion"
    chunk_kind = "chat.completion.chunk"

    def __init__(self, asked: Asked, answer: Answer, like: Likeness, id: str) -> None:
        super().__init__(asked, answer, like, f"chatcmpl-{id}", int(time.time()))
        self._begun = False

    def begin(self) -> Iterator[Message]:
        """Yield the chunk of each choice that has the role alone, as most servers do."""
        if self.like.role == "alone":
            delta = {"role": "assistant", "content": self.like.empty}
            yield from self.of_all({"delta": delta})

    def progress(self, done: int, total: int) -> Iterator[Message]:
        """Yield llama.cpp's report on the prompt."""
        progress = {"total": total, "cache": 0, "processed": done, "time_ms": done}
        delta = {"role": "assistant", "content": None}
        yield to_json(self.envelope([self.choice({"delta": delta})], prompt_progress=progress))

    def piece(self, piece: Piece, *, last: bool) -> Iterator[Message]:
        """Yield a chunk of each choice."""
        content: dict[str, object] = {"delta": self._delta(piece)}
        if self.asked.logprobs and isinstance(piece, Text):
            content["logprobs"] = {"content": [logprob(piece.text)], "refusal": None}
        if last and self.like.finish == "with_text":
            content["finish_reason"] = self.answer.finish
        if content["delta"]:
            yield from self.of_all(content)

    def finish(self) -> Iterator[Message]:
        """Yield the last chunk of each choice, unless its last piece was that."""
        if self.like.finish == "own" or not self.answer.pieces:
            usage = {"usage": self.usage} if self.like.usage == "finish" else {}
            yield from self.of_all({"delta": {}, "finish_reason": self.answer.finish}, **usage)

    def _delta(self, piece: Piece) -> dict[str, object]:
        delta = self._words(piece)
        has_role = self.like.role == "every" or (self.like.role == "with_text" and not self._begun)
        if delta and has_role:
            delta = {"role": "assistant", **delta}
        self._begun = self._begun or bool(delta)
        return delta

    def _words(self, piece: Piece) -> dict[str, object]:
        whole = self.like.whole_calls
        match piece:
            case Text(text):
                return {"content": text}
            case Thought(text):
                return {self.like.reasoning: text}
            case Call(index, id, name):
                arguments = dict(self._arguments())[index] if whole else ""
                function = {"name": name, "arguments": arguments}
                call = {"index": index, "id": id, "type": "function", "function": function}
                return {"tool_calls": [call]}
            case Arguments(index, text):
                call = {"index": index, "function": {"arguments": text}}
                return {} if whole else {"tool_calls": [call]}

    def _arguments(self) -> Iterator[tuple[int, str]]:
        return ((call.index, arguments) for call, arguments in self.answer.calls)

    def whole_choice(self) -> dict[str, object]:
        """Return one choice of a whole answer."""
        said: dict[str, object] = {"role": "assistant", "content": self.answer.text or None}
        if self.answer.thought:
            said[self.like.reasoning] = self.answer.thought
        if calls := self.answer.calls:
            said["tool_calls"] = [
                {"type": "function", "function": {"name": c.name, "arguments": a}, "id": c.id}
                for c, a in calls
            ]
        choice: dict[str, object] = {"finish_reason": self.answer.finish, "message": said}
        if self.asked.logprobs:
            texts = (piece.text for piece in self.answer.pieces if isinstance(piece, Text))
            choice["logprobs"] = {"content": [logprob(text) for text in texts], "refusal": None}
        return choice
