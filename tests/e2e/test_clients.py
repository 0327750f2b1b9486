"""Clients that people use work unchanged; see `tests/clients`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.gateway import Gateway

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / ".clients"
PYTHON = CLIENTS / "bin" / "python"


@pytest.mark.skipif(not PYTHON.exists(), reason="`make test` installs the clients into .clients")
@pytest.mark.parametrize(
    "client", ["agents", "instructor", "langchain", "openai_old", "pydantic_ai"]
)
def test_a_client_gets_the_answers_it_expects(gateway: Gateway, client: str) -> None:
    script = ROOT / "tests" / "clients" / f"{client}_client.py"
    environ = {**os.environ, "PYTHONPATH": str(CLIENTS / "old") if client == "openai_old" else ""}
    command: list[str | Path] = [PYTHON, script, f"{gateway.url}/v1"]
    ran = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
