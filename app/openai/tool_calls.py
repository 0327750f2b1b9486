"""Reads tool calls out of the text of an answer, piece by piece. Pure.

The upstream has no tools, so the prompt asks the model to write a call as a block (`tools.py`):

    <tool_call>
    {"name": "get_weather", "arguments": {"city": "Paris"}}
    </tool_call>

    text --opening tag--> block --closing tag, readable--> after --opening tag--> block
                          block --anything else---------> text, which it is, too
                                                         after --other text----> the end

Text before a block is returned at once; only the beginning of a possible block is held back, with
the white space and the code fence that models put around one. A block is returned when it is
complete, as the calls in it, which all have to be of known tools with a JSON object as arguments;
else it is text. The text after a call is dropped: there the model makes up results. However the
text is cut, the pieces joined are the same, the work is linear, and a block is bounded.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from typing import NoReturn

import msgspec

OPENING, CLOSING = "<tool_call>", "</tool_call>"
LONGEST_BLOCK = 262_144
"""Characters. A longer block is text."""

MOST_BLOCKS = 100
"""Blocks of one answer that are read. If more are not readable, all that follows is text; after as
many calls the answer ends."""

_STEP = 4096
"""Characters that are read at once: the rest is copied after every block."""

_TAG = re.compile(f"{OPENING}|{CLOSING}")
_MARGIN = re.compile(r"\s{0,8}(?:```[a-z_]{0,16}\s{0,8}|`{1,2})?\Z")
_LONGEST_MARGIN = 35
_FILLER = re.compile(r"\s*(?:`+[a-z_]{0,16}\s*)*")
_LONGEST_FILLER = 100


class ToolCall(msgspec.Struct, frozen=True):
    """One call. `arguments` is a JSON object as the model wrote it; of a custom tool, its text."""

    name: str
    arguments: str
    custom: bool = False
    namespace: str = ""

    @property
    def full_name(self) -> str:
        """The name by which the model knows the tool."""
        return f"{self.namespace}.{self.name}" if self.namespace else self.name


class CallRules(msgspec.Struct, frozen=True):
    """Rules for reading an answer: the known tools, and if one call is enough.

    `legacy`: the calls are rendered in OpenAI's first dialect, as `function_call`. `custom` are the
    names of the tools that take a text, `namespaces` those of tools whose names begin with one.
    """

    names: frozenset[str]
    single: bool = False
    legacy: bool = False
    custom: frozenset[str] = frozenset()
    namespaces: Mapping[str, str] = {}

    @property
    def memory(self) -> int:
        """Bytes that the names take."""
        tables = (self.names, self.custom, self.namespaces)
        names = (*self.names, *self.namespaces.values())
        return sum(map(sys.getsizeof, (*tables, *names)))


class ToolCallReader:
    """Reads the calls out of one answer.

    `ended` is set when nothing that follows can be a part of the answer: after the first call, if
    one is enough, or at the first text after a call.
    """

    def __init__(self, rules: CallRules) -> None:
        self.ended = False
        self.calls = 0
        self._rules = rules
        self._pending = ""  # text that may belong to a block, or the end of an open block
        self._block: list[str] | None = None  # the pieces of an open block, from before its tag
        self._length = 0
        self._unreadable = 0

    def add(self, text: str) -> list[str | ToolCall]:
        """Add text; return the text and the calls that are complete now, in order."""
        if len(text) > _STEP:
            steps = (text[at : at + _STEP] for at in range(0, len(text), _STEP))
            return [piece for step in steps for piece in self.add(step)]
        pieces: list[str | ToolCall] = []
        rest: str | None = self._pending + text
        while rest is not None and not self.ended:
            self._pending = ""
            if self._block is not None:
                rest = self._read_block(rest, pieces)
            elif self.calls:
                rest = self._read_filler(rest)
            elif self._unreadable == MOST_BLOCKS:
                return [*pieces, rest] if rest else pieces
            else:
                rest = self._read_text(rest, pieces)
        return pieces

    def flush(self, *, is_cut: bool = False) -> list[str | ToolCall]:
        """Return all that was held back, at the end of the answer.

        If a limit of the client has cut it, not half of a block: that is of no use as text.
        """
        pieces: list[str | ToolCall] = []
        if self.ended or (self.calls and self._block is None):
            return pieces
        rest, self._pending = self._pending, ""
        if self._block is None:
            is_half = is_cut and OPENING[:2] in rest
            return [rest] if rest and not is_half else pieces
        self._block.append(rest)
        self._close(pieces)
        return [piece for piece in pieces if isinstance(piece, ToolCall) or not is_cut]

    def _read_text(self, text: str, pieces: list[str | ToolCall]) -> str | None:
        """Pass on text up to a block; return the text after its opening tag."""
        at = text.find(OPENING)
        before = text[: at if at >= 0 else _possible_tag(text)]
        margin = _MARGIN.search(before, max(0, len(before) - _LONGEST_MARGIN))
        start = margin.start() if margin else len(before)
        if start:
            pieces.append(text[:start])
        if at < 0:
            self._pending = text[start:]
            return None
        return self._open(text, start, at)

    def _read_filler(self, text: str) -> str | None:
        """Skip the space between two blocks; return the text after an opening tag."""
        filler = _FILLER.match(text)
        at = filler.end() if filler else 0
        rest = text[at : at + len(OPENING)]
        if at > _LONGEST_FILLER or not OPENING.startswith(rest):
            self.ended = True
            return None
        if rest != OPENING:
            self._pending = text
            return None
        return self._open(text, at, at)

    def _open(self, text: str, start: int, at: int) -> str:
        end = at + len(OPENING)
        self._block = [text[start:end]]
        self._length = 0
        return text[end:]

    def _read_block(self, text: str, pieces: list[str | ToolCall]) -> str | None:
        """Read on to the end of a block; return the text after it."""
        assert self._block is not None  # noqa: S101 - the caller has checked
        if not self._length:
            stripped = text.lstrip()
            space = len(text) - len(stripped)
            if not stripped and space <= _LONGEST_FILLER:
                self._pending = text
                return None
            if space > _LONGEST_FILLER or stripped[0] not in "{[`":
                self._release(pieces)  # a tag that the text only mentions
                return text
        tag = _TAG.search(text)
        end = tag.start() if tag else _possible_tag(text)
        if self._length + end > LONGEST_BLOCK:
            end = LONGEST_BLOCK - self._length
            self._block.append(text[:end])
            self._release(pieces)
            return text[end:]
        self._length += end
        self._block.append(text[:end])
        if tag is None:
            self._pending = text[end:]
            return None
        if tag[0] == CLOSING:
            self._block.append(CLOSING)
            end = tag.end()
        self._close(pieces)
        return text[end:]

    def _close(self, pieces: list[str | ToolCall]) -> None:
        """Read a block that has ended."""
        block = "".join(self._block or ())
        content = block[block.index(OPENING) + len(OPENING) :].removesuffix(CLOSING)
        calls = _read_calls(content, self._rules)
        if not calls:
            self._release(pieces)
            return
        self._block = None
        pieces += calls[:1] if self._rules.single else calls
        self.calls += len(calls)
        self.ended = self._rules.single or self.calls >= MOST_BLOCKS

    def _release(self, pieces: list[str | ToolCall]) -> None:
        """Pass on a block as text, or end the answer at it if calls came before it."""
        if self.calls:
            self.ended = True
        else:
            pieces.append("".join(self._block or ()))
            self._unreadable += 1
        self._block = None


class _Call(msgspec.Struct):
    name: str
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


_call_decoder = msgspec.json.Decoder(_Call | list[_Call])


def _read_calls(content: str, rules: CallRules) -> list[ToolCall]:
    """Return the calls in a block; none unless all of it is readable."""
    content = _unfenced(content.strip())
    try:
        try:
            decoded = _call_decoder.decode(content)
        except msgspec.DecodeError:
            decoded = _call_decoder.decode(_mended(content))
        written = decoded if isinstance(decoded, list) else [decoded]
        if any(call.name not in rules.names for call in written):
            return []
        return [_read_call(call, rules) for call in written]
    except (ValueError, RecursionError):
        return []


def _read_call(call: _Call, rules: CallRules) -> ToolCall:
    """Return a call of a known tool.

    Raises:
        msgspec.DecodeError: its arguments are not readable.
    """
    namespace = rules.namespaces.get(call.name, "")
    name = call.name.removeprefix(f"{namespace}.") if namespace else call.name
    if call.name in rules.custom:
        return ToolCall(name, _free_text(call.arguments), custom=True, namespace=namespace)
    return ToolCall(name, _arguments(call.arguments), namespace=namespace)


def _unfenced(content: str) -> str:
    """Strip a code fence, if there is one."""
    if not (content.startswith("```") and content.endswith("```")):
        return content
    return content.partition("\n")[2].rstrip("`")


def _mended(content: str) -> bytes:
    """Escape the line breaks inside of texts, which models forget when they write code."""
    return json.dumps(json.loads(content, strict=False, parse_constant=_refuse)).encode()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _arguments(raw: msgspec.Raw) -> str:
    """Return arguments as the text of an object; they may be a text already.

    Raises:
        msgspec.DecodeError: they are not.
    """
    arguments = bytes(raw)
    if arguments.startswith(b'"'):
        arguments = msgspec.json.decode(arguments, type=str).strip().encode() or b"{}"
    msgspec.json.decode(arguments, type=dict[str, object])
    return arguments.decode()


class _FreeText(msgspec.Struct):
    input: str


_text_decoder = msgspec.json.Decoder(_FreeText | str)


def _free_text(raw: msgspec.Raw) -> str:
    """Return the text that a custom tool is called with: the only argument, or the whole of them.

    Raises:
        msgspec.DecodeError: there is none.
    """
    given = _text_decoder.decode(raw)
    return given if isinstance(given, str) else given.input


def _possible_tag(text: str) -> int:
    """Index of the longest suffix of `text` that may be the beginning of a tag."""
    at = text.rfind("<", max(0, len(text) - len(CLOSING) + 1))
    is_tag = at >= 0 and (OPENING.startswith(text[at:]) or CLOSING.startswith(text[at:]))
    return at if is_tag else len(text)
