"""Accounts of the operator: their lines, from a file or from the environment."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from settings import Settings, SettingsError
from settings.accounts import Account, list_accounts, parse_accounts
from settings.credentials import Secret
from settings.loader import load
from settings.upstream_accounts import open_accounts

Load = Callable[..., Settings]

JWT = f"eyJ{'h' * 60}"
LINES = f"""# Mine
sk-hush-1

  sk-hush-2 second   # the better one
{JWT} third@example.com 12
"""


@pytest.fixture
def load_toml(tmp_path: Path) -> Load:
    """Load settings from this text and this environment."""

    def load_text(text: str = "", **environ: str) -> Settings:
        (tmp_path / "mine.toml").write_text(text)
        return load({"GATEWAY_SETTINGS": str(tmp_path / "mine.toml")} | environ)

    return load_text


def test_a_line_is_a_token_with_a_name_and_slots_if_it_has_them() -> None:
    expected = (
        Account(Secret("sk-hush-1"), "account-8f71418b"),
        Account(Secret("sk-hush-2"), "second"),
        Account(Secret(JWT), "third@example.com", 12),
    )
    assert parse_accounts(LINES) == expected
    listed = ["sk-hush-1", "sk-hush-2 second", f"{JWT} third@example.com 12"]
    assert list_accounts(listed) == expected
    assert list_accounts([]) == ()
    assert "hush" not in repr(expected)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no account"),
        ("# sk-hush", "has no account"),
        ("a\nsk-hush b 3 d", "line 2: expected a token, and after it a name and a number"),
        ("\n\nhüsh", "line 3: expected ASCII characters without spaces"),
        ("name sk-hush", "line 1: expected a name of at most 40 letters"),
        (f"name {JWT}", "line 1: expected a name of at most 40 letters"),
        (f"name {'hush' * 11}", "line 1: expected a name of at most 40 letters"),
        ("hush a/b", "line 1: expected a name of at most 40 letters"),
        ("hush name 0", "line 1: expected a whole number of slots >= 1 after the name"),
        ("hush name many", "line 1: expected a whole number of slots >= 1 after the name"),
        ("hush a\nhush b", "line 2: the token of an earlier account"),
        ("hush a\nother a", "line 2: the name of an earlier account"),
    ],
)
def test_an_error_names_the_line_and_shows_nothing_of_it(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{why}") as caught:
        parse_accounts(text)
    assert "hush" not in str(caught.value)


def test_accounts_of_the_environment_are_a_list(load_toml: Load) -> None:
    upstream = load_toml(GATEWAY__UPSTREAM__ACCOUNTS='["hush-1 one", "hush-2 two 3"]').upstream
    assert [account.name for account in open_accounts("main", upstream)()] == ["one", "two"]
    assert upstream.has_accounts
    assert upstream.has_credential
    assert "hush" not in repr(upstream)
    with pytest.raises(SettingsError, match=r"GATEWAY__UPSTREAM__ACCOUNTS: item 2: expected") as no:
        load_toml(GATEWAY__UPSTREAM__ACCOUNTS='["hush-1", "name sk-hush"]')
    assert "hush" not in str(no.value)


@pytest.mark.parametrize("other", ["credential", "credential_file", "accounts"])
def test_accounts_are_set_only_once(load_toml: Load, other: str) -> None:
    value = '["hush"]' if other == "accounts" else "hush"
    text = "[upstream]\nkind = 'openai'\naccounts_file = 'accounts'"
    why = f"accounts_file: expected only one of this and {other}$"
    with pytest.raises(SettingsError, match=why):
        load_toml(text, **{f"GATEWAY__UPSTREAM__{other.upper()}": value})


def test_a_file_of_accounts_is_read_again_when_it_changes(
    load_toml: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = "[upstream]\naccounts_file = 'all'\n[upstreams.other]\nbase_url = 'http://a'"
    config = load_toml(text)
    assert not config.others["other"].has_accounts, "accounts are never inherited"
    with pytest.raises(SettingsError, match=r"^upstream\.accounts_file: .*: cannot be read: No"):
        open_accounts("main", config.upstream)
    file = tmp_path / "all"
    file.write_text(LINES)
    current = open_accounts("main", config.upstream)
    assert [account.name for account in current()] == [
        "account-8f71418b",
        "second",
        "third@example.com",
    ]
    file.write_text("sk-hush-3 second")
    os.utime(file, ns=(1, 1))
    assert current() == (Account(Secret("sk-hush-3"), "second"),)

    caplog.set_level(logging.WARNING)
    file.write_text("name sk-hush-4")
    os.utime(file, ns=(2, 2))
    assert current() == (Account(Secret("sk-hush-3"), "second"),)
    assert "line 1: expected a name" in caplog.text
    assert "hush" not in caplog.text
