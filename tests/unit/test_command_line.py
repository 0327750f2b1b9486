"""Command lines of the roles."""

from __future__ import annotations

import pytest

import app.__main__
import local.__main__
import workers.__main__
from runtime.command_line import parse_no_arguments

ROLES = {"app": app.__main__, "workers": workers.__main__, "local": local.__main__}


@pytest.mark.parametrize("role", ROLES)
def test_help_names_the_role_and_the_files_that_configure_it(
    role: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m workers --help` started a worker."""
    monkeypatch.setattr("sys.argv", [role, "--help"])
    with pytest.raises(SystemExit) as ended:
        ROLES[role].main()
    assert not ended.value.code
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: python -m {role}")
    assert "settings.local.toml" in printed


def test_an_argument_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["app", "--port", "80"])
    with pytest.raises(SystemExit) as ended:
        parse_no_arguments("app", "Front ends.")
    assert ended.value.code == 2
    assert "unrecognized arguments: --port 80" in capsys.readouterr().err
