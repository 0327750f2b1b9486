"""Reading of scripts: a directive in a prompt, `[[sim words=3]]`, or the body of a control call."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

S = TypeVar("S", bound=msgspec.Struct)

_DIRECTIVE = re.compile(r"\[\[sim((?:\s[^\]]*)?)\]\]")
_UNKNOWN = re.compile(r"unknown field `([^`]*)`")
_ILL_TYPED = re.compile(r"(.*) - at `\$\.(\w+)`", re.DOTALL)


class ScriptError(Exception):
    """A script is invalid; the message is a sentence that names the key."""


def read_directive(prompt: str, kind: type[S]) -> tuple[S | None, str]:
    """Return the script inside a prompt, or None, and the prompt without it, stripped.

    Raises ScriptError if the directive is invalid.
    """
    found = _DIRECTIVE.search(prompt)
    if found is None:
        return None, prompt.strip()
    values: dict[str, str] = {}
    for word in found[1].split():
        key, equals, value = word.partition("=")
        if not equals:
            raise ScriptError(f'The directive has "{word}" where key=value should be.')
        values[key] = value
    if "text" in values:
        raise ScriptError('The key "text" works only in POST /simulator/script.')
    try:
        script = msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise ScriptError(_sentence(error, kind)) from None
    return script, (prompt[: found.start()] + prompt[found.end() :]).strip()


def read_posted(body: bytes, kind: type[S]) -> S:
    """Decode the script in a control call's body. Raises ScriptError if it is invalid."""
    try:
        return msgspec.json.decode(body, type=kind, strict=False)
    except msgspec.ValidationError as error:
        raise ScriptError(_sentence(error, kind)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ScriptError("The body must be a JSON object of script keys.") from None


def _sentence(error: msgspec.ValidationError, kind: type[msgspec.Struct]) -> str:
    if found := _UNKNOWN.search(str(error)):
        keys = ", ".join(field.encode_name for field in msgspec.structs.fields(kind))
        return f'There is no key "{found[1]}"; the keys are {keys}.'
    if found := _ILL_TYPED.fullmatch(str(error)):
        return f'The key "{found[2]}" is wrong: {found[1]}.'
    return f"The script is wrong: {error}."
