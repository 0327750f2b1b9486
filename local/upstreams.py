"""The model server that `make run` starts if the settings name none."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

import settings
from local import llama

SIMULATOR, LLAMA = "simulator", "llama.cpp"

LLAMA_ANSWER = "Hello! I am a tiny model with random weights, and a grammar makes me say this."

Choice: TypeAlias = Literal["", "llama"]
"""Server that the command line asks for; empty, the settings decide."""


class LocalUpstream(msgspec.Struct, frozen=True):
    """A model server as a child process.

    `ready` matches the line that it prints with its address. The settings `environ` are for the
    roles, with that address in addition. `question` are further fields of the sample question.
    """

    name: str
    command: tuple[str, ...]
    ready: re.Pattern[str]
    environ: Mapping[str, str]
    question: Mapping[str, object] = {}


def choose(config: settings.Settings, choice: Choice) -> LocalUpstream | None:
    """Return the server to start; None if the settings name one."""
    if choice == "llama":
        return _llama()
    main = config.upstreams.get(settings.MAIN)
    if main is None or main.base_url:
        return None
    return _openai_simulator() if main.kind == "openai" else _simulator(main)


def _simulator(limits: settings.Upstream) -> LocalUpstream:
    # Its caps are those that the settings assume of the upstream.
    arguments = (
        *("--max-active", str(max(64, limits.max_concurrency))),
        *("--per-account", str(limits.per_account_concurrency)),
        *("--per-pool", str(limits.per_pool_concurrency)),
    )
    return _simulator_with(*arguments, environ={"GATEWAY__UPSTREAM__API_PREFIX": ""})


def _openai_simulator() -> LocalUpstream:
    return _simulator_with("--kind", "openai", environ={})


def _simulator_with(*arguments: str, environ: Mapping[str, str]) -> LocalUpstream:
    return LocalUpstream(
        SIMULATOR,
        (sys.executable, "-m", "simulator", "--port", "0", *arguments),
        re.compile(r"simulator ready on (\S+)"),
        environ,
    )


def _llama() -> LocalUpstream:
    return LocalUpstream(
        LLAMA,
        # Its noise ends by itself only now and then.
        (str(llama.PYTHON), "-m", "local.llama", "--port", "0", "--slots", "2", "--predict", "256"),
        llama.READY,
        {
            "GATEWAY__UPSTREAM__KIND": "openai",
            "GATEWAY__UPSTREAM__CREDENTIAL": "",
            "GATEWAY__UPSTREAM__CREDENTIAL_FILE": "",
            "GATEWAY__UPSTREAM__MODELS": "{}",
            "GATEWAY__UPSTREAM__MAX_CONCURRENCY": "0",
        },
        {"grammar": f'root ::= "{LLAMA_ANSWER}"'},
    )
