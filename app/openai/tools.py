"""Tools as a part of the prompt, since the upstream has none of the client's own. Pure.

The definitions are a system message, a call that the assistant has made is a block in its text, and
a result is a message of the user. `tool_calls.py` reads the blocks of the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from app.openai.errors import BadRequest, UnsupportedParameter
from app.openai.requests import AssistantCall, ChatRequest, FunctionName
from app.openai.tool_calls import CLOSING, OPENING, CallRules
from app.openai.tool_definitions import Definitions, Function, read_definitions

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
_ONLY_FUNCTIONS = (
    "`tool_choice` asks for a tool that is not supported: only functions and custom tools are."
)
_NAMED = "Your next reply must call the function {}."


class ToolUse(msgspec.Struct, frozen=True):
    """Tools that one answer may call. `required`: it has to call one. `single`: at most one.

    `custom` are the names of those with a free text, `namespaces` those of the others by name.
    """

    functions: list[Function]
    custom: frozenset[str] = frozenset()
    namespaces: Mapping[str, str] = {}
    required: bool = False
    single: bool = False
    legacy: bool = False
    """True for OpenAI's first dialect: `functions` and `function_call`."""

    @property
    def rules(self) -> CallRules:
        """Rules for reading the calls of an answer."""
        names = frozenset(function.name for function in self.functions)
        return CallRules(
            names,
            single=self.single or self.legacy,
            legacy=self.legacy,
            custom=self.custom,
            namespaces=self.namespaces,
        )

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


def read_tools(request: ChatRequest) -> tuple[ToolUse | None, Sequence[str]]:
    """Return the tools of a request, in either dialect; None if it asks for none.

    Also return the types of the tools that are left out, since they cannot be emulated.

    Raises:
        BadRequest: a definition is invalid or too large, or `tool_choice` names no tool.
    """
    if request.tools:
        if request.functions:
            raise BadRequest("`functions` and `tools` cannot be combined.", param="functions")
        read = read_definitions(request.tools, "tools")
        return _chosen(_tool_use(read, request), request), read.others
    if request.functions:
        use = ToolUse(read_definitions(request.functions, "functions").functions, legacy=True)
        return _called(use, request), ()
    for name in request.asked_of_tools:
        raise BadRequest(f"`{name}` is only allowed when tools are given.", param=name)
    return None, ()


def _tool_use(read: Definitions, request: ChatRequest) -> ToolUse:
    return ToolUse(
        read.functions,
        frozenset(read.custom),
        read.namespaces,
        single=request.parallel_tool_calls is False,
    )


def _chosen(use: ToolUse, request: ChatRequest) -> ToolUse | None:
    choice = request.tool_choice
    match choice:
        case "none":
            return None
        case None | "auto":
            return use if use.functions else None
        case "required" if use.functions:
            return msgspec.structs.replace(use, required=True)
        case "required":
            pass
        case _ if named := choice.function or choice.custom:
            return _only(use, [named], "tool_choice", required=True)
        case _ if allowed := choice.allowed_tools:
            names = [name for tool in allowed.tools if (name := tool.function or tool.custom)]
            if names:
                return _only(use, names, "tool_choice", required=allowed.mode == "required")
    raise UnsupportedParameter(_ONLY_FUNCTIONS, param="tool_choice")


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


def render_calls(calls: list[AssistantCall]) -> str:
    """Render calls that the assistant has made as it was asked to write them."""
    return "\n".join(
        f'{OPENING}\n{{"name": {msgspec.json.encode(call.called.name).decode()},'
        f' "arguments": {call.called.arguments or "{}"}}}\n{CLOSING}'
        for call in calls
    )


def result_tags(name: str, *, is_error: bool = False) -> tuple[str, str]:
    """Return the lines around the result of a function, whose name may be unknown."""
    named = f" name={msgspec.json.encode(name).decode()}" if name else ""
    failed = ' is_error="true"' if is_error else ""
    return f"<tool_result{named}{failed}>", "</tool_result>"


def names_of_calls(calls: Iterable[AssistantCall]) -> Mapping[str, str]:
    """Return the names of called functions by the ids of the calls."""
    return {call.id: call.called.name for call in calls if call.id}
