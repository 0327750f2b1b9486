"""Script in, wire bytes out: every event of one answer, without any I/O.

Each text event repeats the whole text so far, so its cost must not be that of encoding it anew:
the JSON around the text is built once per answer and cut in two, the escaped text grows by its new
piece, and an event is the three joined.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle, islice

import msgspec

from simulator.errors import UNUSUAL_ACTIVITY
from simulator.payload import Message
from simulator.script import Script

_TEXT = "@text@"
_PAD = "@pad@"
_FINISH = {
    "stop": {"type": "stop", "stop_tokens": [100260]},
    "max_tokens": {"type": "max_tokens"},
    "interrupted": {"type": "interrupted"},
}


class Turn(msgspec.Struct, frozen=True):
    """What one answer is about. Ids and times come from outside, so nothing here is chance."""

    conversation_id: str
    system_id: str
    message_id: str
    parent_id: str
    model: str
    action: str
    created: float
    finished: float
    prompt_moderation_id: str
    completion_moderation_id: str
    prompt: Message | None


@dataclass(frozen=True)
class Reply:
    """One answer on the wire: what comes first, each text event, and what comes last."""

    lead: bytes
    texts: Iterator[bytes]
    tail: bytes


def reply(script: Script, turn: Turn) -> Reply:
    """The whole answer. Faults of content are in it; faults of the connection are the caller's."""
    wire = _Wire(script, turn)
    pieces = script.pieces()
    lead = wire.echoes() + wire.message("", "in_progress") + wire.moderation(completion=False)
    texts = wire.texts(pieces)
    finished = wire.finished("".join(pieces)) + wire.moderation(completion=True) + wire.title()
    match script.fault:
        case "no_done":
            return Reply(lead, texts, finished)
        case "done_unfinished":
            return Reply(lead, texts, wire.done)
        case "unfinished_eof":
            return Reply(lead, texts, b"")
        case "only_finished":
            return Reply(lead, iter(()), finished + wire.done)
        case "error_before":
            return Reply(b"", iter(()), wire.error() + wire.done)
        case "error_after":
            return Reply(lead, islice(texts, len(pieces) // 2), wire.error() + wire.done)
        case "silence":
            return Reply(lead if script.at_word else b"", islice(texts, script.at_word), b"")
        case _:
            return Reply(lead, texts, finished + wire.done)


def pings(script: Script) -> Iterator[bytes]:
    """Pings without end, the named event and the comment in turn, each with the time it is made."""
    end = b"\r\n\r\n" if script.crlf else b"\n\n"
    while True:
        yield f"event: ping\r\ndata: {datetime.now(UTC).replace(tzinfo=None)}\r\n\r\n".encode()
        yield f": ping - {datetime.now(UTC)}".encode() + end


class _Wire:
    """Encodes the events of one turn, in the recorded key order."""

    def __init__(self, script: Script, turn: Turn) -> None:
        self._script = script
        self._turn = turn
        self._encode = json.JSONEncoder(ensure_ascii=not script.raw).encode
        self._end = b"\r\n\r\n" if script.crlf else b"\n\n"
        self.done = b"data: [DONE]" + self._end

    def texts(self, pieces: list[str]) -> Iterator[bytes]:
        """The text events; the empty ones of `empty_at` ride with the event before them."""
        head, tail = self.message(_TEXT, "in_progress", pad=_PAD).split(_TEXT.encode(), 1)
        tails = cycle(self._padded(tail))
        empty_at = self._script.empty_at
        shown = b""
        for n, piece in enumerate(pieces, 1):
            shown += self._encode(piece)[1:-1].encode()
            event = head + shown + next(tails)
            if n == empty_at:
                bare = head.removesuffix(b'"') + next(tails).removeprefix(b'"')
                event += head + next(tails) + bare
            yield event

    def _padded(self, tail: bytes) -> list[bytes]:
        longest = self._script.pad
        if not longest:
            return [tail]
        lengths = (longest, longest // 3, longest // 2, longest // 5, longest * 3 // 4)
        return [tail.replace(_PAD.encode(), b"A" * max(1, length)) for length in lengths]

    def finished(self, text: str) -> bytes:
        """The three finished events that end a message."""
        status = "finished_successfully"
        if self._script.finish == "max_tokens":
            status = "finished_partial_completion"
        details = {"finish_details": _FINISH[self._script.finish]}
        complete = details | {"is_complete": True}
        last = complete | {"timestamp_": "absolute"}
        return (
            self.message(text, status, details)
            + self.message(text, status, complete)
            + self.message(text, status, last)
        )

    def message(
        self, text: str, status: str, extra: dict[str, object] | None = None, pad: str = ""
    ) -> bytes:
        """One event of the assistant's message."""
        turn = self._turn
        metadata: dict[str, object] = {
            "inline_gizmo_id": None,
            "message_type": turn.action,
            "model_slug": turn.model,
            "parent_id": turn.parent_id,
        }
        metadata |= extra or {}
        if self._script.pad:
            metadata["pad"] = pad or "A" * self._script.pad
        # The time moves once, in the very last event of a message.
        last = "timestamp_" in metadata
        message = {
            "id": turn.message_id,
            "author": {"role": "assistant", "name": None, "metadata": {}},
            "create_time": turn.finished if last else turn.created,
            "update_time": None,
            "content": {"content_type": "text", "parts": [text]},
            "status": status,
            "end_turn": None if status == "in_progress" else True,
            "weight": 1.0,
            # The recorded keys of 2023 come in the order of the alphabet.
            "metadata": dict(sorted(metadata.items())),
            "recipient": "all",
        }
        return self._event(self._envelope(message))

    def echoes(self) -> bytes:
        """The hidden system message and the user's own, where the script wants them."""
        prompt = self._turn.prompt
        if not self._script.echoes or prompt is None:
            return b""
        system = self._echo(
            self._turn.system_id,
            "system",
            {"content_type": "text", "parts": [""]},
            {},
            time=None,
            end_turn=True,
            weight=0.0,
        )
        metadata: dict[str, object] = {"timestamp_": "absolute", "message_type": None}
        if prompt.metadata.attachments:
            metadata["attachments"] = prompt.metadata.attachments
        user = self._echo(
            prompt.id,
            "user",
            msgspec.to_builtins(prompt.content),
            metadata,
            time=self._turn.created,
            end_turn=None,
            weight=1.0,
        )
        return system + user

    def _echo(
        self,
        message_id: str,
        role: str,
        content: object,
        metadata: dict[str, object],
        *,
        time: float | None,
        end_turn: bool | None,
        weight: float,
    ) -> bytes:
        message = {
            "id": message_id,
            "author": {"role": role, "name": None, "metadata": {}},
            "create_time": time,
            "update_time": None,
            "content": content,
            "status": "finished_successfully",
            "end_turn": end_turn,
            "weight": weight,
            "metadata": metadata,
            "recipient": "all",
        }
        return self._event(self._envelope(message))

    def moderation(self, *, completion: bool) -> bytes:
        """The verdict on the prompt or on the completion."""
        turn = self._turn
        blocked = self._script.block == ("completion" if completion else "prompt")
        event = {
            "conversation_id": turn.conversation_id,
            "message_id": turn.message_id if completion else turn.parent_id,
            "is_completion": completion,
            "moderation_response": {
                "flagged": blocked,
                "blocked": blocked,
                "moderation_id": (
                    turn.completion_moderation_id if completion else turn.prompt_moderation_id
                ),
            },
        }
        return self._event(event)

    def title(self) -> bytes:
        """The title of a new conversation, where the script wants it."""
        if not self._script.title:
            return b""
        return self._event(
            {
                "type": "title_generation",
                "title": "A talk with the simulator",
                "conversation_id": self._turn.conversation_id,
            }
        )

    def error(self) -> bytes:
        """The error event."""
        return self._event(self._envelope(None, UNUSUAL_ACTIVITY))

    def _envelope(self, message: object, error: str | None = None) -> dict[str, object]:
        return {
            "message": message,
            "conversation_id": self._turn.conversation_id,
            "error": error,
        }

    def _event(self, event: dict[str, object]) -> bytes:
        return b"data: " + self._encode(event).encode() + self._end
