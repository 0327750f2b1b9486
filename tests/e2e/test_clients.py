"""Clients that people use work unchanged; see `tests/clients`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.gateway import Gateway

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".clients" / "bin" / "python"


@pytest.mark.skipif(not PYTHON.exists(), reason="`make test` installs the clients into .clients")
@pytest.mark.parametrize("client", ["agents", "instructor", "langchain", "pydantic_ai"])
def test_a_client_gets_the_answers_it_expects(gateway: Gateway, client: str) -> None:
    script = ROOT / "tests" / "clients" / f"{client}_client.py"
    ran = subprocess.run(
        [PYTHON, script, f"{gateway.url}/v1"], capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
