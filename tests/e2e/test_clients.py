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


pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="`make test` installs the clients into .clients"
)


def run(client: str, gateway: Gateway) -> None:
    """Run a client's script, which fails if an answer is not what it expects."""
    script = ROOT / "tests" / "clients" / f"{client}_client.py"
    old = str(CLIENTS / "old") if client == "openai_old" else ""
    # The default of the Agents SDK is another one with each version.
    environ = {**os.environ, "PYTHONPATH": old, "OPENAI_DEFAULT_MODEL": "gpt-4"}
    command: list[str | Path] = [PYTHON, script, f"{gateway.url}/v1"]
    ran = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    "client", ["agents", "anthropic", "instructor", "langchain", "openai_old", "pydantic_ai"]
)
def test_a_client_gets_the_answers_it_expects(gateway: Gateway, client: str) -> None:
    run(client, gateway)


@pytest.mark.parametrize(
    "client", ["agents", "anthropic", "langchain", "llm", "openai", "pydantic_ai"]
)
def test_a_client_gets_the_answers_of_an_openai_compatible_server(
    relaying_gateway: Gateway, client: str
) -> None:
    run(client, relaying_gateway)
