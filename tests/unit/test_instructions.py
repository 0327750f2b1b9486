"""The simulator follows instructions in a prompt, whatever their exact words."""

from __future__ import annotations

import json

from simulator.instructions import read_instructions
from simulator.payload import Author, Content, Message

SCHEMA = {"properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"enum": [7, 8]}}}


def message(role: str, text: str) -> Message:
    return Message("id", Author(role), Content(parts=(text,)))


def replied(system: str, *later: str) -> str | None:
    messages = [message("system", system), *(message("user", text) for text in later)]
    return read_instructions(messages).reply(None)


def test_a_schema_is_found_wherever_it_begins_a_line() -> None:
    wanted = "Answer with a single JSON value."
    for schema in (json.dumps(SCHEMA), json.dumps(SCHEMA, indent=2), f"  {json.dumps(SCHEMA)}"):
        assert replied(f"{wanted} The schema:\n{schema}\nThanks.", "hi") == '{"a": 7}'


def test_a_function_is_called_only_if_it_is_needed() -> None:
    system = 'Write <tool_call>.\n{"name": "add"}'
    call = '<tool_call>\n{"name": "add", "arguments": {}}\n</tool_call>'
    assert replied(system, "hi") is None
    assert replied(system, "please add") == call
    assert replied(f"{system}\nYou must call the function add.", "hi") == call
    result = '<tool_result name="add">\n3\n</tool_result>'
    assert replied(system, "please add", result) == "The result is: 3"
