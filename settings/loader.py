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
from typing import Any, TypeVar

import msgspec
from msgspec import inspect
from msgspec.structs import FieldInfo, fields

from settings import (
    DEFAULTS_OF_KIND,
    HERE,
    MAIN,
    Gpt,
    Models,
    Name,
    Schema,
    Section,
    Settings,
    SettingsError,
    Upstream,
)
from settings.accounts import Account, list_accounts
from settings.credentials import Secret
from settings.networks import Network, networks
from settings.redis_url import RedisUrl, redis_url
from settings.urls import ProxyUrl, proxy_url

_R = TypeVar("_R", bound=Section)

OVERRIDE = "GATEWAY__"
"""Prefix of the environment variables that override settings."""

FIELDS = {
    f"{section.name}.{key.name}": key for section in fields(Schema) for key in fields(section.type)
}
"""Every setting by its full name, as in `server.port`."""

_SECTIONS = tuple(section.name for section in fields(Schema))
_UPSTREAMS = "upstreams"
_OWN = (
    "base_url",
    "credential",
    "credential_file",
    "accounts",
    "accounts_file",
    "models",
    "max_concurrency",
)
"""Settings that `[upstreams.NAME]` does not inherit from `[upstream]`."""
_SECRETS: Mapping[str, object] = {"credential": "", "accounts": []}
"""Settings that are refused in files, unless they have this value."""
_OF_KIND = frozenset(key for defaults in DEFAULTS_OF_KIND.values() for key in defaults)


def _model_names(names: list[str] | dict[str, str]) -> dict[str, str]:
    return names if isinstance(names, dict) else {name: name for name in names}


_PARSERS: Mapping[object, tuple[Any, Callable[[Any], object]]] = {
    Secret: (str, Secret),
    RedisUrl | None: (str, lambda text: redis_url(text) if text else None),
    ProxyUrl | None: (str, lambda text: proxy_url(text) if text else None),
    tuple[Network, ...]: (tuple[str, ...], networks),
    tuple[Account, ...]: (tuple[str, ...], list_accounts),
    dict[str, str]: (list[Name] | dict[Name, Name], _model_names),
}
"""For types of ours, the type in the file and the function that converts it."""

_DECLARED: dict[type[inspect.Type], str] = {
    inspect.IntType: "a whole number",
    inspect.FloatType: "a number",
    inspect.BoolType: "true or false",
    inspect.VarTupleType: "a list of strings",
    inspect.DictType: "a table of numbers",
    inspect.UnionType: "a list of strings or a table of strings",
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
    directory = path.resolve().parent
    given: dict[str, _Given] = {}
    for each in _with_local(path):
        given |= _of_one_source(_from_file(each, _shown(each)))
    given |= _of_one_source(_from_environment(environ))
    file = _shown(path)
    sections = {
        section.name: _section(section.type, section.name, _of_table(section.name, given), file)
        for section in fields(Schema)
        if section.name != "upstream"
    }
    models: Models = sections["models"]
    settings = Settings(
        **_in_directory(sections, directory),
        upstream=_upstream("upstream", _of_table("upstream", given), file, directory),
        others=_others(given, file, directory),
        directory=directory,
        custom=_custom_gpts(environ.get("GATEWAY_GPTS"), models),
    )
    _check_served(settings, given, file)
    return settings


class _Given(msgspec.Struct, frozen=True):
    """A value that was set, and its place, for error messages.

    `kind` is the kind of upstream that the same source sets for the same table, else None.
    """

    place: str
    value: object
    kind: object = None


def _with_local(path: Path) -> list[Path]:
    """Return a file and, if there is one, the operator's own file that is read after it."""
    local = path.with_name(f"{path.stem}.local{path.suffix}")
    return [path, local] if local.is_file() else [path]


def _shown(path: Path) -> str:
    return path.name if path.parent == HERE else str(path)


def _of_one_source(found: Iterable[tuple[str, _Given]]) -> dict[str, _Given]:
    """Collect the settings of a file or of the environment, and note kinds of upstreams."""
    given = dict(found)
    for name, setting in given.items():
        table, _, key = name.rpartition(".")
        if key in _OF_KIND and (kind := given.get(f"{table}.kind")):
            given[name] = msgspec.structs.replace(setting, kind=kind.value)
    return given


def _from_file(path: Path, file: str) -> Iterator[tuple[str, _Given]]:
    for table, values in _tables(_read(path, file), file):
        for key, value in values.items():
            name = f"{table}.{key}"
            if _field(name) is None:
                raise SettingsError(f"{file}: {name}: no such setting{_hint(name, _known(table))}")
            if key in _SECRETS and value != _SECRETS[key]:
                raise SettingsError(
                    f"{file}: {name}: expected no secret in this file; name a file that has it in"
                    f" {name}_file, or set {_variable(name)} in the environment"
                )
            yield name, _Given(f"{file}: {name}", value)


def _tables(document: Mapping[str, object], file: str) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield each table of a file by its name: `server`, `upstream`, `upstreams.gpu_b`."""
    for section, value in document.items():
        if section not in (*_SECTIONS, _UPSTREAMS):
            hint = _hint(section, (*_SECTIONS, _UPSTREAMS))
            raise SettingsError(f"{file}: {section}: no such section{hint}")
        table = _as_table(value, section, file)
        if section != _UPSTREAMS:
            yield section, table
            continue
        for name, inner in table.items():
            _check_name(name, f"{file}: {section}.{name}")
            yield f"{section}.{name}", _as_table(inner, f"{section}.{name}", file)


def _as_table(value: object, name: str, file: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise SettingsError(f"{file}: {name}: expected a table, got {_kind(value)}")
    return value


def _check_name(name: str, place: str) -> None:
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise SettingsError(f"{place}: expected a name of lower-case letters, digits and _")
    if name == MAIN:
        raise SettingsError(f"{place}: expected another name, as [upstream] has this one")


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, _Given]]:
    for variable, text in environ.items():
        if not variable.startswith(OVERRIDE):
            continue
        place = f"environment: {variable}"
        table, name = _named_by(variable)
        field = _field(name)
        if field is None:
            raise SettingsError(f"{place}: no such setting{_hint(name, _known(table))}")
        if table.startswith(f"{_UPSTREAMS}."):
            _check_name(table.partition(".")[2], place)
        yield name, _Given(place, _from_text(place, text, field.type))


def _named_by(variable: str) -> tuple[str, str]:
    """Return the table and the full name of the setting that a variable names."""
    section, _, key = variable.removeprefix(OVERRIDE).lower().partition("__")
    if section == _UPSTREAMS:
        upstream, _, key = key.rpartition("__")
        section = f"{section}.{upstream}"
    return section, f"{section}.{key}"


def _variable(name: str) -> str:
    return f"{OVERRIDE}{name.replace('.', '__').upper()}"


def _field(name: str) -> FieldInfo | None:
    """Return the field of a setting by its full name."""
    table, _, key = name.rpartition(".")
    return FIELDS.get(f"upstream.{key}" if table.startswith(f"{_UPSTREAMS}.") else name)


def _known(table: str) -> list[str]:
    """Return the full names of all settings, those of `table` included."""
    keys = fields(Upstream) if table.startswith(f"{_UPSTREAMS}.") else ()
    return [*FIELDS, *(f"{table}.{key.name}" for key in keys)]


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


def _of_table(table: str, given: Mapping[str, _Given]) -> dict[str, _Given]:
    """Return the given settings of a table by their keys."""
    return {
        name.rpartition(".")[2]: setting
        for name, setting in given.items()
        if name.rpartition(".")[0] == table
    }


def _section(record: Any, table: str, given: Mapping[str, _Given], file: str) -> Any:
    """Decode one table. The result is of the type `record`, hence Any."""
    values: dict[str, object] = {}
    for key in fields(record):
        setting = given.get(key.name)
        if setting is None:
            continue
        try:
            values[key.name] = _decode(setting.value, key.type)
        except ValueError as error:  # msgspec's ValidationError is one, too
            raise SettingsError(f"{setting.place}: {_expected(error, key.type)}") from None
    try:
        return record(**values)
    except ValueError as error:
        key_name, _, why = str(error).partition(": ")
        place = given[key_name].place if key_name in given else f"{file}: {table}.{key_name}"
        raise SettingsError(f"{place}: {why}") from None


def _upstream(table: str, given: Mapping[str, _Given], file: str, directory: Path) -> Upstream:
    """Decode an upstream.

    Its kind has defaults of its own, and what a source sets together with another kind is meant
    for that kind: the numbers of the shipped file are Pandora's.
    """
    kind = given["kind"].value if "kind" in given else "pandora"
    defaults = DEFAULTS_OF_KIND.get(kind, {}) if isinstance(kind, str) else {}
    applied = {key: _Given(f"{file}: {table}.{key}", value) for key, value in defaults.items()}
    applied |= {key: each for key, each in given.items() if each.kind in (None, kind)}
    upstream: Upstream = _section(Upstream, table, applied, file)
    upstream = _absolute(upstream, "credential_file", directory)
    return _absolute(upstream, "accounts_file", directory)


def _others(given: Mapping[str, _Given], file: str, directory: Path) -> dict[str, Upstream]:
    """Decode `[upstreams.NAME]`, with what each leaves out and inherits from `[upstream]`."""
    main = _of_table("upstream", given)
    inherited = {key: setting for key, setting in main.items() if key not in _OWN}
    tables = [name.rpartition(".")[0] for name in given if name.startswith(f"{_UPSTREAMS}.")]
    others: dict[str, Upstream] = {}
    for table in dict.fromkeys(tables):
        upstream = _upstream(table, inherited | _of_table(table, given), file, directory)
        if not upstream.base_url:
            raise SettingsError(f"{file}: {table}.base_url: not set")
        others[table.partition(".")[2]] = upstream
    return others


def _in_directory(sections: dict[str, Any], directory: Path) -> dict[str, Any]:
    return sections | {"auth": _absolute(sections["auth"], "keys_file", directory)}


def _absolute(record: _R, key: str, directory: Path) -> _R:
    """Make a path of a record absolute, unless it is empty."""
    path = getattr(record, key)
    return msgspec.structs.replace(record, **{key: str(directory / path)}) if path else record


def _check_served(settings: Settings, given: Mapping[str, _Given], file: str) -> None:
    for name in settings.workers.upstreams:
        if name not in settings.upstreams:
            table = "workers.upstreams"
            place = given[table].place if table in given else f"{file}: {table}"
            known = ", ".join(settings.upstreams)
            raise SettingsError(f"{place}: there is no upstream {name!r}, only {known}")


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
    if " | " in str(error):
        return f"expected {_DECLARED[type(declared)]}"
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
