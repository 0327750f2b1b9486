"""`python -m settings.migrate config.json gpts.json`: convert the predecessor's two files to ours.

Writes `settings.local.toml` and `gpts.local.toml`, and reports the result for each key. A value
that cannot be used is named and its setting stays at the default, so the files that are written
always load.
Settings for which the predecessor had no key stay at their defaults, too.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias
from urllib.parse import quote

import msgspec

from settings import HERE, Gpt, Models, Settings, SettingsError
from settings.loader import FIELDS, OVERRIDE, load

_NO_FILES = {"GATEWAY_SETTINGS": os.devnull, "GATEWAY_GPTS": os.devnull}

Table: TypeAlias = dict[str, object]
Setting: TypeAlias = str | bool | int | list[str]


class MigrateError(Exception):
    """Nothing was written. The message is the reason."""


def main() -> None:
    """Read the arguments, write the files, print the report."""
    parser = argparse.ArgumentParser(
        prog="python -m settings.migrate",
        description="Turn the predecessor's config.json and gpts.json into settings.local.toml"
        " and gpts.local.toml, and report the result for each key.",
    )
    parser.add_argument("config", type=Path, help="the predecessor's config.json")
    parser.add_argument("gpts", type=Path, nargs="?", help="its gpts.json, if there is one")
    parser.add_argument(
        "--to",
        type=Path,
        default=HERE,
        metavar="DIRECTORY",
        help="directory of the two new files (default: %(default)s)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite files that were changed")
    given = parser.parse_args()
    try:
        print("\n".join(migrate(given.config, given.gpts, given.to, force=given.force)))
    except MigrateError as error:
        sys.exit(f"nothing was written: {error}")


def migrate(config: Path, gpts: Path | None, to: Path, *, force: bool = False) -> list[str]:
    """Write the two files into the directory `to`, and return a report with a line for each key.

    Raises:
        MigrateError: a file cannot be read or written, or settings would be lost.
    """
    migration = Migration(_read_json(config), _read_json(gpts) if gpts else {})
    files = {
        to / "settings.local.toml": _sections(migration.settings),
        to / "gpts.local.toml": _tables(migration.gpts),
    }
    for path in files:
        if not force and _was_changed(path):
            raise MigrateError(f"{path} has settings of yours; --force overwrites them")
    _check_loads(*files.values())
    try:
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MigrateError(f"{error.filename} cannot be written: {error.strerror}") from None
    return [*migration.report, "", *(f"wrote {path}" for path in files)]


# Values as the predecessor wrote them


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("expected text")
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
    """Split a list at its commas."""
    return [part.strip() for part in _text(value).split(",") if part.strip()]


RULES: Mapping[str, tuple[str, Callable[[object], Setting]]] = {
    "log_level": ("log.level", _level),
    "need_log_to_file": ("log.to_file", _boolean),
    "process_workers": ("server.processes", _number),
    "pandora_base_url": ("upstream.base_url", _text),
    "pandora_api_prefix": ("upstream.api_prefix", _text),
    # New names of the same two since 0.6.0, and a key that came with 0.7.7.
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
_NO_POOL = "not needed: connections to Redis are opened on demand"
NOT_NEEDED = {
    "process_threads": "not needed: a process serves any number of requests without threads",
    "redis.pool_size": _NO_POOL,
    "redis.pool_timeout": _NO_POOL,
}


class Migration:
    """Contents for `settings.local.toml` and `gpts.local.toml`, and the report on each key."""

    def __init__(self, config: Table, gpts: Table) -> None:
        self.settings: dict[str, Setting] = {}
        self.gpts: dict[str, str] = {}
        self.report: list[str] = []
        keys = _flat(config)
        for key, value in keys.items():
            if key in RULES:
                setting, convert = RULES[key]
                self._convert(key, setting, convert, value)
            elif key in NOT_NEEDED:
                self._note(key, NOT_NEEDED[key])
            elif key not in MODELS and key not in REDIS:
                self._note(key, "unknown, left out")
        self._convert_models(keys, gpts)
        self._convert_redis(keys)
        self._check_together()
        self._convert_gpts(gpts)

    def _note(self, key: str, result: str) -> None:
        self.report.append(f"{key}: {result}")

    def _convert(
        self, key: str, setting: str, convert: Callable[[object], Setting], value: object
    ) -> None:
        try:
            converted = convert(value)
            if converted in ("", []):
                self._note(key, f"empty, so {setting} stays as it is")
                return
            _check(setting, converted)
        except ValueError as error:
            self._note(key, f"cannot be used, so {setting} stays as it is: {error}")
            return
        if setting in self.settings:
            self._note(key, f"left out, {setting} is already set by another key")
            return
        self.settings[setting] = converted
        secret = setting in ("gpts.key_for_info", "redis.url", "upstream.proxy")
        self._note(key, f"became {setting}{'' if secret else f' = {_toml(converted)}'}")

    def _convert_models(self, keys: Table, gpts: Table) -> None:
        """Give each name to the first model that lists it, since no two models may share one."""
        lists = {key: self._names(key, keys) for key in MODELS}
        given = {name for names in lists.values() for name in names}
        for key, names in lists.items():
            if not names:
                usual = getattr(Models(), MODELS[key].removeprefix("models."))
                names += [name for name in usual if name not in given]
        if "gpt-4" not in given | set(gpts) and "gpt-4" not in lists["gpt_4_s_new_name"]:
            # The predecessor's own examples use it.
            lists["gpt_4_s_new_name"].append("gpt-4")
        seen: set[str] = set()
        for key, names in lists.items():
            own = [name for name in dict.fromkeys(names) if name not in seen]
            seen.update(own)
            self.settings[MODELS[key]] = list(own)
            if key in keys:
                self._note(key, f"became {MODELS[key]} = {_toml(own)}")
            for name in names:
                if name not in own:
                    self._note(key, f"{name} is left out, another model has this name")

    def _names(self, key: str, keys: Table) -> list[str]:
        setting = MODELS[key]
        try:
            return _list(keys.get(key, ""))
        except ValueError as error:
            self._note(key, f"cannot be used, so {setting} stays as it is: {error}")
            return []

    def _convert_redis(self, keys: Table) -> None:
        given = [key for key in REDIS if key in keys]
        if not given:
            return
        try:
            host = _text(keys.get("redis.host", "redis")) or "redis"
            port = _number(keys.get("redis.port", 6379))
            database = _number(keys.get("redis.db", 0))
            password = _verbatim(keys.get("redis.password", ""))
        except ValueError as error:
            self._note("redis", f"cannot be used, so redis.url stays as it is: {error}")
            return
        if (host, port, database, password) == ("redis", 6379, 0, ""):
            note = "the predecessor's own container, so redis.url stays empty: compose.yaml sets it"
            self._note(", ".join(given), f"{note}, and `make run` starts a Redis")
            return
        access = f":{quote(password, safe='')}@" if password else ""
        self._convert(
            ", ".join(given), "redis.url", _text, f"redis://{access}{host}:{port}/{database}"
        )

    def _check_together(self) -> None:
        """Mend or report settings that are valid alone but not together."""
        if self.settings.get("arkose.custom") and not self.settings.get("arkose.urls"):
            self.settings["arkose.custom"] = False
            self._note("custom_arkose_url", "stays off, since arkose_urls is empty")
        if self.settings.get("media.use_pandora_file_server"):
            advice = "Pandora's file server is gone: name another one in media.pandora_file_server"
            self._note("use_pandora_file_server", advice)

    def _convert_gpts(self, gpts: Table) -> None:
        models = [name for setting in MODELS.values() for name in _strings(self.settings[setting])]
        for name, entry in gpts.items():
            match entry:
                case {"id": str(gpt), **others}:
                    pass
                case _:
                    self._note(name, 'left out: expected {"id": "g-..."}')
                    continue
            try:
                msgspec.convert({"id": gpt}, Gpt)
            except msgspec.ValidationError:
                self._note(name, "left out: expected an id that begins with g-")
                continue
            if name in models:
                self._note(name, "left out: a model has this name")
                continue
            self.gpts[name] = gpt
            self._note(name, f"in gpts.local.toml{''.join(f', without {key}' for key in others)}")


def _flat(config: Table) -> Table:
    """Flatten `bot_mode` and `redis`: {"redis.host": ...}."""
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
    """Raise ValueError if the gateway would refuse this value for this setting."""
    if isinstance(value, bool):
        return
    variable = f"{OVERRIDE}{setting.replace('.', '__').upper()}"
    text = value if isinstance(value, str) else _toml(value)
    try:
        load({**_NO_FILES, variable: text})
    except SettingsError as error:
        raise ValueError(str(error).rpartition(f"{variable}: ")[2]) from None


def _toml(value: Setting) -> str:
    # TOML and JSON write these types in the same way.
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
    """Return True if overwriting the file would lose settings: it says more than the defaults."""
    if not path.exists():
        return False
    variable = "GATEWAY_GPTS" if path.name == "gpts.local.toml" else "GATEWAY_SETTINGS"
    try:
        loaded = load({**_NO_FILES, variable: str(path)})
    except SettingsError:
        return True
    return msgspec.structs.replace(loaded, directory=HERE) != Settings()


def _sections(values: Mapping[str, Setting]) -> str:
    """Render settings that are not at their defaults, in the order of `settings.toml`."""
    text = (
        "# Settings of this gateway. They override those of settings.toml, which explains each.\n"
    )
    section = ""
    for name in (name for name in FIELDS if name in values):
        key = name.partition(".")
        if values[name] == _default(name):
            continue
        if key[0] != section:
            section = key[0]
            text += f"\n[{section}]\n"
        text += f"{key[2]} = {_toml(values[name])}\n"
    return text


def _default(name: str) -> object:
    section, _, key = name.partition(".")
    value = getattr(getattr(Settings(), section), key)
    return list(value) if isinstance(value, tuple) else value


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
            load({variable: str(path) for variable, (path, _) in named.items()})
        except SettingsError as error:
            raise MigrateError(f"the new settings do not load: {error}") from None


if __name__ == "__main__":
    main()
