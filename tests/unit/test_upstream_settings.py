"""Sections `[upstream]` and `[upstreams.NAME]`: inheritance, defaults of each kind, credentials."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from settings import Settings, SettingsError
from settings.loader import load
from settings.upstream_credential import open_credential

Load = Callable[..., Settings]


@pytest.fixture
def load_toml(tmp_path: Path) -> Load:
    """Load settings from this text, the operator's own file with `own`, and this environment."""

    def load_text(text: str = "", own: str = "", **environ: str) -> Settings:
        (tmp_path / "mine.toml").write_text(text)
        (tmp_path / "mine.local.toml").write_text(own)
        return load({"GATEWAY_SETTINGS": str(tmp_path / "mine.toml")} | environ)

    return load_text


PANDORA = "[upstream]\nkind = 'pandora'\nmax_concurrency = 4\nfirst_event_timeout = 60.0\n"


def limits(config: Settings, name: str = "main") -> tuple[float, ...]:
    """The settings with defaults that depend on the kind."""
    upstream = config.upstreams[name]
    return upstream.max_concurrency, upstream.first_event_timeout, upstream.max_duration


def test_the_defaults_are_those_of_the_kind_also_with_the_shipped_file(load_toml: Load) -> None:
    assert limits(load({})) == (4, 60.0, 900.0)
    assert limits(load({"GATEWAY__UPSTREAM__KIND": "openai"})) == (0, 600.0, 3600.0)
    assert limits(load_toml("[upstream]\nkind = 'openai'")) == (0, 600.0, 3600.0)


def test_numbers_that_are_set_for_any_kind_or_for_this_one_apply(load_toml: Load) -> None:
    openai = "[upstream]\nkind = 'openai'\nmax_concurrency = 4"
    assert limits(load_toml(openai)) == (4, 600.0, 3600.0)
    assert limits(load_toml(PANDORA, openai)) == (4, 600.0, 3600.0)
    own = "[upstream]\nfirst_event_timeout = 60"
    assert limits(load_toml(PANDORA, own, GATEWAY__UPSTREAM__KIND="openai"))[1] == 60.0


def test_an_upstream_takes_from_the_first_what_it_leaves_out(load_toml: Load) -> None:
    config = load_toml(
        """
        [upstream]
        kind = "openai"
        base_url = "http://a"
        credential_file = "secret"
        models = ["one"]
        max_concurrency = 7
        retries = 9
        max_duration = 50

        [upstreams.gpu_b]
        base_url = "http://b/"
        max_duration = 60
        """,
        GATEWAY__UPSTREAMS__GPU_C__BASE_URL="http://c",
        GATEWAY__UPSTREAMS__GPU_C__MAX_CONCURRENCY="2",
    )
    assert list(config.upstreams) == ["main", "gpu_b", "gpu_c"]
    b, c = config.upstreams["gpu_b"], config.upstreams["gpu_c"]
    assert (b.kind, b.base_url, b.retries, b.max_duration) == ("openai", "http://b", 9, 60.0)
    assert (b.has_credential, b.models, b.max_concurrency) == (False, {}, 0)
    assert (c.retries, c.max_duration, c.max_concurrency) == (9, 50.0, 2)
    assert config.upstreams["main"].models == {"one": "one"}


def test_numbers_of_a_pandora_upstream_are_not_those_of_others(load_toml: Load) -> None:
    own = "[upstreams.a]\nkind = 'openai'\nbase_url = 'http://a'"
    assert limits(load_toml(PANDORA, own), "a") == (0, 600.0, 3600.0)


def test_without_an_address_the_first_is_none_next_to_others(load_toml: Load) -> None:
    own = "[upstream]\nkind = 'openai'\n[upstreams.a]\nbase_url = 'http://a'"
    assert list(load_toml(PANDORA, own).upstreams) == ["a"]
    assert list(load_toml(PANDORA).upstreams) == ["main"]


def test_a_worker_serves_all_upstreams_or_those_that_are_named(load_toml: Load) -> None:
    text = "".join(f"[upstreams.{name}]\nbase_url = 'http://{name}'\n" for name in "ab")
    assert list(load_toml(text).require_upstreams()) == ["a", "b"]
    some = load_toml(text, GATEWAY__WORKERS__UPSTREAMS='["b"]')
    assert list(some.require_upstreams()) == ["b"]
    with pytest.raises(SettingsError, match=r"^upstream\.base_url: not set"):
        load_toml().require_upstreams()


def test_models_are_a_list_or_a_table_with_names_for_clients(load_toml: Load) -> None:
    text = "[upstream]\nkind = 'openai'\n"
    listed = load_toml(f"{text}models = ['qwen3-8b', 'phi4']")
    assert listed.upstream.models == {"qwen3-8b": "qwen3-8b", "phi4": "phi4"}
    table = load_toml(text, GATEWAY__UPSTREAM__MODELS='{ "gpt-4" = "qwen3-8b" }')
    assert table.upstream.models == {"gpt-4": "qwen3-8b"}


def test_a_credential_is_set_only_once(load_toml: Load) -> None:
    with pytest.raises(SettingsError, match=r"credential_file: expected only one of this and"):
        load_toml(
            "[upstream]\nkind = 'openai'\ncredential_file = 'secret'",
            GATEWAY__UPSTREAM__CREDENTIAL="sk-hush",
        )


def test_a_credential_comes_from_the_environment_or_from_a_file_that_is_read_again(
    load_toml: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = load_toml(GATEWAY__UPSTREAM__KIND="openai", GATEWAY__UPSTREAM__CREDENTIAL="sk-hush")
    assert open_credential("main", given.upstream)().reveal() == "sk-hush"

    upstream = load_toml("[upstream]\nkind = 'openai'\ncredential_file = 'secret'").upstream
    with pytest.raises(SettingsError, match=r"^upstream\.credential_file: .*: cannot be read: No"):
        open_credential("main", upstream)
    secret = tmp_path / "secret"
    secret.write_text("sk-hush-1\n")
    current = open_credential("main", upstream)
    assert current().reveal() == "sk-hush-1"

    secret.write_text("sk-hush-2")
    os.utime(secret, ns=(1, 1))
    assert current().reveal() == "sk-hush-2"

    caplog.set_level(logging.WARNING)
    for unusable in ("", "sk hush"):
        secret.write_text(unusable)
        os.utime(secret, ns=(2, len(unusable)))
        assert [current().reveal(), current().reveal()] == ["sk-hush-2"] * 2
    secret.unlink()
    assert current().reveal() == "sk-hush-2"
    assert len(caplog.records) == 3
    assert "hush" not in caplog.text
