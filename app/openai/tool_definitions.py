"""Definitions of tools: functions, tools with a free text, and namespaces of both. Pure.

All of them become functions: a custom tool is one with the text as its only argument, and a
function in a namespace has a longer name. Other tools, which OpenAI runs itself, are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from app.openai.bounds import DEEPEST_SCHEMA, LONGEST_SCHEMAS, MOST_TOOLS
from app.openai.errors import BadRequest
from app.openai.requests import invalid_field

_FREE_TEXT = "The input of this tool: a free text."
_IN_GRAMMAR = "The input of this tool: a text of this grammar ({syntax}):\n{definition}"
_LONGEST_KIND = 50

_FunctionName = Annotated[str, Meta(min_length=1, max_length=128)]


class Function(msgspec.Struct, frozen=True, omit_defaults=True):
    """Definition of a function. `parameters` is a JSON Schema."""

    name: _FunctionName
    description: str | None = None
    parameters: dict[str, object] | None = None


class _Grammar(msgspec.Struct, frozen=True):
    definition: str = ""
    syntax: str = ""


class _Format(msgspec.Struct, frozen=True):
    """Format of a free text. Responses have the fields of the grammar in the format itself."""

    definition: str = ""
    syntax: str = ""
    grammar: _Grammar = _Grammar()


class _Custom(msgspec.Struct, frozen=True):
    name: _FunctionName
    description: str | None = None
    format: _Format | None = None


class _Tool(msgspec.Struct, frozen=True):
    type: str = "function"
    function: msgspec.Raw = msgspec.Raw()
    custom: msgspec.Raw = msgspec.Raw()
    name: str = ""
    tools: Annotated[list[msgspec.Raw], Meta(max_length=MOST_TOOLS)] = []


class Definitions:
    """Functions as the model sees them, `custom` ones by name and the `namespaces` of others.

    `others` are the types of the tools that are left out, in ASCII.
    """

    def __init__(self) -> None:
        self.functions: list[Function] = []
        self.custom: set[str] = set()
        self.namespaces: dict[str, str] = {}
        self.others: list[str] = []

    def add(self, raw: msgspec.Raw, path: str) -> None:
        """Add a tool; `path` is that of its field.

        Raises:
            BadRequest: it is invalid.
        """
        tool = _decode(raw, _Tool, path)
        match tool.type:
            case "function":
                path += ".function"
                self.add_function(_present(tool.function, path), path)
            case "custom":
                path += ".custom"
                self._add_custom(_present(tool.custom, path), path)
            case "namespace":
                for number, inner in enumerate(tool.tools):
                    self._add_inner(inner, f"{path}.tools[{number}]", tool.name)
            case other:
                self.others.append(ascii(other[:_LONGEST_KIND])[1:-1])

    def _add_inner(self, raw: msgspec.Raw, path: str, namespace: str) -> None:
        """Add a tool of a namespace, whose definition is the tool itself."""
        match _decode(raw, _Tool, path).type:
            case "function":
                self.add_function(raw, path, namespace)
            case "custom":
                self._add_custom(raw, path, namespace)
            case other:
                self.others.append(ascii(other[:_LONGEST_KIND])[1:-1])

    def add_function(self, raw: msgspec.Raw, path: str, namespace: str = "") -> None:
        """Add a function by its definition. Raises like `add`."""
        function = _decode(raw, Function, path)
        check_depth(function.parameters, f"{path}.parameters")
        self._add(function, namespace)

    def _add_custom(self, raw: msgspec.Raw, path: str, namespace: str = "") -> None:
        tool = _decode(raw, _Custom, path)
        text = {"type": "string", "description": _described(tool.format or _Format())}
        schema: dict[str, object] = {
            "type": "object",
            "properties": {"input": text},
            "required": ["input"],
        }
        self.custom.add(self._add(Function(tool.name, tool.description, schema), namespace))

    def _add(self, function: Function, namespace: str) -> str:
        """Add a function; return the name by which the model calls it."""
        name = qualified_name(function.name, namespace)
        self.functions.append(msgspec.structs.replace(function, name=name))
        if namespace:
            self.namespaces[name] = namespace
        return name


def qualified_name(name: str, namespace: str | None) -> str:
    """Return the name by which the model calls a function of a namespace."""
    return f"{namespace}.{name}" if namespace else name


def read_definitions(given: list[msgspec.Raw], field: str) -> Definitions:
    """Read the definitions in `tools` or `functions`.

    Raises:
        BadRequest: one is invalid, or all are too large.
    """
    check_size(sum(memoryview(raw).nbytes for raw in given), field)
    read = Definitions()
    add = read.add if field == "tools" else read.add_function
    for number, raw in enumerate(given):
        add(raw, f"{field}[{number}]")
    return read


def _described(form: _Format) -> str:
    definition = form.definition or form.grammar.definition
    syntax = form.syntax or form.grammar.syntax
    return _IN_GRAMMAR.format(syntax=syntax, definition=definition) if definition else _FREE_TEXT


def _present(raw: msgspec.Raw, path: str) -> msgspec.Raw:
    if not memoryview(raw).nbytes:
        raise BadRequest(f"Missing required parameter: '{path}'.", param=path)
    return raw


T = TypeVar("T")


def _decode(raw: msgspec.Raw, kind: type[T], path: str) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        raise invalid_field(str(error), path) from None


def check_size(size: int, param: str) -> None:
    """Check the size of definitions, in bytes.

    Raises:
        BadRequest: they are too large.
    """
    if size > LONGEST_SCHEMAS:
        message = f"`{param}` is too large: {size} bytes. Expected at most {LONGEST_SCHEMAS}."
        raise BadRequest(message, param=param)


def check_depth(schema: object, param: str) -> None:
    """Check the depth of a schema.

    Raises:
        BadRequest: it is nested too deeply.
    """
    level: list[object] = [schema]
    for _ in range(DEEPEST_SCHEMA + 1):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    message = f"`{param}` is nested too deeply. Expected at most {DEEPEST_SCHEMA} levels."
    raise BadRequest(message, param=param)


def _inside(value: object) -> Iterable[object]:
    match value:
        case dict():
            return value.values()
        case list():
            return value
        case _:
            return ()
