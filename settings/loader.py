"""Load the settings from `settings.toml`, `gpts.toml` and the environment.

A setting is looked up in the environment (`GATEWAY__SECTION__KEY`), then in `settings.local.toml`,
which is the operator's own and not part of a release, then in `settings.toml`, then among the
defaults of the records. Each is decoded by the type that its field declares, so anything wrong
stops the start with a `SettingsError` that names the file or variable and the key. It never shows a
value, which may be a password.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect
from msgspec.structs import FieldInfo, fields

from settings import HERE, Gpt, Models, Schema, Settings, SettingsError
from settings.credentials import Secret
from settings.networks import Network, networks
from settings.redis_url import RedisUrl, redis_url
from settings.urls import ProxyUrl, proxy_url

OVERRIDE = "GATEWAY__"
"""Prefix of the environment variables that override settings."""

FIELDS = {
    f"{section.name}.{key.name}": key for section in fields(Schema) for key in fields(section.type)
}
"""Every setting by its full name, as in `server.port`."""

_SECTIONS = tuple(section.name for section in fields(Schema))
_PARSERS: Mapping[object, tuple[Any, Callable[[Any], object]]] = {
    Secret: (str, Secret),
    RedisUrl | None: (str, lambda text: redis_url(text) if text else None),
    ProxyUrl | None: (str, lambda text: proxy_url(text) if text else None),
    tuple[Network, ...]: (tuple[str, ...], networks),
}
"""For types of ours, the type in the file and the function that converts it."""

_DECLARED: dict[type[inspect.Type], str] = {
    inspect.IntType: "a whole number",
    inspect.FloatType: "a number",
    inspect.BoolType: "true or false",
    inspect.VarTupleType: "a list of strings",
    inspect.DictType: "a table of numbers",
}
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text in quotes",
    "bool": "true or false",
    "array": "a list",
    "list": "a list",
    "object": "a table",
    "dict": "a table",
}
"""Plain words for the names that msgspec and Python give to kinds of values."""


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings that `environ`, by default this process's environment, points to.

    Raises SettingsError.
    """
    environ = os.environ if environ is None else environ
    path = Path(environ.get("GATEWAY_SETTINGS") or HERE / "settings.toml")
    given: dict[str, _Given] = {}
    for each in _with_local(path):
        given |= _from_file(each, _shown(each))
    given |= _from_environment(environ)
    sections = {section.name: _section(section, _shown(path), given) for section in fields(Schema)}
    models: Models = sections["models"]
    return Settings(
        **sections,
        directory=path.resolve().parent,
        custom=_custom_gpts(environ.get("GATEWAY_GPTS"), models),
    )


class _Given(msgspec.Struct, frozen=True):
    """A value that was set, and its place, for error messages."""

    place: str
    value: object


def _with_local(path: Path) -> list[Path]:
    """Return a file and, if there is one, the operator's own file that is read after it."""
    local = path.with_name(f"{path.stem}.local{path.suffix}")
    return [path, local] if local.is_file() else [path]


def _shown(path: Path) -> str:
    return path.name if path.parent == HERE else str(path)


def _from_file(path: Path, file: str) -> Iterator[tuple[str, _Given]]:
    for section, table in _read(path, file).items():
        if section not in _SECTIONS:
            raise SettingsError(f"{file}: {section}: no such section{_hint(section, _SECTIONS)}")
        if not isinstance(table, dict):
            raise SettingsError(f"{file}: {section}: expected a table, got {_kind(table)}")
        for key, value in table.items():
            name = f"{section}.{key}"
            if name not in FIELDS:
                raise SettingsError(f"{file}: {name}: no such setting{_hint(name, FIELDS)}")
            yield name, _Given(f"{file}: {name}", value)


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, _Given]]:
    for variable, text in environ.items():
        if not variable.startswith(OVERRIDE):
            continue
        place = f"environment: {variable}"
        name = variable.removeprefix(OVERRIDE).lower().replace("__", ".", 1)
        if name not in FIELDS:
            raise SettingsError(f"{place}: no such setting{_hint(name, FIELDS)}")
        yield name, _Given(place, _from_text(place, text, FIELDS[name].type))


def _from_text(place: str, text: str, kind: object) -> object:
    """Read a variable's text as TOML, unless the setting is a text itself."""
    declared = _declared(kind)
    if isinstance(declared, inspect.StrType | inspect.LiteralType):
        return text
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        document = {}
    if document.keys() != {"value"}:
        raise SettingsError(f"{place}: expected {_DECLARED[type(declared)]}, written as in TOML")
    return document["value"]


def _section(section: FieldInfo, file: str, given: Mapping[str, _Given]) -> Any:
    """Decode one section. The result is of that section's own type, hence Any."""
    values: dict[str, object] = {}
    for key in fields(section.type):
        setting = given.get(f"{section.name}.{key.name}")
        if setting is None:
            continue
        try:
            values[key.name] = _decode(setting.value, key.type)
        except ValueError as error:  # msgspec's ValidationError is one, too
            raise SettingsError(f"{setting.place}: {_expected(error, key.type)}") from None
    try:
        return section.type(**values)
    except ValueError as error:
        key_name, _, why = str(error).partition(": ")
        name = f"{section.name}.{key_name}"
        place = given[name].place if name in given else f"{file}: {name}"
        raise SettingsError(f"{place}: {why}") from None


def _decode(value: object, kind: Any) -> object:
    if kind not in _PARSERS:
        return msgspec.convert(value, kind)
    written, parse = _PARSERS[kind]
    return parse(msgspec.convert(value, written))


def _declared(kind: object) -> inspect.Type:
    """Return the type of a setting as it is written in the file."""
    return inspect.type_info(_PARSERS[kind][0] if kind in _PARSERS else kind)


def _custom_gpts(named: str | None, models: Models) -> tuple[tuple[str, Gpt], ...]:
    path = Path(named or HERE / "gpts.toml")
    gpts: dict[str, Gpt] = {}
    for each in _with_local(path):
        if named or each.exists():
            gpts |= _gpts_of_file(each, models)
    return tuple(gpts.items())


def _gpts_of_file(path: Path, models: Models) -> Iterator[tuple[str, Gpt]]:
    file = _shown(path)
    for name, table in _read(path, file).items():
        if name in models.names():
            raise SettingsError(f"{file}: {name}: the settings give this name to a model")
        try:
            yield name, msgspec.convert(table, Gpt)
        except msgspec.ValidationError:
            raise SettingsError(
                f'{file}: {name}: expected a table with id = "g-...", the end of the GPT\'s link,'
                " and nothing else"
            ) from None


def _read(path: Path, file: str) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise SettingsError(f"{file}: is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file}: is not TOML: {error}") from None


def _expected(error: ValueError, kind: object) -> str:
    """Say in plain words what a setting should be: "expected a whole number, got a list"."""
    if not isinstance(error, msgspec.ValidationError):
        return str(error)
    declared = _declared(kind)
    if isinstance(declared, inspect.LiteralType):
        return "expected one of " + ", ".join(f'"{value}"' for value in declared.values)
    message = re.sub(
        r"`(\w+)", lambda name: _KINDS.get(name[1], name[1]), str(error).partition(" - at ")[0]
    )
    return message[:1].lower() + message[1:].replace("`", "")


def _hint(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _kind(value: object) -> str:
    name = type(value).__name__
    return _KINDS.get(name, name)
