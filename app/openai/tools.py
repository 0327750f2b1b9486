"""Tools as a part of the prompt, since the upstream has none of the client's own. Pure.

The definitions are a system message, a call that the assistant has made is a block in its text, and
a result is a message of the user. `tool_calls.py` reads the blocks of the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from app.openai.bounds import DEEPEST_SCHEMA, LONGEST_SCHEMAS
from app.openai.errors import BadRequest, UnsupportedParameter
from app.openai.requests import AssistantCall, ChatRequest, FunctionName, invalid_field
from app.openai.tool_calls import CLOSING, OPENING, CallRules

_INSTRUCTION = """\
You can call functions, which the user's program runs for you. To call one, write a block of this \
exact form:

{opening}
{{"name": "the_function", "arguments": {{"argument": "value"}}}}
{closing}

The arguments are a JSON object that is valid against the function's "parameters", a JSON Schema. \
{number} End your reply after {last}: the next message brings the results, in <tool_result> tags. \
Never write a result yourself, and use no other way to call these functions.

The functions:
{functions}

{choice}"""

_AUTO = (
    "Call a function only if you need it for your reply. Otherwise reply as usual, without a block."
)
_REQUIRED = "Your next reply must call one of these functions."
_NAMED = "Your next reply must call the function {}."


class Function(msgspec.Struct, frozen=True, omit_defaults=True):
    """Definition of a function. `parameters` is a JSON Schema."""

    name: Annotated[str, Meta(min_length=1, max_length=128)]
    description: str | None = None
    parameters: dict[str, object] | None = None


class _Tool(msgspec.Struct, frozen=True):
    type: str = "function"
    function: msgspec.Raw = msgspec.Raw()


class ToolUse(msgspec.Struct, frozen=True):
    """Tools that one answer may call. `required`: it has to call one. `single`: at most one."""

    functions: list[Function]
    required: bool = False
    single: bool = False
    legacy: bool = False
    """True for OpenAI's first dialect: `functions` and `function_call`."""

    @property
    def rules(self) -> CallRules:
        """Rules for reading the calls of an answer."""
        names = frozenset(function.name for function in self.functions)
        return CallRules(names, single=self.single or self.legacy, legacy=self.legacy)

    @property
    def instruction(self) -> str:
        """The message that explains the tools to the model."""
        single = self.single or self.legacy
        choice = _AUTO
        if self.required:
            is_one = len(self.functions) == 1
            choice = _NAMED.format(self.functions[0].name) if is_one else _REQUIRED
        return _INSTRUCTION.format(
            opening=OPENING,
            closing=CLOSING,
            number="Write only one block."
            if single
            else "For several calls, write several blocks.",
            last="it" if single else "the last block",
            functions="\n".join(msgspec.json.encode(each).decode() for each in self.functions),
            choice=choice,
        )


def leave_functions(tools: list[msgspec.Raw]) -> tuple[list[msgspec.Raw], list[str]]:
    """Return the functions among tools, and the types of the other tools in ASCII.

    Raises:
        BadRequest: a tool is invalid, or all are too large.
    """
    check_size(sum(memoryview(raw).nbytes for raw in tools), "tools")
    kinds = [_kind(raw, f"tools[{number}]") for number, raw in enumerate(tools)]
    functions = [raw for raw, kind in zip(tools, kinds, strict=True) if kind == "function"]
    return functions, [ascii(kind[:50])[1:-1] for kind in kinds if kind != "function"]


def _kind(raw: msgspec.Raw, path: str) -> str:
    try:
        return msgspec.json.decode(raw, type=_Tool).type
    except msgspec.ValidationError as error:
        raise invalid_field(str(error), path) from None


def read_tools(request: ChatRequest) -> ToolUse | None:
    """Return the tools of a request, in either dialect; None if it asks for none.

    Raises:
        BadRequest: a definition is invalid or too large, or `tool_choice` names no tool.
    """
    if request.tools:
        if request.functions:
            raise BadRequest("`functions` and `tools` cannot be combined.", param="functions")
        functions = _definitions(request.tools, "tools")
        use = ToolUse(functions, single=request.parallel_tool_calls is False)
        return _chosen(use, request)
    if request.functions:
        use = ToolUse(_definitions(request.functions, "functions"), legacy=True)
        return _called(use, request)
    for name in request.asked_of_tools:
        raise BadRequest(f"`{name}` is only allowed when tools are given.", param=name)
    return None


def _chosen(use: ToolUse, request: ChatRequest) -> ToolUse | None:
    choice = request.tool_choice
    match choice:
        case "none":
            return None
        case None | "auto" | "required":
            return msgspec.structs.replace(use, required=choice == "required")
        case _ if choice.function is not None:
            return _only(use, [choice.function], "tool_choice", required=True)
        case _ if choice.allowed_tools is not None:
            allowed = choice.allowed_tools
            names = [tool.function for tool in allowed.tools]
            return _only(use, names, "tool_choice", required=allowed.mode == "required")
        case _:
            message = "Only functions are supported in `tool_choice`."
            raise UnsupportedParameter(message, param="tool_choice")


def _called(use: ToolUse, request: ChatRequest) -> ToolUse | None:
    match request.function_call:
        case "none":
            return None
        case None | "auto":
            return use
        case named:
            return _only(use, [named], "function_call", required=True)


def _only(use: ToolUse, names: list[FunctionName], param: str, *, required: bool) -> ToolUse:
    """Leave only the named functions."""
    defined = {function.name: function for function in use.functions}
    for name in names:
        if name.name not in defined:
            message = f"The function '{name.name[:100]}' in `{param}` is not among the tools."
            raise BadRequest(message, param=param)
    functions = [defined[name.name] for name in names]
    return msgspec.structs.replace(use, functions=functions, required=required)


def _definitions(given: list[msgspec.Raw], field: str) -> list[Function]:
    check_size(sum(memoryview(raw).nbytes for raw in given), field)
    return [_definition(raw, f"{field}[{number}]") for number, raw in enumerate(given)]


def _definition(raw: msgspec.Raw, path: str) -> Function:
    try:
        if path.startswith("tools"):
            tool = msgspec.json.decode(raw, type=_Tool)
            if tool.type != "function":
                message = f"Tools of type '{tool.type[:50]}' are not supported, only functions are."
                raise UnsupportedParameter(message, param=f"{path}.type")
            path += ".function"
            raw = tool.function
            if not memoryview(raw).nbytes:
                raise BadRequest(f"Missing required parameter: '{path}'.", param=path)
        function = msgspec.json.decode(raw, type=Function)
    except msgspec.ValidationError as error:
        raise invalid_field(str(error), path) from None
    check_depth(function.parameters, f"{path}.parameters")
    return function


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


def render_calls(calls: list[AssistantCall]) -> str:
    """Render calls that the assistant has made as it was asked to write them."""
    return "\n".join(
        f'{OPENING}\n{{"name": {msgspec.json.encode(call.function.name).decode()},'
        f' "arguments": {call.function.arguments or "{}"}}}\n{CLOSING}'
        for call in calls
    )


def result_tags(name: str) -> tuple[str, str]:
    """Return the lines around the result of a function, whose name may be unknown."""
    named = f" name={msgspec.json.encode(name).decode()}" if name else ""
    return f"<tool_result{named}>", "</tool_result>"


def names_of_calls(calls: Iterable[AssistantCall]) -> Mapping[str, str]:
    """Return the names of called functions by the ids of the calls."""
    return {call.id: call.function.name for call in calls if call.id}
