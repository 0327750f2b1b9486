"""The answer to a request, in pieces that every dialect can say. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from uuid import uuid4

import msgspec

from simulator.instructions import example
from simulator.openai.asked import Asked
from simulator.openai.script import Script
from simulator.sample import sample
from simulator.speech import Speech


class Text(msgspec.Struct, frozen=True):
    """The next piece of the text."""

    text: str


class Thought(msgspec.Struct, frozen=True):
    """The next piece of the reasoning, which comes before the text."""

    text: str


class Call(msgspec.Struct, frozen=True):
    """A call of a function begins; its arguments follow."""

    index: int
    id: str
    name: str


class Arguments(msgspec.Struct, frozen=True):
    """The next piece of the arguments of the call at an index."""

    index: int
    text: str


Piece = Text | Thought | Call | Arguments


class Answer(msgspec.Struct, frozen=True):
    """A whole answer; `finish` is the reason in OpenAI's words."""

    pieces: tuple[Piece, ...]
    finish: str

    @property
    def tokens(self) -> int:
        """Number of tokens: one for each piece."""
        return len(self.pieces)

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(piece.text for piece in self.pieces if isinstance(piece, Text))

    @property
    def thought(self) -> str:
        """The whole reasoning."""
        return "".join(piece.text for piece in self.pieces if isinstance(piece, Thought))

    @property
    def calls(self) -> list[tuple[Call, str]]:
        """The calls with their arguments."""
        return [
            (call, self._arguments(call.index)) for call in self.pieces if isinstance(call, Call)
        ]

    def _arguments(self, index: int) -> str:
        pieces = (piece for piece in self.pieces if isinstance(piece, Arguments))
        return "".join(piece.text for piece in pieces if piece.index == index)


def answer(asked: Asked, script: Script | None, rest: str) -> Answer:
    """Return the answer to a request; `rest` is its question without the directive."""
    names = _called(asked, script)
    if names and not asked.results:
        calls = list(_calls(names, asked, script or Script()))
        return Answer(tuple(calls), (script and script.finish) or "tool_calls")
    thoughts = range(script.reasoning if script else 0)
    said: list[Piece] = [Thought(f" t{n}" if n else "t0") for n in thoughts]
    said += map(Text, _said(asked, script, rest))
    cut = asked.limit is not None and 0 <= asked.limit < len(said)
    finish = (script and script.finish) or ("length" if cut else "stop")
    return Answer(tuple(said[: asked.limit] if cut else said), finish)


def _called(asked: Asked, script: Script | None) -> Sequence[str]:
    if not asked.functions:
        return ()
    if script is not None and script.call:
        return script.call.split(",")
    if asked.must_call is not None:
        return [asked.must_call or next(iter(asked.functions))]
    return [name for name in asked.functions if name in asked.question] if script is None else ()


def _calls(names: Sequence[str], asked: Asked, script: Script) -> Iterator[Piece]:
    for index, name in enumerate(names):
        yield Call(index, f"call_{uuid4().hex[:24]}", name)
        made = json.dumps(example(asked.functions.get(name, {}), {}), ensure_ascii=False)
        arguments = made if script.args is None else script.args
        for text in script.cut(arguments):
            yield Arguments(index, text)


def _said(asked: Asked, script: Script | None, rest: str) -> list[str]:
    obeys = script is None or script.call is not None or script.json is not None
    speech: Speech = script or sample(rest)
    if asked.schema is not None and obeys:
        made = json.dumps(example(asked.schema or {"type": "object"}), ensure_ascii=False)
        return speech.cut(made if speech.json is None else speech.json)
    if asked.results and obeys:
        return speech.cut(f"The result is: {', '.join(asked.results)}")
    return speech.cut(rest) if speech.echo else speech.pieces()
