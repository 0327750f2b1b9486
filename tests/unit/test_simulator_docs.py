"""docs/simulator.md lists every key, fault, endpoint and counter of the simulator."""

from __future__ import annotations

import asyncio
import re
from dataclasses import fields
from typing import get_args

import msgspec

import settings
from simulator.accounts import Limits, Stats
from simulator.counts import Counts
from simulator.script import Fault, Script, Tool
from simulator.server import build
from simulator.state import State

PAGE = (settings.HERE / "docs" / "simulator.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"(\w+)=|\"(\w+)\":", PAGE))
KEYS = {key or posted for key, posted in NAMED}


def test_every_key_of_a_script_is_documented() -> None:
    assert {field.encode_name for field in msgspec.structs.fields(Script)} <= KEYS


def test_every_fault_and_tool_is_documented() -> None:
    named = set(re.findall(r"`(?:fault|tool)=(\w+)", PAGE))
    assert named == {*get_args(Fault), *get_args(Tool)}


def test_every_counter_is_documented() -> None:
    counters = {field.name for field in fields(Counts)} | set(Stats.__struct_fields__)
    assert counters <= set(re.findall(r"`(\w+)`", PAGE.partition("## Counters")[2]))


async def test_every_endpoint_is_documented(loop: asyncio.AbstractEventLoop) -> None:
    app = build(State(Limits()))
    paths = {route.resource.canonical for route in app.router.routes() if route.resource}
    ends = {path.removeprefix("/backend-api") for path in paths} - {"/{anything}"}
    assert len(ends) > 12
    assert [end for end in ends if f"{end}`" not in PAGE and f"{end}?" not in PAGE] == []
