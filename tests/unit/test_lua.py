"""`make check` finds what is wrong with a Lua script."""

from __future__ import annotations

import pytest

from tests.lua import faults

MODULES = {
    "clock": "local clock = {}\nfunction clock.now() return 1 end\nreturn clock",
    "keys": "return {job = 'job'}",
}


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("return no", "undefined global: no"),
        ("local function inner() return {x = no} end return inner()", "undefined global: no"),
        ("typo = 1", "undefined global: typo"),
        ("do local inner = 1 end return inner", "undefined global: inner"),
        ("return clock.now()", "undefined global: clock"),
        ("-- needs: clock\nreturn clock.then_()", "undefined: clock.then_"),
        ("-- needs: clock, keys\nreturn clock.now()", "needed but not used: keys"),
        ("-- needs: nowhere\nreturn nowhere", "there is no Lua module 'nowhere'"),
    ],
)
def test_each_fault_is_found(source: str, fault: str) -> None:
    assert list(faults(source, MODULES)) == [fault]


def test_a_syntax_error_is_found() -> None:
    (fault,) = faults("if x then", MODULES)
    assert "expected" in fault


def test_a_script_that_uses_what_it_needs_has_no_faults() -> None:
    script = (
        "-- needs: clock, keys\nlocal n, s = 1.5, ''\nreturn {clock.now(), keys.job, n, s, nil}"
    )
    assert list(faults(script, MODULES)) == []
