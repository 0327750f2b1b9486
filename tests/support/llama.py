"""A real llama.cpp server as a process of its own, which a test may kill and start again."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import settings
from local.llama import PYTHON, READY
from local.redis import free_port
from runtime import children
from tests.support.gateway import until

needs_llama = pytest.mark.skipif(
    not PYTHON.exists(), reason="`make test` installs llama.cpp's server into .llama"
)


class Llama:
    """A server with a few slots and a tiny random model, `tiny-llama`, on a port that it keeps.

    `options` are further ones of `local.llama`.
    """

    process: subprocess.Popen[bytes]

    def __init__(self, log: Path, *options: str, slots: int = 2, context: int = 65_536) -> None:
        self._log = log
        self._port = free_port()
        self._arguments = ["--slots", str(slots), "--context", str(context), *options]
        self.url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Llama:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self._log.open("wb") as output:
            self.process = children.spawn(
                [PYTHON, "-m", "local.llama", "--port", str(self._port), *self._arguments],
                environ={"PYTHONPATH": str(settings.HERE)},
                output=output,
            )
        until(self._is_ready, 60, "llama.cpp's server did not start")

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait()

    def slots_taken(self) -> int:
        """Number of slots that generate."""
        return sum(slot["is_processing"] for slot in self._get("/slots"))

    def deferred(self) -> int:
        """Number of requests that wait for a slot inside the server."""
        found = re.search(r"requests_deferred (\d+)", self._text("/metrics"))
        assert found
        return int(found[1])

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self._log.read_text()
        return READY.search(self._log.read_text()) is not None

    def _get(self, path: str) -> Any:
        return json.loads(self._text(path))

    def _text(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            text: str = answer.read().decode()
            return text
