"""Lua scripts are linked with the modules that they need, and only with those."""

from __future__ import annotations

import pytest

from wire.line.scripts.linking import LinkError, link, needs

MODULES = {
    "clock": "return {now = 1}",
    "keys": "return {}",
    "pulse": "-- needs: clock, keys\nreturn {}",
    "jobs": "-- needs: keys, pulse\nreturn {}",
    "chicken": "-- needs: egg\nreturn {}",
    "egg": "-- needs: chicken\nreturn {}",
    "lost": "-- needs: nowhere\nreturn {}",
}


def linked(script: str) -> list[str]:
    """Names of the linked modules, in order."""
    lines = link(script, MODULES).splitlines()
    return [line.split()[1] for line in lines if line.endswith("= (function()")]


def test_the_first_line_names_what_a_script_needs() -> None:
    assert needs("-- needs: clock, keys\nreturn 1") == ["clock", "keys"]
    assert needs("-- A comment.\n-- needs: clock") == []
    assert needs("") == []


def test_each_module_comes_once_and_after_those_that_it_needs_itself() -> None:
    order = linked("-- needs: jobs, clock, keys\nreturn 1")
    assert sorted(order) == ["clock", "jobs", "keys", "pulse"]
    assert order.index("pulse") > max(order.index("clock"), order.index("keys"))
    assert order.index("jobs") > order.index("pulse")


def test_only_modules_that_are_needed_are_linked() -> None:
    assert linked("-- needs: clock\nreturn clock.now") == ["clock"]
    assert link("return 1", MODULES) == "return 1"


@pytest.mark.parametrize("script", ["-- needs: typo", "-- needs: lost"])
def test_an_unknown_module_is_refused(script: str) -> None:
    with pytest.raises(LinkError, match="no Lua module"):
        link(script, MODULES)


def test_modules_that_need_each_other_are_refused() -> None:
    with pytest.raises(LinkError, match="chicken"):
        link("-- needs: chicken", MODULES)
