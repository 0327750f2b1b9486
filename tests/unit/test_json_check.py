"""Answers that should be JSON: found in the text, checked, and never checked for long."""

from __future__ import annotations

import json
from typing import Any

import pytest

from workers.json_check import JsonText, check_json

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"$ref": "#/$defs/age"}},
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {"age": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]}},
}


def checked(value: object, schema: Any = PERSON, seconds: float = 10.0) -> JsonText:
    text = value if isinstance(value, str) else json.dumps(value)
    return check_json(text, json.dumps(schema).encode() if schema else b"", seconds)


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Ann"}',
        '\n {"name": "Ann"} \n',
        '```json\n{"name": "Ann"}\n```',
        'Here it is:\n```\n{"name": "Ann"}\n```\nAnything else?',
        'Sure: {"name": "Ann"}. Bye!',
    ],
)
@pytest.mark.parametrize("schema", [PERSON, None])
def test_json_is_found_as_it_was_written(text: str, schema: Any) -> None:
    assert checked(text, schema) == JsonText('{"name": "Ann"}')


@pytest.mark.parametrize("text", ["Hello", "", "{", "```json\n{]\n```", "{'name': 1}", "{" * 5000])
def test_a_text_without_json_stays_as_it_is(text: str) -> None:
    found = checked(text)
    assert (found.text, found.problem) == (text, "invalid_json")


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({}, "$: 'name' is a required property"),
        ({"name": 1}, "$.name: 1 is not of type 'string'"),
        ({"name": "Ann", "age": -1}, "$.age"),
        ({"name": "Ann", "more": 1}, "$: Additional properties are not allowed"),
    ],
)
def test_a_mismatch_names_its_place(value: object, place: str) -> None:
    found = checked(value)
    assert found.problem == "schema_mismatch"
    assert found.reason.startswith(place)


def test_without_a_schema_any_object_is_valid_and_nothing_else() -> None:
    assert checked({}, None).problem is None
    assert checked([1], None).problem == "schema_mismatch"


@pytest.mark.parametrize(
    ("schema", "valid", "invalid"),
    [
        ({"pattern": "^a+$"}, "aa", "b"),
        ({"uniqueItems": True}, [{"a": 1}, {"a": 2}], [{"a": 1, "b": 2}, {"b": 2, "a": 1}]),
        ({"enum": ["a"]}, "a", "b"),
        (
            {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "null"}]},
            [None],
            [1],
        ),
    ],
)
def test_keywords_of_ours_are_checked(schema: object, valid: object, invalid: object) -> None:
    assert check_json(json.dumps(valid), json.dumps(schema).encode()).problem is None
    assert check_json(json.dumps(invalid), json.dumps(schema).encode()).problem == "schema_mismatch"


def doubling(levels: int) -> dict[str, object]:
    """A schema that is checked twice as often with each level."""
    twice = {f"l{n}": {"allOf": [{"$ref": f"#/$defs/l{n + 1}"}] * 2} for n in range(levels)}
    return {"$ref": "#/$defs/l0", "$defs": {**twice, f"l{levels}": {"type": "object"}}}


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"pattern": "^(a|aa)+$"}}},
        {"properties": {"a": {"pattern": "a" * 2000}}},
        doubling(40),
        {"$ref": "https://127.0.0.1:9/schema.json"},
        {"$ref": "#"},
        {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"type": "unknown"},
        {"properties": 7},
        {"$schema": ["x"], "items": 3, "required": 1},
        {"properties": {"a": {"pattern": "("}}},
        [1],
    ],
)
def test_a_hostile_schema_is_given_up(schema: object) -> None:
    value = {"a": "a" * 200 + "!"}
    text = json.dumps(value)
    found = check_json(text, json.dumps(schema).encode(), seconds=0.05)
    assert (found.text, found.problem) == (text, "not_checked")


def test_names_are_not_matched_with_patterns() -> None:
    schema = {"patternProperties": {"^(a|aa)+$": True}, "additionalProperties": False}
    assert checked({"a" * 200 + "!": 1}, schema).problem is None
