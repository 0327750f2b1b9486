"""Linking of Lua scripts with the modules that they need.

The first line of a script or module names what it needs: `-- needs: clock, keys`. A module is a
chunk of Lua that returns a table, which its users see as a local variable of the module's name.

Redis runs all of a script in each call, so functions that the script cannot reach are left out:
making them would take a tenth of the time of a call. A function begins with the word at the left
margin, and ends with its line or with an `end` at the margin.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter

_NEEDS = "-- needs: "
_FUNCTION = re.compile(
    r"^((?:local )?function ([\w.]+)\((?:[^\n]*\bend|.*?\nend)\n)", re.MULTILINE | re.DOTALL
)
_COMMENT = re.compile(r"--.*")
_WORD = re.compile(r"[A-Za-z_][\w.]*")


class LinkError(Exception):
    """A script needs a module that does not exist, or modules need each other in a circle."""


def needs(source: str) -> list[str]:
    """The modules that a script or module needs, by its first line."""
    first, _, _ = source.partition("\n")
    return first.removeprefix(_NEEDS).split(", ") if first.startswith(_NEEDS) else []


def link(script: str, modules: Mapping[str, str], *, whole: bool = False) -> str:
    """The script after every module that it needs, directly or not: each once, in order of need.

    `whole`: with functions that the script does not reach, too.

    Raises:
        LinkError: a module is unknown, or modules need each other in a circle.
    """
    needed = {name: modules[name] for name in _ordered(script, modules)}
    linked = needed if whole else _reached(script, needed)
    return "\n".join([*(_as_local(name, source) for name, source in linked.items()), script])


def _ordered(script: str, modules: Mapping[str, str]) -> list[str]:
    graph: dict[str, list[str]] = {}
    unseen = needs(script)
    while unseen:
        name = unseen.pop()
        if name not in modules:
            raise LinkError(f"there is no Lua module {name!r}")
        if name not in graph:
            graph[name] = needs(modules[name])
            unseen += graph[name]
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise LinkError(f"Lua modules need each other: {' -> '.join(error.args[1])}") from error


def _reached(script: str, modules: Mapping[str, str]) -> dict[str, str]:
    """The modules without the functions that the script does not reach."""
    pieces = {name: _split(source) for name, source in modules.items()}
    functions = {
        (module, name): text
        for module, split in pieces.items()
        for text, name in zip(split[1::3], split[2::3], strict=True)
    }
    owners: dict[str, list[str]] = {}
    for owner, name in functions:
        owners.setdefault(name, []).append(owner)
    unread = [("", script), *((module, "".join(split[::3])) for module, split in pieces.items())]
    reached: set[tuple[str, str]] = set()
    while unread:
        module, text = unread.pop()
        used = {
            (owner, name)
            for name in owners.keys() & _words(text)
            for owner in owners[name]
            if "." in name or owner == module
        }
        unread += ((owner, functions[owner, name]) for owner, name in used - reached)
        reached |= used
    return {module: "".join(_kept(module, split, reached)) for module, split in pieces.items()}


@cache
def _split(module: str) -> tuple[str, ...]:
    """The text before the first function; then of each its text, its name, and the text after."""
    return tuple(_FUNCTION.split(module + "\n"))


@cache
def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(_COMMENT.sub("", text)))


def _kept(module: str, split: tuple[str, ...], reached: set[tuple[str, str]]) -> Iterator[str]:
    yield split[0]
    for text, name, after in zip(split[1::3], split[2::3], split[3::3], strict=True):
        yield (text if (module, name) in reached else "") + after


def _as_local(name: str, module: str) -> str:
    return f"local {name} = (function()\n{module}\nend)()"
