"""What to answer: a frozen Script, read from a directive in a prompt or from a control call."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from simulator.errors import ErrorName, RefusedError, detail

Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]
AtLeastOne = Annotated[int, Meta(ge=1, le=1_000_000)]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]

Fault = Literal[
    "cut",
    "no_done",
    "done_unfinished",
    "unfinished_eof",
    "only_finished",
    "error_before",
    "error_after",
    "silence",
    "hang",
    "reset",
]


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One scripted answer. The package docstring explains every key."""

    words: Annotated[int, Meta(ge=0, le=1_000_000)] = 12
    text: str | None = None
    echo: bool = False
    interval: Seconds = 0.02
    burst: AtLeastOne = 1
    delay: Seconds = 0.05
    step: AtLeastOne = 4
    echoes: bool = False
    ping: Seconds = 0.0
    crlf: bool = False
    raw: bool = False
    pad: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    finish: Literal["stop", "max_tokens", "interrupted"] = "stop"
    block: Literal["prompt", "completion"] | None = None
    title: bool = False
    empty_at: Count = 0
    fault: Fault | None = None
    at: Count = 0
    at_word: Count = 0
    error: ErrorName | None = None
    clears_in: Count = 13078

    def pieces(self) -> list[str]:
        """What each text event adds to the answer."""
        if self.text is None:
            return [f" w{n}" if n else "w0" for n in range(self.words)]
        return [self.text[at : at + self.step] for at in range(0, len(self.text), self.step)]


class PostedScript(Script, frozen=True, forbid_unknown_fields=True):
    """A script from the control endpoint: for one bearer or for all, for n times or for good."""

    bearer: str | None = None
    times: AtLeastOne | None = None


_DIRECTIVE = re.compile(r"\[\[sim((?:\s[^\]]*)?)\]\]")
_UNKNOWN = re.compile(r"unknown field `([^`]*)`")
_ILL_TYPED = re.compile(r"(.*) - at `\$\.(\w+)`", re.DOTALL)
_KEYS = tuple(field.name for field in msgspec.structs.fields(Script))


def parse_directive(prompt: str) -> tuple[Script | None, str]:
    """The script inside a prompt, None without one, and the prompt without it, stripped.

    Raises RefusedError (400) when the directive cannot be understood.
    """
    found = _DIRECTIVE.search(prompt)
    if found is None:
        return None, prompt.strip()
    values: dict[str, str] = {}
    for word in found[1].split():
        key, equals, value = word.partition("=")
        if not equals:
            raise RefusedError(
                detail(400, f'The directive has "{word}" where key=value should be.')
            )
        values[key] = value
    if "text" in values:
        raise RefusedError(detail(400, 'The key "text" works only in POST /simulator/script.'))
    try:
        script = msgspec.convert(values, Script, strict=False)
    except msgspec.ValidationError as error:
        raise RefusedError(detail(400, _sentence(error))) from None
    return script, (prompt[: found.start()] + prompt[found.end() :]).strip()


def parse_posted(body: bytes) -> PostedScript:
    """The script in a control call's body. Raises RefusedError (400) when it makes no sense."""
    try:
        return msgspec.json.decode(body, type=PostedScript, strict=False)
    except msgspec.ValidationError as error:
        raise RefusedError(detail(400, _sentence(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RefusedError(detail(400, "The body must be a JSON object of script keys.")) from None


def _sentence(error: msgspec.ValidationError) -> str:
    if found := _UNKNOWN.search(str(error)):
        return f'There is no key "{found[1]}"; the keys are {", ".join(_KEYS)}.'
    if found := _ILL_TYPED.fullmatch(str(error)):
        return f'The key "{found[2]}" is wrong: {found[1]}.'
    return f"The script is wrong: {error}."


class ScriptBook:
    """The posted scripts in force."""

    def __init__(self) -> None:
        self._scripts: dict[str | None, PostedScript] = {}

    def post(self, script: PostedScript) -> None:
        """Replace the script of its bearer, or the one for everyone."""
        self._scripts[script.bearer] = script

    def take(self, bearer: str) -> Script | None:
        """The script for the bearer's next conversation, counted as one time; None if none."""
        whose = bearer if bearer in self._scripts else None
        script = self._scripts.get(whose)
        if script is not None and script.times is not None:
            if script.times == 1:
                del self._scripts[whose]
            else:
                self._scripts[whose] = msgspec.structs.replace(script, times=script.times - 1)
        return script

    def clear(self) -> None:
        """Forget every script."""
        self._scripts.clear()
