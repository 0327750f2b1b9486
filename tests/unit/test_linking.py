"""Lua scripts are linked with the modules that they need, and only with those."""

from __future__ import annotations

import pytest
from lupa.lua51 import LuaRuntime

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


DEEP = {
    "one": """-- needs: two
local one = {}
local function inner(n)
  return two.value(n)
end
function one.used(n) return inner(n) end
function one.unused() return two.other() end
return one
""",
    "two": """local two = {}
two.constant = 1
function two.value(n) return n + two.constant end -- one.unused
function two.other() end
return two
""",
}


def test_functions_that_a_script_does_not_reach_are_left_out() -> None:
    script = "-- needs: one\nreturn one.used(1)"
    assert LuaRuntime().execute(link(script, DEEP)) == 2
    linked = link(script, DEEP)
    assert "function one.unused" not in linked
    assert "function two.other" not in linked
    assert "function one.unused" in link(script, DEEP, whole=True)


def test_a_function_that_is_passed_on_is_reached() -> None:
    script = "-- needs: two\nlocal f = two.value\nreturn f(2)"
    assert LuaRuntime().execute(link(script, DEEP)) == 3
