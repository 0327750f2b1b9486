"""The Responses API."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from itertools import count

from simulator.openai.answer import Answer, Arguments, Call, Piece, Text, Thought
from simulator.openai.asked import Asked
from simulator.openai.dialects.message import Message, to_json
from simulator.openai.errors import ErrorAnswer
from simulator.openai.likeness import Likeness

_Item = dict[str, object]

_EMPTY: dict[str, _Item] = {
    "message": {"role": "assistant", "content": []},
    "reasoning": {"summary": [], "content": []},
    "function_call": {"arguments": ""},
}


class Responses:
    """An answer as events of a response: an item for the reasoning, the text and each call."""

    def __init__(self, asked: Asked, answer: Answer, like: Likeness, id: str) -> None:
        self._asked = asked
        self._answer = answer
        self._like = like
        self._id = id
        self._created = int(time.time())
        self._numbers = count()
        self._items: list[_Item] = []
        self._open: tuple[str, int] | None = None
        self._said = ""

    def begin(self) -> Iterator[Message]:
        """Yield the events that say that there is a response, but nothing of it."""
        for name in ("created", "in_progress"):
            yield self._event(f"response.{name}", response=self._response("in_progress", []))

    def progress(self, done: int, total: int) -> Iterator[Message]:
        """Yield nothing: there is no such event."""
        yield from ()

    def piece(self, piece: Piece, *, last: bool) -> Iterator[Message]:
        """Yield the events of a piece, and those of an item that begins or ends with it."""
        match piece:
            case Text(text):
                yield from self._open_item("message")
                yield self._delta("response.output_text.delta", text, content_index=0, logprobs=[])
            case Thought(text):
                yield from self._open_item("reasoning")
                yield self._delta("response.reasoning_text.delta", text, content_index=0)
            case Call(index, id, name):
                yield from self._open_item("function_call", index, call_id=id, name=name)
            case Arguments(_, text):
                yield self._delta("response.function_call_arguments.delta", text)

    def finish(self) -> Iterator[Message]:
        """Yield the end of the last item and of the response."""
        yield from self._close_item()
        finish = self._answer.finish
        status = {"length": "incomplete", "error": "failed"}.get(finish, "completed")
        response = self._response(status, self._items)
        yield self._event(f"response.{status}", response=response)

    def done(self) -> Iterator[Message]:
        """Yield nothing: the last event was the end."""
        yield from ()

    def error(self, error: ErrorAnswer) -> Iterator[Message]:
        """Yield the event `error`."""
        content = error.content.get("error") if isinstance(error.content, Mapping) else None
        inner = content if isinstance(content, Mapping) else {"message": str(content)}
        yield self._event("error", code=inner.get("code"), message=inner["message"], param=None)

    def whole(self) -> object:
        """Return the whole response."""
        for piece in self._answer.pieces:
            list(self.piece(piece, last=False))
        list(self._close_item())
        status = "incomplete" if self._answer.finish == "length" else "completed"
        return self._response(status, self._items)

    def _event(self, name: str, **content: object) -> Message:
        event = {"type": name, "sequence_number": next(self._numbers), **content}
        return to_json(event, name)

    def _delta(self, name: str, text: str, **more: object) -> Message:
        self._said += text
        item_id, output = self._items[-1]["id"], len(self._items) - 1
        return self._event(name, item_id=item_id, output_index=output, delta=text, **more)

    def _open_item(self, kind: str, index: int = 0, **more: object) -> Iterator[Message]:
        if self._open == (kind, index):
            return
        yield from self._close_item()
        self._open = (kind, index)
        output = len(self._items)
        prefix = {"message": "msg", "reasoning": "rs", "function_call": "fc"}[kind]
        form: _Item = {"id": f"{prefix}_{output}{self._id}", "type": kind, "status": "in_progress"}
        self._items.append({**form, **_EMPTY[kind], **more})
        yield self._event(
            "response.output_item.added", output_index=output, item=self._items[output]
        )
        if kind == "message":
            yield self._part("added", "")

    def _close_item(self) -> Iterator[Message]:
        if self._open is None:
            return
        (kind, _), said, self._open, self._said = self._open, self._said, None, ""
        output = len(self._items) - 1
        item = self._items[output] = {**self._items[output], "status": "completed"}
        where = {"item_id": item["id"], "output_index": output}
        if kind == "message":
            item["content"] = [_part(said)]
            yield self._event(
                "response.output_text.done", **where, content_index=0, text=said, logprobs=[]
            )
            yield self._part("done", said)
        elif kind == "reasoning":
            item["content"] = [{"type": "reasoning_text", "text": said}]
        else:
            item["arguments"] = said
            kind = "response.function_call_arguments.done"
            yield self._event(kind, **where, arguments=said)
        yield self._event("response.output_item.done", output_index=output, item=item)

    def _part(self, change: str, text: str) -> Message:
        return self._event(
            f"response.content_part.{change}",
            item_id=self._items[-1]["id"],
            output_index=len(self._items) - 1,
            content_index=0,
            part=_part(text),
        )

    def _response(self, status: str, output: list[_Item]) -> dict[str, object]:
        prompt, tokens = self._asked.prompt_tokens, self._answer.tokens
        usage = {
            "input_tokens": prompt,
            "output_tokens": tokens,
            "total_tokens": prompt + tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        }
        reason = {"reason": "max_output_tokens"} if status == "incomplete" else None
        error = {"code": "server_error", "message": "The model failed"}
        return {
            "id": f"resp_{self._id}",
            "object": "response",
            "created_at": self._created,
            "status": status,
            "model": self._asked.model or "tiny",
            "output": output,
            "error": error if status == "failed" else None,
            "incomplete_details": reason,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": None if status == "in_progress" else usage,
        }


def _part(text: str) -> dict[str, object]:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
