"""The documents name files, classes and functions that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import settings
from benchmarks.__main__ import BENCHMARKS
from settings.loader import FIELDS, load

PAGES = sorted([*settings.HERE.glob("*.md"), *(settings.HERE / "docs").glob("*.md")])
SOURCES = r"(?<![\w./:-])((?:[\w.-]+/)+[\w.@-]+\.(?:py|lua|toml|yaml|service))\b"
"""Paths in sentences and diagrams: at least one folder, and the extension of a source."""


NAMES = re.compile(r"^(?:(?:async def|def|class) (\w+)|(\w+)(?:: [^=\n]+)? = )", re.M)


@cache
def defined_in(path: str) -> set[str]:
    """The names that a module defines at its top level."""
    found = NAMES.findall((settings.HERE / path).read_text(encoding="utf-8"))
    return {defined or assigned for defined, assigned in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    named = set(re.findall(SOURCES, page.read_text(encoding="utf-8")))
    bases = (settings.HERE, page.parent)
    assert not {path for path in named if not any((base / path).is_file() for base in bases)}


def test_every_name_in_the_glossary_is_defined_in_its_file() -> None:
    glossary = (settings.HERE / "docs" / "glossary.md").read_text(encoding="utf-8")
    found = re.findall(r"`([\w/]+\.py)`: ((?:`\w+` ?)+)", glossary)
    assert len(found) > 30
    for path, names in found:
        missing = set(re.findall(r"\w+", names)) - defined_in(path)
        assert not missing, f"{path} does not define {missing}"


@pytest.mark.parametrize("page", ["security.md", "security.zh-CN.md"])
def test_every_test_that_the_page_on_security_names_exists(page: str) -> None:
    text = (settings.HERE / "docs" / page).read_text(encoding="utf-8")
    found = re.findall(r"`(tests/[\w/]+\.py)`: ((?:`\w+` ?)+)", text)
    assert len(found) > 40
    for path, names in found:
        missing = set(re.findall(r"\w+", names)) - defined_in(path)
        assert not missing, f"{path} does not define {missing}"


def test_the_diagram_of_a_job_names_scripts_of_the_line() -> None:
    design = (settings.HERE / "docs" / "design.md").read_text(encoding="utf-8")
    diagram = design.partition("## A job\n")[2].split("```")[1]
    scripts = {path.stem for path in (settings.HERE / "wire/line/scripts").glob("*.lua")}
    moves = {"enqueue", "claim", "begin", "cool_down", "park", "requeue", "reap", "retry", "finish"}
    assert moves <= set(re.findall(r"\w+", diagram)) & scripts


def test_every_message_that_the_operators_page_quotes_is_in_the_code() -> None:
    """Quotes are in italics; `...`, code and parentheses stand for the variable parts."""
    sources = [
        path
        for folder in ("app", "local", "runtime", "settings", "store", "wire", "workers")
        for path in (settings.HERE / folder).rglob("*.py")
    ]
    texts = "\n".join(
        node.value
        for path in sources
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    page = (settings.HERE / "docs" / "operating.md").read_text(encoding="utf-8")
    quotes = re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", page)
    parts = [part for quote in quotes for part in re.split(r"\.\.\.|`[^`]*`|\(OOM.*\)|\d+", quote)]
    assert len(parts) > 15
    assert not [part for part in parts if part.strip(" :").removesuffix(" or") not in texts]


@pytest.mark.parametrize("page", ["coming-from.md", "coming-from.zh-CN.md"])
def test_the_settings_for_those_who_come_from_elsewhere_are_settings(
    page: str, tmp_path: Path
) -> None:
    text = (settings.HERE / "docs" / page).read_text()
    file = tmp_path / "settings.toml"
    file.write_text("\n".join(re.findall(r"(?s)```toml\n(.*?)```", text)))
    config = load({"GATEWAY_SETTINGS": str(file)})
    assert [upstream.models for upstream in config.upstreams.values()] == [
        {"gpt-4": "qwen3-8b"}
    ] * 2
    named = set(re.findall(r"`((?:upstream|queue|auth|admin|server|usage)\.[a-z_]+)`", text))
    assert len(named) > 10
    assert named <= FIELDS.keys()


def test_no_picture_loads_anything_from_elsewhere() -> None:
    for picture in (settings.HERE / "docs" / "images").glob("*.svg"):
        loaded = set(re.findall(r"""(?:https?:)?//[^"')\s]+""", picture.read_text("utf-8")))
        assert loaded <= {"http://www.w3.org/2000/svg"}, picture.name


@pytest.mark.parametrize("page", ["scaling.md", "scaling.zh-CN.md"])
def test_the_benchmarks_that_the_page_on_scaling_names_exist(page: str) -> None:
    text = (settings.HERE / "docs" / page).read_text()
    columns = re.findall(r"(?m)^\|.*\| ((?:`\w+`[,、]? ?)+)\|$", text)
    commands = re.findall(r"(?m)^\.venv/bin/python -m benchmarks ([a-z_ ]+)", text)
    named = {
        name.strip("`,")
        for line in (*columns, *commands)
        for name in line.replace("、", " ").split()
    }
    assert len(named) > 4
    assert named <= BENCHMARKS.keys()
