"""The process that watches over front ends, with programs in the place of its children."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from app import supervision, supervisor
from app.supervision import Supervision
from app.supervisor import Supervisor
from settings.loader import load

CHILD = """\
#!{python}
import pathlib, signal, sys, os
here = pathlib.Path(__file__).parent
if sys.argv[2] == "app.supervision":
    print((here / "settings").read_text())
else:
    print("a library says hello")
    sys.stdout.write("ready\\n")
    sys.stdout.flush()
    (here / f"{{os.getpid()}}.started").touch()
    print("noise\\n" * 100_000, flush=True)
    (here / f"{{os.getpid()}}.printed").touch()
    signal.pause()
"""
FIRST = Supervision("127.0.0.1", 1, processes=1, drain_timeout=5)


@pytest.fixture
async def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Supervisor]:
    """A supervisor whose children have left marks in `tmp_path`."""
    child = tmp_path / "child"
    child.write_text(CHILD.format(python=sys.executable))
    child.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(child))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = Supervisor([listener], FIRST, is_ours=True)
        life = asyncio.create_task(running.run())
        await marks(tmp_path, "printed", 1)
        yield running
        os.kill(os.getpid(), signal.SIGTERM)
        assert await asyncio.wait_for(life, 30) == 0


async def marks(directory: Path, kind: str, number: int) -> None:
    async with asyncio.timeout(30):
        while len(list(directory.glob(f"*.{kind}"))) < number:
            await asyncio.sleep(0.01)


async def logged(caplog: pytest.LogCaptureFixture, event: str) -> None:
    async with asyncio.timeout(30):
        while event not in {vars(record).get("event") for record in caplog.records}:
            await asyncio.sleep(0.01)


async def reload(directory: Path, caplog: pytest.LogCaptureFixture, settings: bytes) -> None:
    caplog.set_level("INFO")
    (directory / "settings").write_bytes(settings)
    os.kill(os.getpid(), signal.SIGHUP)
    await logged(caplog, "reload_finished")


@pytest.mark.usefixtures("running")
async def test_a_reload_reads_the_number_of_front_ends_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All that the children print is read."""
    more = msgspec.structs.replace(FIRST, processes=3)
    await reload(tmp_path, caplog, msgspec.json.encode(more))
    await marks(tmp_path, "printed", 4)
    assert "restart_needed" not in {vars(record).get("event") for record in caplog.records}


@pytest.mark.usefixtures("running")
@pytest.mark.parametrize("setting", ["port", "admin_port"])
async def test_an_address_that_has_changed_needs_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, setting: str
) -> None:
    other = msgspec.structs.replace(FIRST, **{setting: 2})
    await reload(tmp_path, caplog, msgspec.json.encode(other))
    await logged(caplog, "restart_needed")


async def test_the_time_to_drain_is_that_of_the_latest_settings(
    running: Supervisor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    longer = msgspec.structs.replace(FIRST, drain_timeout=100)
    await reload(tmp_path, caplog, msgspec.json.encode(longer))
    assert running.current.patience == 100 + supervisor.LEEWAY


@pytest.mark.usefixtures("running")
async def test_settings_that_cannot_be_read_keep_the_former_ones(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await reload(tmp_path, caplog, b"of a release that this one does not know")
    await marks(tmp_path, "printed", 2)


def test_settings_are_read_by_another_process() -> None:
    assert supervision.read_anew() == supervision.supervision(load())
