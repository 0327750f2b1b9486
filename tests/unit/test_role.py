"""The output of a role, as `make run` shows it."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from local.role import Role

MINOR = "2024-01-02 03:04:05,678 INFO    app: new front ends start"
REASON = "settings.local.toml: is not TOML"
MINOR_JSON = '{"time":"2024-01-02T03:04:05.678+00:00","level":"INFO","message":"new"}'
ERROR = "2024-01-02 03:04:05,678 ERROR   app: the reload failed"


def test_the_reason_why_a_process_gives_up_is_shown_but_no_minor_record(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def run() -> None:
        code = f"print({MINOR!r}, {MINOR_JSON!r}, {REASON!r}, {ERROR!r}, sep='\\n')"
        command = (sys.executable, "-c", code)
        role = await Role.start("app", *command, environ=os.environ, verbose=False)
        async with asyncio.timeout(30):
            while role.status is None or len(role.tail) < 4:
                await asyncio.sleep(0.01)

    asyncio.run(run())
    assert capsys.readouterr().out == f"      app | {REASON}\n      app | {ERROR}\n"
