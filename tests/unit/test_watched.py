"""The watch over an event loop, with which the benchmark of stalls measures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.watched import stalls

ROLE = """
import asyncio, os, sys, time
from benchmarks.watched import watched

def block():
    time.sleep(0.1)

async def role():
    await asyncio.sleep(0.05)
    block()
    await asyncio.sleep(0.05)

asyncio.run(watched(role(), os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)))
"""


def test_a_stall_is_noted_with_its_place_and_the_cpu_time_of_the_loop(tmp_path: Path) -> None:
    script, noted = tmp_path / "role.py", tmp_path / "stalls"
    script.write_text(ROLE)
    subprocess.run([sys.executable, script, noted], check=True, env={"PYTHONPATH": "."})
    longest = max(stalls(noted, since=0.0), key=lambda stall: stall.wall)
    assert longest.wall > 0.09
    assert longest.cpu < longest.wall - 0.05
    assert "block" in longest.place
    assert not stalls(noted, since=longest.at + 1000)
