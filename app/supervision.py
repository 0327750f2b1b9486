"""The settings of the process that supervises front ends; `python -m app.supervision` prints them.

A supervisor keeps the code it was started with, which may not know the settings of a newer release.
So for a reload they are read by another process, with the code of that time.
"""

from __future__ import annotations

import subprocess
import sys

import msgspec

import settings
from settings.loader import load

TIMEOUT = 20.0
"""Seconds within which the settings must have been read."""


class Supervision(msgspec.Struct, frozen=True):
    """The addresses that front ends serve, their number, and the seconds for their last answers.

    Without an `admin_port` operators have none of their own.
    """

    host: str
    port: int
    processes: int
    drain_timeout: float
    admin_host: str = ""
    admin_port: int = 0


def supervision(config: settings.Settings) -> Supervision:
    """Return the part of the settings that a supervisor needs."""
    server = config.server
    admin = config.admin_address or ("", 0)
    return Supervision(server.host, server.port, server.processes, server.drain_timeout, *admin)


def read_anew() -> Supervision | None:
    """Read the settings with the code of this time; None if that fails."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "app.supervision"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT,
            check=True,
        )
        return msgspec.json.decode(done.stdout, type=Supervision)
    except (OSError, subprocess.SubprocessError, msgspec.DecodeError):
        return None


if __name__ == "__main__":
    try:
        sys.stdout.write(msgspec.json.encode(supervision(load())).decode())
    except settings.SettingsError as error:
        sys.exit(str(error))
