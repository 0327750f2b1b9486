"""From a job's events to the pieces of an answer: texts and tool calls, cut as the client asked.

Every dialect renders the same pieces (`chunks.py` for chats), so a streamed and a whole answer are
the same, and so are two clients' views of one job. Pure.
"""

from __future__ import annotations

from typing import Literal

from app.openai.limits import AnswerLimits
from app.openai.text import AnswerText
from app.openai.tool_calls import CallRules, ToolCall, ToolCallReader
from settings import Bot
from wire.events import Delta, Done, Event, Failed, Finish, FormatMissed, Started

FinishReason = Finish | Literal["tool_calls"]
Piece = str | ToolCall


class AnswerReader:
    """Reads one answer. After its end, `finish` or `failed` is set, and no piece follows."""

    def __init__(
        self, bot: Bot, limits: AnswerLimits | None = None, rules: CallRules | None = None
    ) -> None:
        self.finish: FinishReason | None = None
        self.failed: Failed | None = None
        self.model: str | None = None
        """The upstream's name for the model, once the answer has begun."""
        self.missed: FormatMissed | None = None
        """The reason for which the answer may not have the format that was asked for."""
        self._text = AnswerText(bot)
        self._limits = limits
        self._calls = ToolCallReader(rules) if rules else None
        self._texts: list[str] = []

    @property
    def text(self) -> str:
        """All text that was read, with the calls as the model wrote them."""
        return "".join(self._texts)

    def add(self, event: Event) -> list[Piece]:
        """Add an event; return the pieces that are complete now, in order."""
        text = self._text.add(event)
        cut = None
        if self._limits is not None:
            text = self._limits.add(text) if text else ""
            if self._limits.finish is None and _is_last(event):
                text += self._limits.flush()
            cut = self._limits.finish
        if text:
            self._texts.append(text)
        pieces: list[Piece] = [text] if text else []
        if self._calls is not None:
            pieces = self._calls.add(text)
            if cut or _is_last(event):
                pieces += self._calls.flush(is_cut=cut is not None or event == Done("length"))
        match event:
            case Delta():
                pass  # first, since nearly all events are deltas
            case Started(model):
                self.model = model
            case FormatMissed():
                self.missed = event
            case Done(finish):
                self._end(finish)
            case Failed() if not cut:
                self.failed = event
        if cut:
            self._end(cut)  # this client has all it asked for, whatever follows
        elif self._calls is not None and self._calls.ended:
            self.finish = "tool_calls"
        return pieces

    def _end(self, finish: Finish) -> None:
        called = self._calls is not None and self._calls.calls > 0
        self.finish = "tool_calls" if called and finish == "stop" else finish


def _is_last(event: Event) -> bool:
    """True if the answer ends with this event for every reader."""
    return isinstance(event, Done) or (
        isinstance(event, Failed) and event.fault != "reply_abandoned"
    )
