"""docs/parity.md names tests and settings that exist, and omits no key of the predecessor."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

import settings
from settings import loader, migrate

TABLE = settings.HERE / "docs" / "parity.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TABLE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| There")
]


@cache
def functions_of(path: str) -> set[str]:
    """The names of the functions of a file."""
    tree = ast.parse((settings.HERE / path).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, functions)}


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_row_names_tests_that_exist(row: list[str]) -> None:
    _there, _here, shown = row
    named = re.findall(r"`([^`]+)`", shown)
    assert named
    assert re.sub(r"`[^`]+`", "", shown).strip() == ""
    for id in named:
        path, _, test = id.partition("::")
        assert test.startswith("test_")
        assert test in functions_of(path), f"{id} is not there"


def test_every_setting_that_is_named_exists() -> None:
    sections = "|".join(settings.Schema.__struct_fields__)
    here = " ".join(row[1] for row in ROWS)
    named = set(re.findall(rf"`((?:{sections})\.\w+)(?: = [^`]*)?`", here)) - {"gpts.toml"}
    assert len(named) > 20
    assert named <= set(loader.FIELDS)


def test_every_key_of_the_predecessor_is_named() -> None:
    there = " ".join(row[0] for row in ROWS)
    named = set(re.findall(r"`([^`]+)`", there))
    assert {*migrate.RULES, *migrate.MODELS, *migrate.REDIS, *migrate.NOT_NEEDED} <= named
    by_key = {key: row[1] for row in ROWS for key in re.findall(r"`([^`]+)`", row[0])}
    became = {key: setting for key, (setting, _) in migrate.RULES.items()} | migrate.MODELS
    for key, setting in became.items():
        assert f"`{setting}" in by_key[key], key
