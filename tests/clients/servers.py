"""Servers for the clients that `make clients` runs: above all the gateway of this checkout."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
PORT = 50091
API = f"http://127.0.0.1:{PORT}/v1"
PATIENCE = 180.0


@contextmanager
def running(command: list[str | Path], health: str, log: Path, **environ: str) -> Iterator[None]:
    """Run a server until the end of the context; wait until it answers at `health`."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | environ, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            deadline = time.monotonic() + PATIENCE
            while not answers(health):
                assert process.poll() is None, f"it ended: see {log}"
                assert time.monotonic() < deadline, f"it does not answer: see {log}"
                time.sleep(0.5)
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def gateway(log: Path, **environ: str) -> AbstractContextManager[None]:
    """Run the gateway of this checkout at `API`, with the simulator."""
    environ |= {"GATEWAY__SERVER__PORT": str(PORT), "GATEWAY__LOG__TO_FILE": "false"}
    python = ROOT / ".venv" / "bin" / "python"
    health = f"http://127.0.0.1:{PORT}/readyz"
    return running([python, "-m", "local"], health, log, **environ)


@contextmanager
def openai_server(log: Path) -> Iterator[dict[str, str]]:
    """Run the simulator of an OpenAI-compatible server; yields the settings that name it."""
    url = f"http://127.0.0.1:{PORT + 2}"
    options = ["--kind", "openai", "--port", str(PORT + 2), "--models", "gpt-4,gpt-4o-mini"]
    python = ROOT / ".venv" / "bin" / "python"
    with running([python, "-m", "simulator", *options], f"{url}/health", log):
        yield {"GATEWAY__UPSTREAM__KIND": "openai", "GATEWAY__UPSTREAM__BASE_URL": url}


def answers(url: str) -> bool:
    """Return True if a server answers at an address with success."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False
