"""Fields that the upstream does not support: emulated, ignored or refused, as the operator wants.

Tools and JSON are emulated by instructions in the prompt. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

import settings
from app.openai.errors import UnsupportedParameter
from app.openai.json_format import JsonFormat, read_format
from app.openai.requests import ChatRequest
from app.openai.tool_calls import OPENING, CallRules
from app.openai.tools import ToolUse, read_tools
from wire.jobs import JsonAnswer, Message

IGNORED = "x-ignored-parameters"
"""Header of an answer, with the names of the fields that had no effect."""


class Emulation(msgspec.Struct, frozen=True):
    """Emulated tools and JSON of one request, and the `ignored` fields, by name."""

    tools: ToolUse | None = None
    format: JsonFormat | None = None
    ignored: tuple[str, ...] = ()

    def headers(self, name: Callable[[str], str] = str) -> dict[str, str]:
        """Headers of the answer. `name` returns the client's own name for a field."""
        return {IGNORED: ", ".join(map(name, self.ignored))} if self.ignored else {}

    @property
    def call_rules(self) -> CallRules | None:
        """Rules for reading tool calls out of the answer; None if there are no tools."""
        return self.tools.rules if self.tools else None

    @property
    def json_answer(self) -> JsonAnswer | None:
        """Instructions to the worker; None if the answer need not be JSON."""
        if self.format is None:
            return None
        return JsonAnswer(self.format.schema, OPENING if self.tools else "")

    def instruct(self, messages: list[Message]) -> list[Message]:
        """Insert the instructions, after the client's own system messages at the beginning."""
        texts = [self.tools.instruction] if self.tools else []
        if self.format is not None:
            texts.append(self.format.instruction(with_tools=self.tools is not None))
        if not texts:
            return messages
        own = next((n for n, m in enumerate(messages) if m.role != "system"), len(messages))
        return [*messages[:own], Message("system", "\n\n".join(texts)), *messages[own:]]


def emulate(
    request: ChatRequest, compat: settings.Compat, ignored: Iterable[str] = ()
) -> Emulation:
    """Decide about the fields that the upstream does not support.

    `ignored` are the names of fields that are ignored anyway.

    Raises:
        UnsupportedParameter: the operator refuses one of them.
        BadRequest: a field that is emulated is invalid.
    """
    rest = "ignore" if compat.ignore_unsupported else "refuse"
    asked = (
        (request.unsupported, rest, "compat.ignore_unsupported"),
        (request.asked_of_tools, compat.tool_mode, "compat.tools"),
        (request.asked_of_format, compat.json_mode, "compat.json"),
    )
    for fields, mode, setting in asked:
        if fields and mode == "refuse":
            raise UnsupportedParameter(
                f"`{fields[0]}` is not supported with this value. Remove it, or ask the operator of"
                f" this gateway to change `{setting}`.",
                param=fields[0],
            )
    names = [name for fields, mode, _ in asked if mode == "ignore" for name in fields]
    tools, others = read_tools(request) if compat.tool_mode == "emulate" else (None, ())
    names += dict.fromkeys(f"tools ({kind})" for kind in others)
    return Emulation(
        tools=tools,
        format=read_format(request) if compat.json_mode == "emulate" else None,
        ignored=(*names, *ignored),
    )
