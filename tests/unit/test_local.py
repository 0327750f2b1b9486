"""`make run` as far as it starts nothing: its upstream, and its instructions."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

import local.llama
import local.sample
from local.instructions import a_model, can_be_tried, for_operators, instructions
from local.upstreams import LLAMA, SIMULATOR, choose
from settings import Admin, Auth, Server, Settings, Upstream
from settings.credentials import Secret

OPENAI = Upstream(kind="openai", base_url="http://127.0.0.1:8080", max_concurrency=0)
PANDORA = Upstream(base_url="https://pandora.example.com")
LISTED = Auth(keys=("2bb80d537b1da3e3",))


def test_a_simulator_of_the_same_kind_is_started_if_the_settings_name_no_server() -> None:
    pandora = choose(Settings(upstream=Upstream(per_pool_concurrency=5)), "")
    assert pandora
    assert pandora.name == SIMULATOR
    assert pandora.command[-2:] == ("--per-pool", "5")
    openai = choose(Settings(upstream=Upstream(kind="openai")), "")
    assert openai
    assert openai.command[-2:] == ("--kind", "openai")


@pytest.mark.parametrize("config", [Settings(upstream=OPENAI), Settings(others={"a": OPENAI})])
def test_nothing_is_started_if_the_settings_name_a_server(config: Settings) -> None:
    assert choose(config, "") is None


def test_a_llama_server_takes_the_place_of_the_first_upstream() -> None:
    started = choose(Settings(upstream=PANDORA), "llama")
    assert started
    assert started.name == LLAMA
    assert Path(started.command[0]) == local.llama.PYTHON
    assert started.environ["GATEWAY__UPSTREAM__KIND"] == "openai"
    assert started.ready.fullmatch("llama ready on http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("config", "any_key", "about_the_key"),
    [
        (Settings(upstream=OPENAI), True, "Any key works"),
        (Settings(upstream=PANDORA), False, "a token that your Pandora-Next server accepts"),
        (Settings(upstream=OPENAI, auth=LISTED), False, "a key whose SHA-256 is in auth.keys"),
        (Settings(upstream=PANDORA, others={"a": OPENAI}), False, "a token that your Pandora"),
        (Settings(upstream=OPENAI, auth=Auth(mode="keys")), False, "-m app keys new my-bot"),
    ],
)
def test_the_instructions_name_the_key_that_is_needed(
    config: Settings, any_key: bool, about_the_key: str
) -> None:
    assert can_be_tried(config, started="") is any_key
    printed = instructions("http://127.0.0.1:50011/v1", "qwen3-8b", config, started="")
    assert about_the_key in printed
    assert ("Bearer any-key" in printed) is any_key
    assert '"model": "qwen3-8b"' in printed


def test_the_command_for_keys_names_the_redis_that_was_started() -> None:
    """It is on a free port, which nobody knows."""
    config = Settings(upstream=Upstream(kind="openai"), auth=Auth(mode="keys"))
    assert not can_be_tried(config, SIMULATOR)
    printed = instructions("http://a/v1", "m", config, SIMULATOR, "redis://127.0.0.1:1/0")
    assert "GATEWAY__REDIS__URL=redis://127.0.0.1:1/0 .venv/bin/python -m app keys new" in printed
    assert "Bearer $KEY" in printed
    anybody = instructions("http://a/v1", "m", Settings(), SIMULATOR, "redis://127.0.0.1:1/0")
    assert "redis://" not in anybody
    assert "Bearer any-key" in anybody


@pytest.mark.parametrize(
    ("config", "password", "sentence"),
    [
        (
            Settings(upstream=OPENAI),
            "made-up",
            "http://127.0.0.1:50011/admin with the password made-up,",
        ),
        (
            Settings(
                upstream=OPENAI,
                server=Server(host="::", api_prefix="/666"),
                admin=Admin(password=Secret("of the operator"), port=1),
            ),
            "",
            "http://[::1]:1/666/admin with your admin.password,",
        ),
    ],
)
def test_the_page_of_operators_is_named_with_its_password(
    config: Settings, password: str, sentence: str
) -> None:
    printed = for_operators(config, password, "redis://127.0.0.1:1/0")
    assert sentence in printed
    assert "GATEWAY__REDIS__URL=redis://127.0.0.1:1/0 .venv/bin/python -m app top" in printed
    assert "of the operator" not in printed


@pytest.mark.parametrize(
    ("config", "model"),
    [
        (Settings(upstream=PANDORA), "gpt-4-s"),
        (Settings(upstream=OPENAI), ""),
        (Settings(upstream=replace(OPENAI, models={"gpt-4": "qwen3-8b"})), "gpt-4"),
    ],
)
def test_a_model_is_named_without_asking_a_server(config: Settings, model: str) -> None:
    assert a_model(config) == model


def test_what_could_confuse_the_terminal_is_not_printed() -> None:
    assert local.sample._printable("a\x1b[2Jb\n\x07世界\u202e") == "a[2Jb\n世界"
