"""Linking of Lua scripts with the modules that they need.

The first line of a script or module names what it needs: `-- needs: clock, keys`. A module is a
chunk of Lua that returns a table, which its users see as a local variable of the module's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

_NEEDS = "-- needs: "


class LinkError(Exception):
    """A script needs a module that does not exist, or modules need each other in a circle."""


def needs(source: str) -> list[str]:
    """The modules that a script or module needs, by its first line."""
    first, _, _ = source.partition("\n")
    return first.removeprefix(_NEEDS).split(", ") if first.startswith(_NEEDS) else []


def link(script: str, modules: Mapping[str, str]) -> str:
    """The script after every module that it needs, directly or not: each once, in order of need.

    Raises:
        LinkError: a module is unknown, or modules need each other in a circle.
    """
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
        ordered = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise LinkError(f"Lua modules need each other: {' -> '.join(error.args[1])}") from error
    return "\n".join([*(_as_local(name, modules[name]) for name in ordered), script])


def _as_local(name: str, module: str) -> str:
    return f"local {name} = (function()\n{module}\nend)()"
