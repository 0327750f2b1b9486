"""JSON Schema of clients: values are validated against it, and never for long. Pure, for a thread.

Schemas and patterns come from clients, and one may be made to take for ever. So all work on one
answer ends after a bounded processor time, checked before each keyword; patterns run in an engine
that stops at a time and does not hold the interpreter's lock; nothing is ever fetched. The
keywords `patternProperties` and `unevaluated...` and the names of formats are not checked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

import jsonschema
import msgspec
import referencing
import regex
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator

LONGEST_PATTERN = 1_000
_UNCHECKED = ("patternProperties", "unevaluatedItems", "unevaluatedProperties")

_Errors = Iterator[ValidationError]
_Keyword = Callable[[Validator, object, object, Mapping[str, object]], _Errors | None]


class NotCheckedError(Exception):
    """The value cannot be validated; the message is the reason."""


class _TooMuchWork(Exception):
    """The processor time for one answer is used up."""


def find_mismatch(value: object, schema: object, seconds: float) -> str:
    """Return the first mismatch of a value, "" if it is valid.

    `seconds` is the processor time after which the check gives up.

    Raises:
        NotCheckedError: that time is up, or the schema is invalid.
    """
    try:
        error = next(_validator(schema, time.thread_time() + seconds).iter_errors(value), None)
    except _TooMuchWork:
        raise NotCheckedError("the schema takes too long to check") from None
    except Exception:  # the library raises anything for a value that is no schema
        raise NotCheckedError("the schema is invalid") from None
    return f"{error.json_path}: {error.message}" if error else ""


def _validator(schema: object, deadline: float) -> Validator:
    kind = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    ours: dict[str, _Keyword] = {
        "pattern": _pattern(deadline),
        "uniqueItems": _unique_items,
        "additionalProperties": _additional_properties(
            kind.VALIDATORS.get("additionalProperties", _nothing)
        ),
        **dict.fromkeys(_UNCHECKED, _nothing),
    }
    keywords = {
        name: _timed(ours.get(name, keyword), deadline) for name, keyword in kind.VALIDATORS.items()
    }
    # A registry of its own: the default one fetches schemas by their URL.
    return jsonschema.validators.extend(kind, keywords)(schema, registry=referencing.Registry())


def _timed(keyword: _Keyword, deadline: float) -> _Keyword:
    def check(
        validator: Validator, value: object, instance: object, schema: Mapping[str, object]
    ) -> _Errors:
        if time.thread_time() > deadline:
            raise _TooMuchWork
        return keyword(validator, value, instance, schema) or iter(())

    return check


def _nothing(*_: object) -> None:
    """Check nothing."""


def _pattern(deadline: float) -> _Keyword:
    def check(_: Validator, pattern: object, instance: object, __: Mapping[str, object]) -> _Errors:
        if not isinstance(instance, str):
            return
        if not isinstance(pattern, str) or len(pattern) > LONGEST_PATTERN:
            raise _TooMuchWork
        left = max(0.001, deadline - time.thread_time())
        try:
            found = regex.search(pattern, instance, timeout=left, concurrent=True)
        except TimeoutError:
            raise _TooMuchWork from None
        if found is None:
            yield ValidationError(f"the text does not match the pattern {pattern}")

    return check


def _unique_items(
    _: Validator, unique: object, instance: object, __: Mapping[str, object]
) -> _Errors:
    # The library compares each two items if they cannot be sorted.
    if unique and isinstance(instance, list):
        seen = {msgspec.json.encode(item, order="sorted") for item in instance}
        if len(seen) < len(instance):
            yield ValidationError("two items of the array are the same")


def _additional_properties(keyword: _Keyword) -> _Keyword:
    def check(
        validator: Validator, value: object, instance: object, schema: Mapping[str, object]
    ) -> _Errors | None:
        # The library would search names for patterns with an engine that knows no time.
        if "patternProperties" in schema:
            return None
        return keyword(validator, value, instance, schema)

    return check
