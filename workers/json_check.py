"""Checks that the text of an answer is JSON, and valid against a schema. Pure, for a thread."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from wire.events import FormatProblem

_LONGEST_REASON = 300


class JsonText(msgspec.Struct, frozen=True):
    """The JSON in a text, without code fences and prose around it; the whole text if it has none.

    `reason` says what is wrong with it, in the model's words for a correction.
    """

    text: str
    problem: FormatProblem | None = None
    reason: str = ""


def check_json(text: str, schema: bytes, seconds: float = 1.0) -> JsonText:
    """Check a text against an encoded schema; b"" accepts any object.

    `seconds` is the processor time after which the check gives up.
    """
    first_error = ""
    for candidate in _candidates(text):
        try:
            value = msgspec.json.decode(candidate)
        except (msgspec.DecodeError, RecursionError) as error:
            first_error = first_error or str(error)
            continue
        if not schema:
            is_object = isinstance(value, dict)
            return JsonText(candidate) if is_object else _mismatch(candidate, "it is not an object")
        return _validate(candidate, value, msgspec.json.decode(schema), seconds)
    return JsonText(text, "invalid_json", first_error[:_LONGEST_REASON])


def _candidates(text: str) -> Iterator[str]:
    """Yield the parts of an answer that may be its JSON: all, a code block, an object in prose."""
    yield text.strip()
    begin, end = text.find("```"), text.rfind("```")
    if 0 <= begin < end:
        yield text[begin:end].partition("\n")[2].strip()
    begin, end = text.find("{"), text.rfind("}")
    if 0 <= begin < end:
        yield text[begin : end + 1]


def _mismatch(text: str, reason: str) -> JsonText:
    return JsonText(text, "schema_mismatch", reason[:_LONGEST_REASON])


def _validate(text: str, value: object, schema: object, seconds: float) -> JsonText:
    from workers.json_schema import NotCheckedError, find_mismatch  # here: few workers ever need it

    try:
        reason = find_mismatch(value, schema, seconds)
    except NotCheckedError as error:
        return JsonText(text, "not_checked", str(error))
    return _mismatch(text, reason) if reason else JsonText(text)
