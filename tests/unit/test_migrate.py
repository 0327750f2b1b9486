"""The predecessor's two files, as its README describes them, become ours."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import settings
from settings.credentials import Access, Secret
from settings.loader import load
from settings.migrate import MigrateError, migrate
from settings.redis_url import ServerUrl
from settings.urls import ProxyUrl

CONFIG = {
    "log_level": "DEBUG",
    "need_log_to_file": "false",
    "process_workers": 2,
    "process_threads": 2,
    "pandora_base_url": "https://pandora.example.com",
    "pandora_api_prefix": "prefix",
    "backend_container_url": "http://1.2.3.4:50011",
    "backend_container_api_prefix": "666 ",
    "key_for_gpts_info": "fk-hush",
    "gpt_4_s_new_name": "gpt-4-s,dall-e-3",
    "gpt_4_mobile_new_name": "gpt-4-mobile",
    "gpt_3_5_new_name": "gpt-3.5-turbo",
    "need_delete_conversation_after_response": "true",
    "use_oaiusercontent_url": "true",
    "use_pandora_file_server": "true",
    "custom_arkose_url": "true",
    "arkose_urls": "https://arkose-1.example.com/p,https://arkose-2.example.com/p",
    "dalle_prompt_prefix": '请画出：\n"',
    "bot_mode": {
        "enabled": "true",
        "enabled_markdown_image_output": "true",
        "enabled_plain_image_url_output": "true",
        "enabled_bing_reference_output": "true",
        "enabled_plugin_output": "true",
    },
    "redis": {"host": "1.2.3.4", "port": 6380, "password": "hush/@:#", "db": 3},
}
GPTS = {
    "gpt-4-classic": {"id": "g-YyyyMT9XH-chatgpt-classic"},
    "pandoraNext": {"id": "g-CFsXuTRfy-pandoranextzhu-shou"},
}


def run(
    directory: Path, config: object, gpts: object = None, *, force: bool = False
) -> tuple[settings.Settings, str]:
    """Migrate into this directory; return the loaded settings and the printed report."""
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "gpts.json").write_text(json.dumps(gpts or {}))
    told = migrate(directory / "config.json", directory / "gpts.json", directory, force=force)
    environ = {
        "GATEWAY_SETTINGS": str(directory / "settings.local.toml"),
        "GATEWAY_GPTS": str(directory / "gpts.local.toml"),
    }
    return load(environ), "\n".join(told)


def test_every_key_of_the_predecessor_is_migrated_or_explained(tmp_path: Path) -> None:
    loaded, told = run(tmp_path, CONFIG, GPTS)
    assert loaded.log == settings.Log(level="DEBUG", to_file=False)
    assert loaded.server == settings.Server(
        processes=2, api_prefix="/666", public_url="http://1.2.3.4:50011"
    )
    assert loaded.upstream == settings.Upstream(
        base_url="https://pandora.example.com", api_prefix="/prefix"
    )
    assert loaded.gpts.key_for_info == Secret("fk-hush")
    assert loaded.models.gpt_4_s == ("gpt-4-s", "dall-e-3", "gpt-4")
    assert loaded.models.gpt_4_mobile == ("gpt-4-mobile",)
    assert loaded.conversation.delete_after_response is True
    assert loaded.media.use_oaiusercontent_url is True
    assert loaded.media.use_pandora_file_server is True
    assert loaded.arkose == settings.Arkose(
        custom=True, urls=("https://arkose-1.example.com/p", "https://arkose-2.example.com/p")
    )
    assert loaded.images.prompt_prefix == '请画出：\n"'
    assert loaded.bot == settings.Bot(
        enabled=True,
        markdown_image=True,
        plain_image_url=True,
        bing_reference=True,
        plugin_output=True,
    )
    assert loaded.redis.url == ServerUrl("redis://:hush%2F%40%3A%23@1.2.3.4:6380/3")
    assert [(name, gpt.id) for name, gpt in loaded.custom] == [
        (name, entry["id"]) for name, entry in GPTS.items()
    ]
    keys = [key for key in CONFIG if key not in ("bot_mode", "redis")]
    keys += [f"bot_mode.{key}" for key in ("enabled", "enabled_plugin_output")] + [*GPTS]
    for key in keys:
        assert f"\n{key}: " in f"\n{told}"
    assert "redis.host, redis.port, redis.password, redis.db: became redis.url" in told
    assert "process_threads: not needed" in told
    assert "hush" not in told


def test_the_key_names_of_its_last_releases_are_known_too(tmp_path: Path) -> None:
    """Its README kept the names of before 0.6.0, while its config.json had new ones."""
    config = {
        "upstream_base_url": "https://pandora.example.com/",
        "upstream_api_prefix": "prefix",
        "proxy": "socks5://me:hush@10.0.0.9:1080",
        "redis": {"host": "redis", "pool_size": 10, "pool_timeout": 60000},
    }
    loaded, told = run(tmp_path, config)
    assert loaded.upstream == settings.Upstream(
        base_url="https://pandora.example.com",
        api_prefix="/prefix",
        proxy=ProxyUrl("socks5", "10.0.0.9", 1080, Access("me", "hush")),
    )
    assert "redis.pool_size: not needed" in told
    assert "redis.pool_timeout: not needed" in told
    assert "unknown" not in told
    assert "hush" not in told


def test_only_settings_that_are_not_at_their_defaults_are_written(tmp_path: Path) -> None:
    """So that a release may change a default, and its settings.toml stays as git knows it."""
    run(tmp_path, {"log_level": "DEBUG", "process_workers": 1, "pandora_api_prefix": "prefix"})
    assert tomllib.loads((tmp_path / "settings.local.toml").read_text()) == {
        "upstream": {"api_prefix": "prefix"},
        "log": {"level": "DEBUG"},
    }
    assert not (tmp_path / "settings.toml").exists()


def test_the_shipped_config_json_is_migrated(tmp_path: Path) -> None:
    shipped = {
        "log_level": "DEBUG",
        "pandora_base_url": "",
        "key_for_gpts_info": "",
        "custom_arkose_url": "false",
        "arkose_urls": "",
        "redis": {"host": "redis", "port": 6379, "password": "", "db": 0},
    }
    loaded, told = run(tmp_path, shipped)
    assert loaded.models == settings.Models()
    assert loaded.redis.url is None, "its container is not part of this gateway"
    assert "redis.url stays empty" in told
    assert "pandora_base_url: empty, so upstream.base_url stays as it is" in told


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"oops": 1}, "oops: unknown, left out"),
        ({"bot_mode": {"oops": "true"}}, "bot_mode.oops: unknown, left out"),
        ({"redis": {"oops": 1}}, "redis.oops: unknown, left out"),
        (
            {"bot_mode": {"enabled": "yes"}},
            'bot_mode.enabled: cannot be used, so bot.enabled stays as it is: expected "true" or'
            ' "false"',
        ),
        (
            {"pandora_base_url": "<Pandora-Next 的部署地址>"},
            "pandora_base_url: cannot be used, so upstream.base_url stays as it is: expected a URL"
            " that begins with http:// or https://",
        ),
        (
            {"process_workers": 0},
            "process_workers: cannot be used, so server.processes stays as it is: expected a whole"
            " number >= 1",
        ),
        (
            {"custom_arkose_url": "true"},
            "custom_arkose_url: stays off, since arkose_urls is empty",
        ),
        (
            {"gpt_4_s_new_name": "gpt-4-s", "gpt_3_5_new_name": "gpt-4-s,gpt-3.5-turbo"},
            "gpt_3_5_new_name: gpt-4-s is left out, another model has this name",
        ),
        (
            {"upstream_api_prefix": "new", "pandora_api_prefix": "old"},
            "pandora_api_prefix: left out, upstream.api_prefix is already set by another key",
        ),
        ({"gpt_3_5_new_name": "gpt-4"}, 'gpt_3_5_new_name: became models.gpt_3_5 = ["gpt-4"]'),
        (
            {"redis": {"port": "x"}},
            "redis: cannot be used, so redis.url stays as it is: expected a",
        ),
    ],
)
def test_an_invalid_value_is_named_and_all_others_are_migrated(
    tmp_path: Path, config: object, line: str
) -> None:
    _, told = run(tmp_path, config)
    assert line in told


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ({"id": "https://x/g/g-a"}, "left out: expected an id that begins with g-"),
        ({}, 'left out: expected {"id": "g-..."}'),
        ("g-a", 'left out: expected {"id": "g-..."}'),
        ({"id": "g-a", "name": "n"}, "in gpts.local.toml, without name"),
    ],
)
def test_each_gpt_is_migrated_or_named(tmp_path: Path, entry: object, what: str) -> None:
    loaded, told = run(tmp_path, {}, {"mine": entry, "gpt-4-s": {"id": "g-b"}})
    assert f"mine: {what}" in told
    assert "gpt-4-s: left out: a model has this name" in told
    assert [name for name, _ in loaded.custom] == (["mine"] if "without" in what else [])


def test_files_with_settings_are_overwritten_only_with_force(tmp_path: Path) -> None:
    # Defaults contain nothing that could be lost.
    (tmp_path / "settings.local.toml").write_text((settings.HERE / "settings.toml").read_text())
    (tmp_path / "gpts.local.toml").write_text((settings.HERE / "gpts.toml").read_text())
    run(tmp_path, CONFIG, GPTS)
    written = (tmp_path / "settings.local.toml").read_text()
    with pytest.raises(MigrateError, match=r"settings\.local\.toml has settings of yours"):
        run(tmp_path, {"log_level": "ERROR"})
    assert (tmp_path / "settings.local.toml").read_text() == written
    loaded, _ = run(tmp_path, {"log_level": "ERROR"}, force=True)
    assert loaded.log.level == "ERROR"
    assert loaded.custom == ()


def test_the_command_reports_an_unreadable_file_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    for name, why in [("none.json", "cannot be read: No such"), ("config.json", "is not JSON")]:
        command = [
            sys.executable,
            "-m",
            "settings.migrate",
            str(tmp_path / name),
            "--to",
            str(tmp_path),
        ]
        done = subprocess.run(command, cwd=settings.HERE, capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.startswith(f"nothing was written: {tmp_path / name} {why}")
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
