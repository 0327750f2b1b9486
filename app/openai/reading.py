"""From a job's events to the pieces of an answer: texts and tool calls, cut as the client asked.

Every dialect renders the same pieces (`chunks.py` for chats), so a streamed and a whole answer are
the same, and so are two clients' views of one job. Pure.

`max_tokens` counts all that the model writes. `stop` applies to the text alone: with OpenAI, a call
is not text, so its line breaks stop nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from app.openai.limits import AnswerLimits, StopSequences
from app.openai.text import AnswerText
from app.openai.tool_calls import CallRules, ToolCall, ToolCallReader
from settings import Bot
from wire.events import Delta, Done, Event, Failed, Finish, FormatMissed, Started
from wire.tokens.text import encoding

FinishReason = Finish | Literal["tool_calls"]
Piece = str | ToolCall


class AnswerReader:
    """Reads one answer. After its end, `finish` or `failed` is set, and no piece follows."""

    def __init__(
        self,
        bot: Bot,
        stops: Sequence[str] = (),
        tokens: int | None = None,
        rules: CallRules | None = None,
    ) -> None:
        self.finish: FinishReason | None = None
        self.failed: Failed | None = None
        self.model: str | None = None
        """The upstream's name for the model, once the answer has begun."""
        self.missed: FormatMissed | None = None
        """The reason for which the answer may not have the format that was asked for."""
        self._text = AnswerText(bot)
        of_all = [] if rules else stops
        self._limits = AnswerLimits(of_all, tokens, encoding()) if of_all or tokens else None
        self._stops = StopSequences(stops) if rules and stops else None
        self._calls = ToolCallReader(rules) if rules else None
        self._texts: list[str] = []
        self._shown = 0  # characters of the texts that were returned, counted for `stop`

    @property
    def text(self) -> str:
        """All text that was read, with the calls as the model wrote them."""
        return "".join(self._texts)

    @property
    def stop(self) -> str | None:
        """The stop sequence that ended the answer, if it was one."""
        limiting = self._stops or self._limits
        return limiting.reached if limiting else None

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
        if self._stops is not None:
            pieces = self._before_stop(self._stops, pieces, at_end=bool(cut) or _is_last(event))
            if self._stops.reached is not None:
                self.finish = "stop"  # whatever follows, also a call
                return pieces
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

    def _before_stop(
        self, stops: StopSequences, pieces: list[Piece], *, at_end: bool
    ) -> list[Piece]:
        """Return the pieces before the first stop sequence in the texts among them."""
        passed: list[Piece] = []
        for piece in pieces:
            passed += [stops.add(piece)] if isinstance(piece, str) else [stops.flush(), piece]
            if stops.reached is not None:
                break
        if at_end:
            passed.append(stops.flush())
        self._shown += sum(len(piece) for piece in passed if isinstance(piece, str))
        if stops.reached is not None:
            # Text comes before calls, so all that was returned is the beginning of the text.
            self._texts = [self.text[: self._shown]]
        return [piece for piece in passed if piece]

    def _end(self, finish: Finish) -> None:
        called = self._calls is not None and self._calls.calls > 0
        self.finish = "tool_calls" if called and finish == "stop" else finish


def _is_last(event: Event) -> bool:
    """True if the answer ends with this event for every reader."""
    return isinstance(event, Done) or (
        isinstance(event, Failed) and event.fault != "reply_abandoned"
    )
