"""`make setup` makes a half-made .venv anew, with a Python that only notes what it is asked for."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import settings

PYTHON = """#!/bin/sh
echo "$*" >> calls
case "$*" in
    "-m venv"*) rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python; touch .venv/pip ;;
    "-m pip"*) [ -e .venv/pip ] ;;
esac
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with the Makefile, and a .venv that is complete."""
    shutil.copy(settings.HERE / "Makefile", tmp_path)
    for name in ("run", "dev"):
        (tmp_path / f"requirements-{name}.lock").touch()
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    setup(tmp_path)
    return tmp_path


def setup(root: Path, status: int = 0) -> list[str]:
    """Run it; return the modules that Python was asked for."""
    (root / "calls").write_text("")
    done = subprocess.run(["make", "setup", "PYTHON=./python"], cwd=root, capture_output=True)
    assert (done.returncode != 0) == (status != 0), done.stderr
    calls = (root / "calls").read_text().splitlines()
    return [call.split()[1] for call in calls if call.startswith("-m") and "--version" not in call]


def test_a_complete_one_is_kept(root: Path) -> None:
    assert setup(root) == []
    (root / ".venv/.run-installed").unlink()
    assert setup(root) == ["pip"]


def test_one_without_pip_is_made_anew(root: Path) -> None:
    """Killed while Python made it: every later `make run` failed."""
    (root / ".venv/.run-installed").unlink()
    (root / ".venv/pip").unlink()
    assert setup(root) == ["venv", "pip"]
    assert setup(root) == []


def test_one_in_which_an_installation_was_killed_is_made_anew(root: Path) -> None:
    (root / ".venv/.run-installed").unlink()
    (root / ".venv/.unfinished").touch()
    assert setup(root) == ["venv", "pip"]
    assert not (root / ".venv/.unfinished").exists()


def test_one_in_which_an_installation_failed_is_kept(root: Path) -> None:
    """As without a network. pip undoes its own work then."""
    (root / ".venv/.run-installed").unlink()
    python = root / ".venv/bin/python"
    works = python.read_text()
    python.write_text(works.replace('case "$*" in', 'case "$*" in\n    *" install "*) exit 1 ;;'))
    assert setup(root, status=2) == ["pip"]
    python.write_text(works)
    assert setup(root) == ["pip"]
