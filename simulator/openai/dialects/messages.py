"""Anthropic's Messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from simulator.openai.answer import Answer, Arguments, Call, Piece, Text, Thought
from simulator.openai.asked import Asked
from simulator.openai.dialects.message import Message, to_json
from simulator.openai.errors import ErrorAnswer
from simulator.openai.likeness import Likeness

_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


class Messages:
    """An answer as events of a message: a block for the reasoning, the text and each call."""

    def __init__(self, asked: Asked, answer: Answer, like: Likeness, id: str) -> None:
        self._asked = asked
        self._answer = answer
        self._id = id
        self._block = -1
        self._open: tuple[str, int] | None = None

    def begin(self) -> Iterator[Message]:
        """Yield the event that says that there is a message, but nothing of it."""
        usage = {"input_tokens": self._asked.prompt_tokens, "output_tokens": 0}
        yield _event("message_start", message=self._message([], None, usage))

    def progress(self, done: int, total: int) -> Iterator[Message]:
        """Yield a ping, as servers of this dialect do."""
        yield _event("ping")

    def piece(self, piece: Piece, *, last: bool) -> Iterator[Message]:
        """Yield the events of a piece, and those of a block that begins or ends with it."""
        match piece:
            case Text(text):
                yield from self._open_block("text", 0, text="")
                yield self._delta(type="text_delta", text=text)
            case Thought(text):
                yield from self._open_block("thinking", 0, thinking="", signature="")
                yield self._delta(type="thinking_delta", thinking=text)
            case Call(index, id, name):
                yield from self._open_block("tool_use", index, id=id, name=name, input={})
            case Arguments(_, text):
                yield self._delta(type="input_json_delta", partial_json=text)

    def finish(self) -> Iterator[Message]:
        """Yield the end of the last block, and the reason for the end of the message."""
        yield from self._close_block()
        delta = {"stop_reason": self._reason, "stop_sequence": None}
        usage = {"output_tokens": self._answer.tokens}
        yield _event("message_delta", delta=delta, usage=usage)

    def done(self) -> Iterator[Message]:
        """Yield the last event."""
        yield _event("message_stop")

    def error(self, error: ErrorAnswer) -> Iterator[Message]:
        """Yield the event `error`."""
        content = error.content if isinstance(error.content, Mapping) else {}
        inner = content.get("error")
        named = inner if isinstance(inner, Mapping) else {"message": str(inner)}
        yield _event("error", error={"type": "api_error", **named})

    def whole(self) -> object:
        """Return the whole message."""
        content: list[dict[str, object]] = []
        if self._answer.thought:
            thinking = self._answer.thought
            content.append({"type": "thinking", "thinking": thinking, "signature": ""})
        if self._answer.text:
            content.append({"type": "text", "text": self._answer.text})
        for call, arguments in self._answer.calls:
            given = {"name": call.name, "input": msgspec.Raw(arguments.encode())}
            content.append({"type": "tool_use", "id": call.id, **given})
        usage = {
            "input_tokens": self._asked.prompt_tokens,
            "output_tokens": self._answer.tokens,
        }
        return self._message(content, self._reason, usage)

    @property
    def _reason(self) -> str:
        return _REASONS.get(self._answer.finish, self._answer.finish)

    def _message(
        self, content: list[dict[str, object]], reason: str | None, usage: dict[str, int]
    ) -> dict[str, object]:
        return {
            "id": f"msg_{self._id}",
            "type": "message",
            "role": "assistant",
            "content": content,
            "model": self._asked.model or "tiny",
            "stop_reason": reason,
            "stop_sequence": None,
            "usage": usage,
        }

    def _delta(self, **delta: object) -> Message:
        return _event("content_block_delta", index=self._block, delta=delta)

    def _open_block(self, kind: str, index: int, **content: object) -> Iterator[Message]:
        if self._open == (kind, index):
            return
        yield from self._close_block()
        self._open = (kind, index)
        self._block += 1
        block = {"type": kind, **content}
        yield _event("content_block_start", index=self._block, content_block=block)

    def _close_block(self) -> Iterator[Message]:
        if self._open is not None:
            self._open = None
            yield _event("content_block_stop", index=self._block)


def _event(name: str, **content: object) -> Message:
    return to_json({"type": name, **content}, name)
