"""docs/simulator-openai.md lists every key, fault, error, endpoint and counter."""

from __future__ import annotations

import asyncio
import re
from dataclasses import fields
from typing import get_args

import msgspec

import settings
from simulator.openai.errors import ERRORS, ErrorName
from simulator.openai.likeness import LIKENESSES, Like
from simulator.openai.script import Fault, Script
from simulator.openai.server import build
from simulator.openai.slots import Stats
from simulator.openai.state import Config, Counts, State

PAGE = (settings.HERE / "docs" / "simulator-openai.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def first_columns(title: str) -> set[str]:
    rows = re.findall(r"^\| (`[^|]*) \|", section(title), re.MULTILINE)
    return {word for row in rows for word in re.findall(r"`([\w=]+)", row)}


def test_every_key_of_a_script_is_documented() -> None:
    keys = {key.partition("=")[0] for key in first_columns("Scripts")}
    at = {"at", "at_word"}  # with the faults
    assert keys | at == {field.encode_name for field in msgspec.structs.fields(Script)}


def test_every_fault_is_documented() -> None:
    named = {key.removeprefix("fault=") for key in first_columns("Faults")}
    assert named == set(get_args(Fault))


def test_every_error_and_likeness_is_made_and_documented() -> None:
    assert first_columns("Errors") - {"error="} == set(get_args(ErrorName)) == set(ERRORS)
    assert first_columns("Likenesses") - {"like"} == set(get_args(Like)) == set(LIKENESSES)


def test_every_counter_is_documented() -> None:
    counters = {field.name for field in fields(Counts)} | set(Stats.__struct_fields__)
    assert first_columns("Counters") == counters | {"peak_embeddings"}


async def test_every_endpoint_is_documented(loop: asyncio.AbstractEventLoop) -> None:
    app = build(State(Config()))
    paths = {route.resource.canonical for route in app.router.routes() if route.resource}
    assert len(paths) > 12
    assert [path for path in paths - {"/{anything}"} if f"{path}`" not in PAGE] == []
