"""Scripts of answers, read from a directive in a prompt or from a control call."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from simulator.directive import ScriptError, read_directive, read_posted
from simulator.errors import ErrorName, RefusedError, detail
from simulator.speech import AtLeastOne, Count, Seconds, Speech
from simulator.steps import Cite, Crash, Few, Step

Tool = Literal["python", "browser", "dalle", "files", "action"]

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


class Script(Speech, frozen=True, forbid_unknown_fields=True):
    """One scripted answer. docs/simulator.md explains every key."""

    linger: Seconds = 0.0
    echoes: bool = False
    raw: bool = False
    pad: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    finish: Literal["stop", "max_tokens", "interrupted"] = "stop"
    block: Literal["prompt", "completion"] | None = None
    title: bool = False
    empty_at: Count = 0
    fault: Fault | None = None
    error: ErrorName | None = None
    clears_in: Count = 13078

    tool: Tool | None = None
    opening: bool = False
    messages: AtLeastOne = 1
    early: bool = False
    work: Seconds = 0.0
    calls: Annotated[int, Meta(ge=1, le=100)] = 1
    images: Few | None = None
    shape: Literal["code", "text"] = msgspec.field(default="code", name="as")
    code: str | None = None
    output: str | None = None
    crash: Crash | None = None
    link: str | None = None
    size: Annotated[int, Meta(ge=0, le=1_000_000_000_000)] = 0
    citations: Few = 0
    marker: str = "source"
    cite: Cite = "now"
    policy: bool = False
    confirm: bool = True
    consequential: bool = False
    steps: tuple[Step, ...] = ()
    v1: bool = False

    slips: Few = 0
    fence: bool = False

    arkose: bool = False
    account: Literal["sse", "websocket"] | None = None
    strangers: Few = 0
    frame: Count = 0
    socket: Literal["drop", "close", "refuse"] | None = None
    at_frame: Count = 0
    register: Literal["html", "404", "nowhere"] | None = None
    upload: Literal["error", "403", "put", "uploaded"] | None = None
    index: Few = 2
    download: Literal["error", "403", "404", "410", "500"] | None = None
    blob: Literal["403", "404", "500", "cut", "stall"] | None = None
    sandbox: Literal["expired", "404", "500"] | None = None
    gizmo: Literal["404", "html"] | None = None
    token: Literal["empty", "html", "500"] | None = None


class PostedScript(Script, frozen=True, forbid_unknown_fields=True):
    """A script from the control endpoint, for one bearer or all, n times or forever.

    `model`: for conversations with this model alone.
    """

    bearer: str | None = None
    model: str | None = None
    times: AtLeastOne | None = None


def parse_directive(prompt: str) -> tuple[Script | None, str]:
    """Return the script inside a prompt, or None, and the prompt without it, stripped.

    Raises RefusedError (400) if the directive is invalid.
    """
    try:
        return read_directive(prompt, Script)
    except ScriptError as error:
        raise RefusedError(detail(400, str(error))) from None


def parse_posted(body: bytes) -> PostedScript:
    """Decode the script in a control call's body. Raises RefusedError (400) if it is invalid."""
    try:
        return read_posted(body, PostedScript)
    except ScriptError as error:
        raise RefusedError(detail(400, str(error))) from None


_NOTHING = Script()


class ScriptBook:
    """The posted scripts in force."""

    def __init__(self) -> None:
        self._scripts: dict[str | None, PostedScript] = {}

    def post(self, script: PostedScript) -> None:
        """Replace the script of its bearer, or the one for everyone."""
        self._scripts[script.bearer] = script

    def take(self, bearer: str, model: str) -> Script | None:
        """Return the script, if any, for the bearer's next conversation, and count it."""
        fitting = (whose for whose in (bearer, None) if self._fits(whose, model))
        whose = next(fitting, None)
        script = self._scripts.get(whose) if self._fits(whose, model) else None
        if script is not None and script.times is not None:
            if script.times == 1:
                del self._scripts[whose]
            else:
                self._scripts[whose] = msgspec.structs.replace(script, times=script.times - 1)
        return script

    def _fits(self, whose: str | None, model: str) -> bool:
        script = self._scripts.get(whose)
        return script is not None and script.model in (None, model)

    def standing(self, bearer: str | None) -> Script:
        """Return the script that is in force for an account, without counting it.

        For everything outside a conversation: uploads, sockets, gizmos, tokens.
        """
        return self._scripts.get(bearer) or self._scripts.get(None) or _NOTHING

    def clear(self) -> None:
        """Forget every script."""
        self._scripts.clear()
