"""Replies to instructions in the prompt, as a model would give them: function calls and JSON. Pure.

The instructions are recognized loosely, by what any such prompt has to contain: the tags of calls
and results, and each function and schema as JSON that begins a line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import msgspec

from simulator.payload import Message
from simulator.script import Script

_CALL = "<tool_call>"
_RESULT = re.compile(r"<tool_result[^>]*>\n?(.*?)\n?</tool_result>", re.DOTALL)
_MUST_CALL = re.compile(r"must call (?:the function ([^\s.]+)|one of)")
_CORRECTION = "Reply again"
_JSON = "single JSON"
_OBJECT = re.compile(r"^ *(?=\{)", re.MULTILINE)
_DEEPEST = 8

_Schema = Mapping[str, object]


class Instructions(msgspec.Struct, frozen=True):
    """Instructions in a prompt, and how far the conversation has followed them.

    `must_call` is a function's name, or "" for any, or None. `schema` is that of a JSON answer, {}
    for any object. `corrections` is the number of times that another reply was asked for.
    """

    question: str
    functions: dict[str, _Schema]
    must_call: str | None
    schema: _Schema | None
    results: tuple[str, ...]
    corrections: int

    def reply(self, script: Script | None) -> str | None:
        """Return the text of the reply; None if it does not depend on the instructions."""
        called = self._called(script)
        if called and not self.results:
            return _blocks(called, script or Script(), self.functions)
        wanted = script is None or bool(script.call) or script.json is not None
        if self.schema is not None and wanted:
            return self._json(script or Script())
        if self.results and wanted:
            return f"The result is: {', '.join(self.results)}"
        return None

    def _called(self, script: Script | None) -> Sequence[str]:
        if script is not None:
            return script.call.split(",") if script.call and self.functions else ()
        if self.must_call is not None:
            return [self.must_call or next(iter(self.functions))]
        return [name for name in self.functions if name in self.question]

    def _json(self, script: Script) -> str:
        value = json.dumps(example(self.schema or {"type": "object"}), ensure_ascii=False)
        text = value if script.json is None else script.json
        if self.corrections < script.slips:
            text = text[:-1]
        return f"Here it is:\n```json\n{text}\n```" if script.fence else text


def read_instructions(messages: Sequence[Message]) -> Instructions:
    """Read the instructions, and all that came after the last question."""
    given = "\n".join(message.text for message in messages if message.author.role == "system")
    lines = list(_objects(given))
    functions = {str(line["name"]): _parameters(line) for line in lines if "name" in line}
    schemas = [line for line in lines if "name" not in line]
    must = _MUST_CALL.search(given)
    asked = max((n for n, message in enumerate(messages) if _is_question(message)), default=-1)
    after = [message.text for message in messages[asked + 1 :]]
    return Instructions(
        question=messages[asked].text if asked >= 0 else "",
        functions=functions if _CALL in given else {},
        must_call=(must[1] or "") if must and functions else None,
        schema=(schemas[-1] if schemas else {}) if _JSON in given else None,
        results=tuple(result for text in after for result in _RESULT.findall(text)),
        corrections=sum(_CORRECTION in text for text in after),
    )


def _is_question(message: Message) -> bool:
    """Check that a message is the user's own: no result of a call, and no wish for a correction."""
    is_answer = _RESULT.search(message.text) or _CORRECTION in message.text
    return message.author.role == "user" and not is_answer


def _objects(text: str) -> Iterator[dict[str, object]]:
    """Yield the JSON objects that begin at the beginning of a line, but for the example."""
    decoder, at = json.JSONDecoder(), 0
    while begin := _OBJECT.search(text, at):
        at = begin.end()
        try:
            value, at = decoder.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError):
            continue
        if value.get("name") != "the_function":
            yield value


def _parameters(function: Mapping[str, object]) -> _Schema:
    return cast(_Schema, function.get("parameters") or {})


def _blocks(names: Sequence[str], script: Script, functions: Mapping[str, _Schema]) -> str:
    blocks = []
    for name in names:
        made = json.dumps(example(functions.get(name, {}), {}), ensure_ascii=False)
        arguments = made if script.args is None else script.args
        call = f'{{"name": "{name}", "arguments": {arguments}}}'
        blocks.append(f"{_CALL}\n{call[:-1] if script.slips else call}\n</tool_call>")
    text = "\n".join(blocks)
    return f"Let me see.\n\n```json\n{text}\n```\nI wait." if script.fence else text


def example(schema: _Schema, root: _Schema | None = None, depth: int = 0) -> object:
    """Return a value that is valid against a plain schema, with the required properties alone."""
    root = schema if root is None or not root else root
    if depth > _DEEPEST:
        return None
    if isinstance(ref := schema.get("$ref"), str):
        return example(_resolved(ref, root), root, depth + 1)
    for choice in ("anyOf", "oneOf", "allOf"):
        if options := cast(Sequence[_Schema], schema.get(choice)):
            return example(options[0], root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if values := cast(Sequence[object], schema.get("enum")):
        return values[0]
    kind = schema.get("type", "object")
    match kind[0] if isinstance(kind, list) else kind:
        case "object":
            properties = cast(Mapping[str, _Schema], schema.get("properties", {}))
            wanted = cast(Sequence[str], schema.get("required") or properties)
            return {n: example(properties.get(n, {}), root, depth + 1) for n in wanted}
        case "array":
            return [example(cast(_Schema, schema.get("items", {})), root, depth + 1)]
        case "string":
            return "text"
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case _:
            return None


def _resolved(ref: str, root: _Schema) -> _Schema:
    found: object = root
    for name in ref.removeprefix("#/").split("/"):
        found = cast(Mapping[str, object], found).get(name, {})
    return cast(_Schema, found)
