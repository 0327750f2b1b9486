"""Tools and JSON formats in requests: read within bounds, and made a part of the prompt."""

from __future__ import annotations

import json
from typing import Any

import pytest

import settings
from app.openai.bounds import DEEPEST_SCHEMA, LONGEST_SCHEMAS
from app.openai.emulation import Emulation, emulate
from app.openai.errors import BadRequest, UnsupportedParameter
from app.openai.messages import to_messages
from app.openai.requests import ChatRequest, decode_chat
from app.openai.tool_calls import CallRules, ToolCall, ToolCallReader
from wire.jobs import Attachment, JsonAnswer, Message

WEATHER = {"name": "get_weather", "parameters": {"type": "object"}}
TIME = {"name": "get_time", "description": "The time."}


def tool(function: object, **more: object) -> dict[str, object]:
    return {"type": "function", "function": function, **more}


def decoded(**fields: object) -> ChatRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    return decode_chat(json.dumps(body).encode())


def emulated(compat: settings.Compat | None = None, **fields: Any) -> Emulation:
    return emulate(decoded(**fields), compat or settings.Compat())


def instruction(**fields: Any) -> str:
    """The only message that is added to the prompt."""
    user = Message("user", "hi")
    added, asked = emulated(**fields).instruct([user])
    assert (added.role, asked) == ("system", user)
    return added.text


def test_a_prompt_without_tools_stays_as_it_is() -> None:
    none: dict[str, Any] = {"tools": [tool(WEATHER)], "tool_choice": "none"}
    for made in (emulated(), emulated(tools=[]), emulated(**none)):
        assert made == Emulation()
        assert made.instruct([Message("user", "hi")]) == [Message("user", "hi")]


def test_the_definitions_follow_the_system_messages_of_the_client() -> None:
    before = [Message("system", "a"), Message("system", "b"), Message("user", "c")]
    made = emulated(tools=[tool(WEATHER, strict=True), tool(TIME)]).instruct(before)
    assert [*made[:2], made[3]] == before
    lines = made[2].text.splitlines()
    assert json.dumps(WEATHER, separators=(",", ":")) in lines
    assert json.dumps(TIME, separators=(",", ":")) in lines


def test_tools_that_cannot_be_emulated_are_left_out_by_name() -> None:
    others = [{"type": kind} for kind in ("web_search", "local_shell", "odd\n", "web_search")]
    made = emulated(tools=[*others, tool(TIME)])
    assert made.tools is not None
    assert [function.name for function in made.tools.functions] == ["get_time"]
    ignored = "tools (web_search), tools (local_shell), tools (odd\\n)"
    assert made.headers() == {"x-ignored-parameters": ignored}
    assert emulated(tools=others[:1]).headers() == {"x-ignored-parameters": "tools (web_search)"}
    assert emulated(tools=others).tools is None
    with pytest.raises(UnsupportedParameter, match=r"support.*compat\.tools"):
        emulated(settings.Compat(tools="refuse"), tools=[*others, tool(TIME)])
    for choice in ("required", {"type": "web_search"}):
        with pytest.raises(UnsupportedParameter) as refused:
            emulated(tools=others, tool_choice=choice)
        assert refused.value.param == "tool_choice"


GRAMMAR = {"syntax": "lark", "definition": "start: NUMBER"}
PATCH = {"name": "patch", "description": "Changes files."}


@pytest.mark.parametrize(
    "form", [{"type": "grammar", "grammar": GRAMMAR}, {"type": "grammar", **GRAMMAR}]
)
def test_a_custom_tool_is_a_function_of_a_text(form: object) -> None:
    patch = {"type": "custom", "custom": PATCH | {"format": form}}
    rules = CallRules(frozenset({"patch"}), custom=frozenset({"patch"}))
    assert emulated(tools=[patch]).call_rules == rules
    (line,) = [line for line in instruction(tools=[patch]).splitlines() if "Changes" in line]
    schema = json.loads(line)["parameters"]
    assert schema["required"] == ["input"]
    said = schema["properties"]["input"]["description"]
    assert "lark" in said
    assert "start: NUMBER" in said
    chosen = {"type": "custom", "custom": {"name": "patch"}}
    assert "must call the function patch" in instruction(tools=[patch], tool_choice=chosen)
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [chosen]}}
    assert emulated(tools=[tool(TIME), patch], tool_choice=allowed).call_rules == rules


def test_a_call_of_a_custom_tool_is_part_of_the_conversation() -> None:
    call = {"id": "1", "type": "custom", "custom": {"name": "patch", "input": 'a "b"\n'}}
    said = [
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "done"},
    ]
    arguments = '{"input":"a \\"b\\"\\n"}'
    block = f'<tool_call>\n{{"name": "patch", "arguments": {arguments}}}\n</tool_call>'
    assert to_messages(decoded(messages=said).messages, {}) == [
        Message("assistant", block),
        Message("user", '<tool_result name="patch">\ndone\n</tool_result>'),
    ]


def test_the_form_that_the_prompt_shows_is_the_form_that_is_read() -> None:
    text = instruction(tools=[tool(WEATHER)])
    shown = text[text.index("<tool_call>") :]
    call = ToolCall("the_function", '{"argument": "value"}')
    assert ToolCallReader(CallRules(frozenset({"the_function"}))).add(shown) == [call]


@pytest.mark.parametrize(
    ("choice", "names", "says"),
    [
        ("auto", {"get_weather", "get_time"}, "only if you need it"),
        ("required", {"get_weather", "get_time"}, "must call one of these functions"),
        (tool({"name": "get_time"}), {"get_time"}, "must call the function get_time"),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [tool({"name": "get_time"})]},
            },
            {"get_time"},
            "only if you need it",
        ),
    ],
)
def test_a_choice_is_an_instruction(choice: object, names: set[str], says: str) -> None:
    fields: dict[str, Any] = {"tools": [tool(WEATHER), tool(TIME)], "tool_choice": choice}
    assert emulated(**fields).call_rules == CallRules(frozenset(names))
    text = instruction(**fields)
    assert says in text
    assert ("get_weather" in text) == ("get_weather" in names)


def test_functions_are_tools_with_one_call() -> None:
    named = CallRules(frozenset({"get_time"}), single=True, legacy=True)
    fields: dict[str, Any] = {"functions": [WEATHER, TIME], "function_call": {"name": "get_time"}}
    assert emulated(**fields).call_rules == named
    assert "only one block" in instruction(functions=[WEATHER])
    assert emulated(functions=[WEATHER], function_call="none") == Emulation()


def test_one_call_is_asked_for_and_read_without_parallel_calls() -> None:
    fields: dict[str, Any] = {"tools": [tool(WEATHER)], "parallel_tool_calls": False}
    assert emulated(**fields).call_rules == CallRules(frozenset({"get_weather"}), single=True)
    assert "only one block" in instruction(**fields)


def nested(levels: int) -> object:
    schema: object = {}
    for _ in range(levels - 1):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [tool(WEATHER), tool({"name": ""})]}, "tools[1].function.name"),
        ({"tools": [tool({"name": "f", "parameters": 1})]}, "tools[0].function.parameters"),
        ({"tools": [tool({})]}, "tools[0].function.name"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "custom"}]}, "tools[0].custom"),
        ({"tools": [{"type": "custom", "custom": {"name": 1}}]}, "tools[0].custom.name"),
        ({"tools": [tool(TIME), {"type": "namespace", "tools": [{}]}]}, "tools[1].tools[0].name"),
        ({"tools": [{"type": 1}]}, "tools[0].type"),
        ({"functions": [WEATHER, 7]}, "functions[1]"),
        ({"tools": [tool(WEATHER)], "functions": [WEATHER]}, "functions"),
        ({"tools": [tool(WEATHER)] * 129}, "tools"),
        ({"tools": [tool({"name": "f", "description": "x" * LONGEST_SCHEMAS})]}, "tools"),
        (
            {"tools": [tool({"name": "f", "parameters": nested(DEEPEST_SCHEMA + 2)})]},
            "tools[0].function.parameters",
        ),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [tool(WEATHER)], "tool_choice": tool(TIME)}, "tool_choice"),
        ({"tools": [tool(WEATHER)], "tool_choice": {"type": "custom"}}, "tool_choice"),
        ({"functions": [WEATHER], "function_call": {"name": "x"}}, "function_call"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": [1]}}},
            "response_format.json_schema.schema",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"schema": {"const": "x" * LONGEST_SCHEMAS}},
                }
            },
            "response_format.json_schema.schema",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"schema": nested(DEEPEST_SCHEMA + 2)},
                }
            },
            "response_format.json_schema.schema",
        ),
    ],
)
def test_an_invalid_definition_is_refused_with_its_field(
    fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        emulated(**fields)
    assert caught.value.param == param


def test_a_schema_of_the_greatest_depth_is_accepted() -> None:
    schema = nested(DEEPEST_SCHEMA)
    assert emulated(tools=[tool({"name": "f", "parameters": schema})]).tools
    json_schema = {"name": "x", "schema": schema}
    assert emulated(response_format={"type": "json_schema", "json_schema": json_schema}).format


def test_json_is_asked_for_and_checked() -> None:
    fields: dict[str, Any] = {"response_format": {"type": "json_object"}}
    assert "a single JSON object" in instruction(**fields)
    assert emulated(**fields).json_answer == JsonAnswer()
    schema = {"type": "object", "title": "Städte"}
    form = {"name": "cities", "schema": schema}
    fields = {"response_format": {"type": "json_schema", "json_schema": form}}
    encoded = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    assert instruction(**fields).splitlines()[-1] == encoded
    assert emulated(**fields).json_answer == JsonAnswer(encoded.encode())
    with_tools = emulated(**fields, tools=[tool(WEATHER)])
    assert with_tools.json_answer == JsonAnswer(encoded.encode(), "<tool_call>")
    assert "Unless you call a function" in with_tools.instruct([])[0].text


def test_each_setting_decides_about_its_own_fields() -> None:
    tools, form = {"tools": [tool(WEATHER)]}, {"response_format": {"type": "json_object"}}
    ignoring = settings.Compat(ignore_unsupported=True)
    assert emulated(ignoring, **tools, **form, n=2).ignored == ("n", "tools", "response_format")
    chosen = settings.Compat(tools="emulate", json="refuse", ignore_unsupported=True)
    made = emulated(chosen, **tools, n=2)
    assert made.tools
    assert made.headers() == {"x-ignored-parameters": "n"}
    with pytest.raises(UnsupportedParameter, match=r"support.*compat\.json"):
        emulated(chosen, **form)
    with pytest.raises(UnsupportedParameter, match=r"support.*compat\.ignore_unsupported"):
        emulated(n=2)


def test_calls_and_results_of_earlier_turns_are_part_of_the_conversation() -> None:
    call = {"name": "f", "arguments": '{"a": 1}'}
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    said = [
        {"role": "assistant", "content": "Well.", "tool_calls": [{"id": "1", "function": call}]},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "x"}, picture]},
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "f", "content": None},
    ]
    file = Attachment("a.png", "image/png", 1, "0" * 64)
    block = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
    files = {"messages[1].output[1].image_url.url": file}
    assert to_messages(decoded(messages=said).messages, files) == [
        Message("assistant", f"Well.\n\n{block}"),
        Message("user", ['<tool_result name="f">', "x", file, "</tool_result>"]),
        Message("assistant", block),
        Message("user", '<tool_result name="f">\n\n</tool_result>'),
    ]
