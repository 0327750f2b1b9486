"""A streamed answer as bytes, with its faults. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from simulator.openai.answer import Answer
from simulator.openai.dialects.message import DONE, Dialect, Message, to_json
from simulator.openai.errors import ERRORS, ErrorAnswer
from simulator.openai.likeness import Likeness
from simulator.openai.script import Script

ERROR_FAULTS = frozenset({"error", "error_done", "error_choice"})
"""Faults that send the script's error inside a stream."""

_IN_THE_MIDDLE = ERROR_FAULTS | {"garbage", "silence", "only_done"}


class Stream:
    """The bytes of a stream: `lead`, then each of `words`, then `tail`, in this order."""

    def __init__(self, dialect: Dialect, answer: Answer, script: Script, like: Likeness) -> None:
        self._dialect = dialect
        self._answer = answer
        self._script = script
        self._like = like
        self._end = b"\r\n" if script.crlf or like.crlf else b"\n"
        self._fault = script.fault or ""

    def lead(self) -> bytes:
        """Return what comes before the first piece of the answer."""
        if self._fault == "only_done" or self._breaks_at == 0:
            return b""
        steps = self._script.progress
        read = (self._dialect.progress(n + 1, steps) for n in range(steps))
        return self._encode(*self._dialect.begin(), *(each for step in read for each in step))

    def words(self) -> Iterator[bytes]:
        """Yield the bytes of each piece of the answer."""
        pieces = self._answer.pieces[: self._breaks_at]
        for number, piece in enumerate(pieces, 1):
            last = number == len(self._answer.pieces) and self._fault not in _UNFINISHED
            yield self._encode(*self._dialect.piece(piece, last=last))

    def tail(self) -> bytes:
        """Return what comes after the last piece of the answer."""
        return self._encode(*self._ending())

    def pings(self) -> Iterator[bytes]:
        """Yield comments forever."""
        while True:
            yield self._like.comment.encode() + self._end * 2

    @property
    def _breaks_at(self) -> int | None:
        """Number of pieces before the fault, None without one in the middle."""
        if self._fault == "only_done":
            return 0
        return self._script.at_word if self._fault in _IN_THE_MIDDLE else None

    def _ending(self) -> Iterable[Message]:
        error = ERRORS[self._script.error or "server"]
        match self._fault:
            case "error":
                return self._dialect.error(error)
            case "error_done":
                return (*self._dialect.error(error), DONE)
            case "error_choice":
                return (_error_choice(error), DONE)
            case "only_done" | "no_finish":
                return (DONE,)
            case "garbage":
                return (Message(b'{"choices": [{"delta": {"cont'),)
            case "silence" | "broken_off":
                return ()
            case "no_done" | "cut_after_finish":
                return self._dialect.finish()
            case _:
                return (*self._dialect.finish(), *self._dialect.done())

    def _encode(self, *messages: Message) -> bytes:
        return b"".join(message.encode(self._end) for message in messages)


_UNFINISHED = frozenset({"no_finish", "broken_off"})


def _error_choice(error: ErrorAnswer) -> Message:
    """Return OpenRouter's form: a chunk that has an error and also a finish."""
    content = error.content if isinstance(error.content, Mapping) else {"error": error.content}
    choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
    return to_json({**content, "object": "chat.completion.chunk", "choices": [choice]})
