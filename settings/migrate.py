"""`python -m settings.migrate config.json gpts.json`: the predecessor's two files into ours.

Writes `settings.toml` and `gpts.toml`, and tells what became of each key. A value that cannot be
used is named and left at its default, so that what is written always loads. What the predecessor
had no key for stays as `settings.toml` says.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias
from urllib.parse import quote

import msgspec

import settings

Table: TypeAlias = dict[str, object]
Setting: TypeAlias = str | bool | int | list[str]


class MigrateError(Exception):
    """Nothing was written; the message says why."""


def main() -> None:
    """Read the arguments, write the files, tell what was done."""
    parser = argparse.ArgumentParser(
        prog="python -m settings.migrate",
        description="Turn the predecessor's config.json and gpts.json into settings.toml and"
        " gpts.toml, and tell what became of each key.",
    )
    parser.add_argument("config", type=Path, help="the predecessor's config.json")
    parser.add_argument("gpts", type=Path, nargs="?", help="its gpts.json, if there is one")
    parser.add_argument(
        "--to",
        type=Path,
        default=settings.HERE,
        metavar="DIRECTORY",
        help="where the two files go (default: %(default)s)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite files that were changed")
    given = parser.parse_args()
    try:
        print("\n".join(migrate(given.config, given.gpts, given.to, force=given.force)))
    except MigrateError as error:
        sys.exit(f"nothing was written: {error}")


def migrate(config: Path, gpts: Path | None, to: Path, *, force: bool = False) -> list[str]:
    """Write the two files into the directory `to`; what became of each key, line by line.

    Raises:
        MigrateError: a file cannot be read or written, or settings would be lost.
    """
    migration = Migration(_read_json(config), _read_json(gpts) if gpts else {})
    files = {
        to / "settings.toml": _filled_in(migration.settings),
        to / "gpts.toml": _tables(migration.gpts),
    }
    for path in files:
        if not force and _was_changed(path):
            raise MigrateError(f"{path} has settings of yours already; --force overwrites them")
    _check_loads(*files.values())
    try:
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MigrateError(f"{error.filename} cannot be written: {error.strerror}") from None
    return [*migration.told, "", *(f"wrote {path}" for path in files)]


# How the predecessor wrote values


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("expected a text")
    return value.strip()


def _verbatim(value: object) -> str:
    _text(value)
    return str(value)


def _boolean(value: object) -> bool:
    match value:
        case bool():
            return value
        case str() if value.strip().lower() in ("true", "false"):
            return value.strip().lower() == "true"
        case _:
            raise ValueError('expected "true" or "false"')


def _number(value: object) -> int:
    match value:
        case int() if not isinstance(value, bool):
            return value
        case str() if value.strip().isdecimal():
            return int(value)
        case _:
            raise ValueError("expected a whole number")


def _level(value: object) -> str:
    return _text(value).upper()


def _list(value: object) -> list[str]:
    """Texts between commas."""
    return [part.strip() for part in _text(value).split(",") if part.strip()]


RULES: Mapping[str, tuple[str, Callable[[object], Setting]]] = {
    "log_level": ("log.level", _level),
    "need_log_to_file": ("log.to_file", _boolean),
    "process_workers": ("server.processes", _number),
    "pandora_base_url": ("upstream.base_url", _text),
    "pandora_api_prefix": ("upstream.api_prefix", _text),
    # The same two since 0.6.0, and one that came with 0.7.7.
    "upstream_base_url": ("upstream.base_url", _text),
    "upstream_api_prefix": ("upstream.api_prefix", _text),
    "proxy": ("upstream.proxy", _text),
    "backend_container_url": ("server.public_url", _text),
    "backend_container_api_prefix": ("server.api_prefix", _text),
    "key_for_gpts_info": ("gpts.key_for_info", _text),
    "need_delete_conversation_after_response": ("conversation.delete_after_response", _boolean),
    "use_oaiusercontent_url": ("media.use_oaiusercontent_url", _boolean),
    "use_pandora_file_server": ("media.use_pandora_file_server", _boolean),
    "custom_arkose_url": ("arkose.custom", _boolean),
    "arkose_urls": ("arkose.urls", _list),
    "dalle_prompt_prefix": ("images.prompt_prefix", _verbatim),
    "bot_mode.enabled": ("bot.enabled", _boolean),
    "bot_mode.enabled_markdown_image_output": ("bot.markdown_image", _boolean),
    "bot_mode.enabled_plain_image_url_output": ("bot.plain_image_url", _boolean),
    "bot_mode.enabled_bing_reference_output": ("bot.bing_reference", _boolean),
    "bot_mode.enabled_plugin_output": ("bot.plugin_output", _boolean),
}
MODELS = {
    "gpt_4_s_new_name": "models.gpt_4_s",
    "gpt_4_mobile_new_name": "models.gpt_4_mobile",
    "gpt_3_5_new_name": "models.gpt_3_5",
}
REDIS = ("redis.host", "redis.port", "redis.password", "redis.db")
_NO_POOL = "not needed: connections to Redis are made as they are needed"
NOT_NEEDED = {
    "process_threads": "not needed: a process serves any number of requests without threads",
    "redis.pool_size": _NO_POOL,
    "redis.pool_timeout": _NO_POOL,
}


class Migration:
    """What `settings.toml` and `gpts.toml` are to say, and what became of each key."""

    def __init__(self, config: Table, gpts: Table) -> None:
        self.settings: dict[str, Setting] = {}
        self.gpts: dict[str, str] = {}
        self.told: list[str] = []
        keys = _flat(config)
        for key, value in keys.items():
            if key in RULES:
                setting, convert = RULES[key]
                self._take(key, setting, convert, value)
            elif key in NOT_NEEDED:
                self._tell(key, NOT_NEEDED[key])
            elif key not in MODELS and key not in REDIS:
                self._tell(key, "unknown, left out")
        self._take_models(keys, gpts)
        self._take_redis(keys)
        self._look_again()
        self._take_gpts(gpts)

    def _tell(self, key: str, what: str) -> None:
        self.told.append(f"{key}: {what}")

    def _take(
        self, key: str, setting: str, convert: Callable[[object], Setting], value: object
    ) -> None:
        try:
            converted = convert(value)
            if converted in ("", []):
                self._tell(key, f"empty, so {setting} stays as it is")
                return
            _check(setting, converted)
        except ValueError as error:
            self._tell(key, f"cannot be used, so {setting} stays as it is: {error}")
            return
        if setting in self.settings:
            self._tell(key, f"left out, {setting} has been named already")
            return
        self.settings[setting] = converted
        secret = setting in ("gpts.key_for_info", "redis.url", "upstream.proxy")
        self._tell(key, f"became {setting}{'' if secret else f' = {_toml(converted)}'}")

    def _take_models(self, keys: Table, gpts: Table) -> None:
        """Each name goes to the first that claims it, as no name may be given twice."""
        lists = {key: self._names(key, keys) for key in MODELS}
        given = {name for names in lists.values() for name in names}
        for key, names in lists.items():
            if not names:
                usual = getattr(settings.Models(), MODELS[key].removeprefix("models."))
                names += [name for name in usual if name not in given]
        if "gpt-4" not in given | set(gpts) and "gpt-4" not in lists["gpt_4_s_new_name"]:
            # The predecessor's own examples ask for it.
            lists["gpt_4_s_new_name"].append("gpt-4")
        seen: set[str] = set()
        for key, names in lists.items():
            own = [name for name in dict.fromkeys(names) if name not in seen]
            seen.update(own)
            self.settings[MODELS[key]] = list(own)
            if key in keys:
                self._tell(key, f"became {MODELS[key]} = {_toml(own)}")
            for name in names:
                if name not in own:
                    self._tell(key, f"{name} is left out, another model has this name")

    def _names(self, key: str, keys: Table) -> list[str]:
        setting = MODELS[key]
        try:
            return _list(keys.get(key, ""))
        except ValueError as error:
            self._tell(key, f"cannot be used, so {setting} stays as it is: {error}")
            return []

    def _take_redis(self, keys: Table) -> None:
        given = [key for key in REDIS if key in keys]
        if not given:
            return
        try:
            host = _text(keys.get("redis.host", "redis")) or "redis"
            port = _number(keys.get("redis.port", 6379))
            database = _number(keys.get("redis.db", 0))
            password = _verbatim(keys.get("redis.password", ""))
        except ValueError as error:
            self._tell("redis", f"cannot be used, so redis.url stays as it is: {error}")
            return
        access = f":{quote(password, safe='')}@" if password else ""
        self._take(
            ", ".join(given), "redis.url", _text, f"redis://{access}{host}:{port}/{database}"
        )

    def _look_again(self) -> None:
        """What is right by itself and yet makes no sense."""
        if self.settings.get("arkose.custom") and not self.settings.get("arkose.urls"):
            self.settings["arkose.custom"] = False
            self._tell("custom_arkose_url", "stays off, since arkose_urls names no address")
        if self.settings.get("media.use_pandora_file_server"):
            advice = "Pandora's file server is gone: name another one in media.pandora_file_server"
            self._tell("use_pandora_file_server", advice)

    def _take_gpts(self, gpts: Table) -> None:
        models = [name for setting in MODELS.values() for name in _strings(self.settings[setting])]
        for name, entry in gpts.items():
            match entry:
                case {"id": str(gpt), **others}:
                    pass
                case _:
                    self._tell(name, 'left out: expected {"id": "g-..."}')
                    continue
            try:
                msgspec.convert({"id": gpt}, settings.Gpt)
            except msgspec.ValidationError:
                self._tell(name, "left out: expected an id that begins with g-")
                continue
            if name in models:
                self._tell(name, "left out: a model has this name")
                continue
            self.gpts[name] = gpt
            self._tell(name, f"in gpts.toml{''.join(f', without {key}' for key in others)}")


def _flat(config: Table) -> Table:
    """`bot_mode` and `redis` unfolded: {"redis.host": ...}."""
    flat: Table = {}
    for key, value in config.items():
        if key in ("bot_mode", "redis") and isinstance(value, dict):
            flat |= {f"{key}.{inner}": each for inner, each in value.items()}
        else:
            flat[key] = value
    return flat


def _strings(value: Setting) -> list[str]:
    return value if isinstance(value, list) else []


def _check(setting: str, value: Setting) -> None:
    """Raises ValueError when the gateway would not take this value for this setting."""
    if isinstance(value, bool):
        return
    variable = f"{settings.OVERRIDE}{setting.replace('.', '__').upper()}"
    text = value if isinstance(value, str) else _toml(value)
    nothing = {"GATEWAY_SETTINGS": os.devnull, "GATEWAY_GPTS": os.devnull}
    try:
        settings.load({**nothing, variable: text})
    except settings.SettingsError as error:
        raise ValueError(str(error).rpartition(f"{variable}: ")[2]) from None


def _toml(value: Setting) -> str:
    # Texts, whole numbers, true, false and lists of texts are written as in JSON.
    return json.dumps(value, ensure_ascii=False)


# Files


def _read_json(path: Path) -> Table:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise MigrateError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise MigrateError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise MigrateError(f"{path} is not a JSON object")
    return content


def _was_changed(path: Path) -> bool:
    """Whether anything would be lost with this file: it is there and says more than defaults."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True
    shipped = json.loads(msgspec.json.encode(settings.Schema()))
    return any(
        shipped.get(section, {}).get(key) != value
        for section, table in tables.items()
        for key, value in (table.items() if isinstance(table, dict) else [(section, table)])
    )


def _filled_in(values: Mapping[str, Setting]) -> str:
    """Our `settings.toml`, with its comments, and these values in their lines."""
    template = settings.HERE / "settings.toml"
    left = dict(values)
    lines: list[str] = []
    section = ""
    for line in template.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        key = line.partition(" = ")[0]
        name = f"{section}.{key}"
        lines.append(f"{key} = {_toml(left.pop(name))}" if name in left else line)
    if left:
        raise MigrateError(f"{template} has no line for {', '.join(left)}: restore it as it came")
    return "\n".join(lines) + "\n"


def _tables(gpts: Mapping[str, str]) -> str:
    head = "# The GPTs offered as models, each under its name; `id` is the end of the GPT's link.\n"
    return head + "".join(f"\n[{_toml(name)}]\nid = {_toml(gpt)}\n" for name, gpt in gpts.items())


def _check_loads(settings_toml: str, gpts_toml: str) -> None:
    with TemporaryDirectory() as directory:
        named = {
            "GATEWAY_SETTINGS": (Path(directory) / "settings.toml", settings_toml),
            "GATEWAY_GPTS": (Path(directory) / "gpts.toml", gpts_toml),
        }
        for path, text in named.values():
            path.write_text(text, encoding="utf-8")
        try:
            settings.load({variable: str(path) for variable, (path, _) in named.items()})
        except settings.SettingsError as error:
            raise MigrateError(f"what would be written does not load: {error}") from None


if __name__ == "__main__":
    main()
