"""`python -m app keys` with a real Redis."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

import app.__main__
from local.redis import EmbeddedRedis, free_port
from wire.jobs import fingerprint
from wire.line import keys

Command = Callable[..., str]


@pytest.fixture
def command(
    redis_server: EmbeddedRedis,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """Runs a command, and returns what it prints."""
    redis.Redis.from_url(redis_server.url).flushall()
    monkeypatch.setenv("GATEWAY__REDIS__URL", redis_server.url)
    monkeypatch.setenv("GATEWAY__AUTH__MODE", "both")
    monkeypatch.setenv("GATEWAY__UPSTREAM__KIND", "openai")

    def run(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["app", "keys", *arguments])
        capsys.readouterr()
        app.__main__.main()
        return capsys.readouterr().out

    return run


def test_a_new_key_is_alone_on_standard_output_and_nowhere_in_redis(
    command: Command, redis_server: EmbeddedRedis
) -> None:
    key = command("new", "bot").removesuffix("\n")
    assert key.startswith("gw-")
    assert "\n" not in key
    found = redis.Redis.from_url(redis_server.url)
    assert set(found.scan_iter()) == {
        keys.keyring.encode(),
        keys.issued(fingerprint(key)).encode(),
        keys.audit.encode(),
    }
    assert key.encode() not in found.dump(keys.audit)  # type: ignore[operator]  # redis-py: sync or async
    assert key.encode() not in (found.get(keys.issued(fingerprint(key))) or b"")  # type: ignore[operator]  # redis-py: sync or async


def test_every_change_is_in_the_audit_log_with_the_name_of_the_user(
    command: Command, redis_server: EmbeddedRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "anna")
    id = fingerprint(command("new", "bot", "--weight", "2").strip())
    command("set", "bot", "--name", "robot")
    (tmp_path / "backup").write_text(command("export"))
    command("revoke", "robot")
    command("import", str(tmp_path / "backup"))
    command("list")
    written = redis.Redis.from_url(redis_server.url).xrange(keys.audit)
    entries = [json.loads(fields[b"entry"]) for _, fields in written]  # type: ignore[union-attr]  # redis-py: sync or async
    assert {entry["who"].partition(" as ")[0] for entry in entries} == {"anna"}
    assert [(e["action"], e["target"], e["details"], e["result"]) for e in entries] == [
        ("issue_key", f"key {id}", {"name": '"bot"', "weight": "2"}, "issued"),
        ("change_key", f"key {id}", {"name": '"robot"'}, "changed"),
        ("revoke_key", f"key {id}", {}, "revoked"),
        ("import_keys", "", {"records": "1"}, "imported"),
    ]


def test_every_field_of_a_record_can_be_set_and_shown(command: Command) -> None:
    given = {
        "expires": ("2030-12-31", 1924905600),
        "weight": ("2.5", 2.5),
        "priority": ("default", "default"),
        "models": ("gpt-4, qwen", ["gpt-4", "qwen"]),
        "max_running": ("3", 3),
        "max_waiting": ("4", 4),
        "requests_per_minute": ("60", 60),
        "budget_unit": ("tokens", "tokens"),
        "budget_day": ("1e6", 1e6),
        "budget_month": ("2e7", 2e7),
        "max_wait": ("0", 0.0),
        "bot": ("enabled=true,plugin_output=false", {"enabled": True, "plugin_output": False}),
        "notes": ("of Ann", "of Ann"),
    }
    options = [
        part
        for field, (text, _) in given.items()
        for part in (f"--{field.replace('_', '-')}", text)
    ]
    key = command("new", "bot", *options).strip()
    shown = json.loads(command("show", "bot", "--json"))
    assert {field: shown[field] for field in given} == {
        field: value for field, (_, value) in given.items()
    }
    # A setting that is not given stays; each has a value that takes it away.
    command("set", fingerprint(key), "--name", "robot", "--models", "", "--max-wait", "none")
    command("set", "robot", "--expires", "never", "--bot", "")
    changed = json.loads(command("list", "--json"))[0]
    assert changed == shown | {
        "name": "robot",
        "models": [],
        "max_wait": None,
        "expires": 0,
        "bot": {},
    }
    table = command("list")
    assert "1e+06 a day, 2e+07 a month (tokens)" in table
    assert "never" in table
    assert "notes                of Ann" in command("show", "robot")


def test_a_revoked_key_stays_in_the_list(command: Command) -> None:
    command("new", "bot")
    command("revoke", "bot")
    assert "revoked" in command("list")
    newer = command("new", "bot").strip()
    assert fingerprint(newer) in command("show", "bot")  # the name means the key that is valid


def test_an_export_is_a_backup_and_an_import_can_be_repeated(
    command: Command,
    redis_server: EmbeddedRedis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = [command("new", name, "--weight", "2").strip() for name in ("a", "b")]
    exported = command("export")
    assert len(exported.splitlines()) == 2
    assert not any(key in exported for key in made)
    redis.Redis.from_url(redis_server.url).flushall()
    backup = tmp_path / "keys.jsonl"
    backup.write_text(exported)
    assert command("import", str(backup)).startswith("Added 2 of 2")
    monkeypatch.setattr("sys.stdin", io.StringIO(exported))
    assert command("import", "-").startswith("Added 0 of 2")
    assert command("export") == exported


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "nobody"], "There is no gateway key with the id or name nobody."),
        (["revoke", "0" * 16], f"There is no gateway key with the id or name {'0' * 16}."),
        (["show", "twice"], "Several gateway keys have the name twice. Use an id: "),
        (["set", "once"], "Nothing to change."),
        (["set", "once", "--weight", "0"], "--weight: expected a number >= 0.01."),
        (["set", "once", "--max-running", "1.5"], "--max-running: expected a whole number"),
        (["new", "a\nb"], "--name: "),
        (["import", "/nowhere"], "/nowhere: cannot be read: No such file or directory"),
        (["import", __file__], "Line 1 is not the record of a gateway key. Nothing was imported."),
    ],
)
def test_a_failure_is_one_sentence_and_status_1(
    command: Command, arguments: list[str], message: str
) -> None:
    for name in ("twice", "twice", "once"):
        command("new", name)
    with pytest.raises(SystemExit) as ended:
        command(*arguments)
    assert str(ended.value.code).startswith(message)


@pytest.mark.parametrize("value", ["soon", "2030-13-01"])
def test_a_wrong_option_is_refused_by_name(
    command: Command, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    with pytest.raises(SystemExit):
        command("new", "bot", "--expires", value)
    assert f"argument --expires: expected a date such as 2030-12-31, or never, got '{value}'" in (
        capsys.readouterr().err
    )


def test_a_redis_that_cannot_be_used_is_one_sentence(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY__REDIS__URL", f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(SystemExit) as ended:
        command("list")
    assert ended.value.code == "Redis cannot be used: connection refused: no server listens there."


def test_a_key_that_the_settings_do_not_use_is_issued_with_a_note(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATEWAY__AUTH__MODE", "passthrough")
    monkeypatch.setattr("sys.argv", ["app", "keys", "new", "bot"])
    app.__main__.main()
    assert "take no gateway keys: see auth.mode" in capsys.readouterr().err
