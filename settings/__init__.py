"""The operator's settings: `settings.toml`, `gpts.toml` and the environment as frozen, typed
records.

`load()` is the only door. Each key is decoded by the type its field declares here, so that whatever
is wrong stops the start with a `SettingsError` that names the file or variable and the key, and
never shows a value (it may be a password). What each setting means stands in `settings.toml`; a
test holds the two to the same names and defaults.

A setting is looked up in the environment (`GATEWAY__SECTION__KEY`), then in the file, then here.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, field, inspect
from msgspec.structs import FieldInfo, fields, force_setattr

from settings import redis_url

HERE = Path(__file__).resolve().parents[1]
OVERRIDE = "GATEWAY__"

# The upper bounds keep out `inf` and slips of the keyboard.
Seconds = Annotated[float, Meta(gt=0, le=604_800)]
SecondsOrZero = Annotated[float, Meta(ge=0, le=604_800)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Weight = Annotated[float, Meta(ge=0.01, le=100)]
Port = Annotated[int, Meta(ge=1, le=65_535)]
Bytes = Annotated[int, Meta(ge=1024, le=1 << 40)]
Name = Annotated[str, Meta(min_length=1)]


class SettingsError(Exception):
    """A setting that cannot be used. The message says where it stands and what was expected."""


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One table of `settings.toml`. Its `__post_init__` raises ValueError("key: why")."""

    def __repr__(self) -> str:
        shown = (f"{name}={_shown(name, getattr(self, name))}" for name in self.__struct_fields__)
        return f"{type(self).__name__}({', '.join(shown)})"


class Server(Section, frozen=True):
    host: Name = "0.0.0.0"  # noqa: S104 - clients are on other machines and in containers
    port: Port = 50011
    processes: Count = 1
    api_prefix: str = ""
    public_url: str = ""
    cors_origins: tuple[Name, ...] = ("*",)
    body_timeout: Seconds = 30.0
    max_body_bytes: Bytes = 150_994_944
    drain_timeout: SecondsOrZero = 60.0

    def __post_init__(self) -> None:
        force_setattr(self, "api_prefix", _prefix("api_prefix", self.api_prefix))
        force_setattr(self, "public_url", _http_url("public_url", self.public_url))


class Redis(Section, frozen=True):
    url: str = ""
    outage_grace: SecondsOrZero = 30.0

    def __post_init__(self) -> None:
        _check_redis_url(self.url)

    @property
    def role_url(self) -> str:
        """The Redis that a role connects to.

        `make run` fills in an empty `url` before it starts the roles.
        """
        return self.url or "redis://127.0.0.1:6379/0"


class Upstream(Section, frozen=True):
    base_url: str = ""
    api_prefix: str = ""
    proxy: str = ""
    transport: Literal["auto", "sse", "websocket"] = "auto"
    max_concurrency: Count = 4
    per_account_concurrency: Count = 1
    per_pool_concurrency: Count = 3
    connect_timeout: Seconds = 10.0
    first_event_timeout: Seconds = 60.0
    idle_timeout: Seconds = 120.0
    max_duration: Seconds = 900.0
    retries: Annotated[int, Meta(ge=0, le=100)] = 2
    circuit_failures: Count = 5

    def __post_init__(self) -> None:
        force_setattr(self, "base_url", _http_url("base_url", self.base_url))
        if "@" in urlsplit(self.base_url).netloc:
            raise ValueError("base_url: expected no user or password; requests bring bearers")
        force_setattr(self, "api_prefix", _prefix("api_prefix", self.api_prefix))
        _check_proxy_url(self.proxy)

    def require_base_url(self) -> str:
        """`base_url`, or SettingsError when it is empty.

        `make run` fills it in before it starts the roles.
        """
        if not self.base_url:
            raise SettingsError(
                "upstream.base_url: not set; name your Pandora-Next server in settings.toml"
                " or in GATEWAY__UPSTREAM__BASE_URL"
            )
        return self.base_url


class Workers(Section, frozen=True):
    max_jobs: Count = 10
    drain_timeout: SecondsOrZero = 60.0


class Queue(Section, frozen=True):
    max_waiting: Count = 1000
    max_waiting_per_key: Count = 100
    max_bytes: Bytes = 268_435_456
    max_wait: Seconds = 300.0
    chat_slots: Count = 3
    images_slots: Count = 1
    weights: dict[str, Weight] = {}
    strict_priority: bool = False
    on_model_cap: Literal["wait", "refuse"] = "wait"
    resume_grace: SecondsOrZero = 30.0
    keep_result: SecondsOrZero = 300.0
    lease: Seconds = 6.0
    heartbeat: Seconds = 1.5
    max_log_bytes: Bytes = 16_777_216

    def __post_init__(self) -> None:
        # One heartbeat may be lost, and a short outage come on top, without the lease being lost.
        if self.heartbeat * 3 > self.lease:
            raise ValueError("heartbeat: expected at most a third of queue.lease")

    @property
    def longest_wait(self) -> float:
        """Seconds after which a job that still waits is not started any more."""
        return 2 * self.max_wait


class Stream(Section, frozen=True):
    keepalive: Literal["comment", "empty_delta", "off"] = "comment"
    keepalive_interval: Seconds = 15.0
    grace: SecondsOrZero = 2.0
    whole_keepalive: Literal["off", "whitespace"] = "off"
    max_backlog: Bytes = 1_048_576
    send_timeout: Seconds = 30.0


class Log(Section, frozen=True):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    to_file: bool = True
    path: Name = "log/access.log"
    keep_days: Annotated[int, Meta(ge=0, le=10_000)] = 30


class Metrics(Section, frozen=True):
    token: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[!-~]*", self.token):
            raise ValueError("token: expected ASCII characters without spaces")


class Models(Section, frozen=True):
    gpt_4_s: tuple[Name, ...] = ("gpt-4-s", "gpt-4")
    gpt_4_mobile: tuple[Name, ...] = ("gpt-4-mobile",)
    gpt_3_5: tuple[Name, ...] = ("gpt-3.5-turbo",)

    def __post_init__(self) -> None:
        taken: set[str] = set()
        for key in self.__struct_fields__:
            for name in getattr(self, key):
                if name in taken:
                    raise ValueError(f"{key}: the model name {name!r} is listed twice")
                taken.add(name)

    def names(self) -> tuple[str, ...]:
        """Every name that a client may ask for, in the order of the file."""
        return self.gpt_4_s + self.gpt_4_mobile + self.gpt_3_5


class Gpts(Section, frozen=True):
    key_for_info: str = ""
    refresh: Seconds = 3600.0
    confirm_actions: Literal["no", "allow", "always_allow"] = "no"


class Conversation(Section, frozen=True):
    delete_after_response: bool = False
    delete_mode: Literal["patch", "history_off"] = "patch"


class Media(Section, frozen=True):
    store: Name = "media"
    max_bytes: Bytes = 104_857_600
    ttl: Annotated[float, Meta(gt=0, le=315_360_000)] = 604_800.0
    download_timeout: Seconds = 60.0
    use_oaiusercontent_url: bool = False
    use_pandora_file_server: bool = False
    pandora_file_server: str = "https://files.pandoranext.com"

    def __post_init__(self) -> None:
        url = _http_url("pandora_file_server", self.pandora_file_server)
        force_setattr(self, "pandora_file_server", url)


class Files(Section, frozen=True):
    max_bytes: Bytes = 104_857_600
    max_count: Count = 20
    fetch_timeout: Seconds = 60.0
    allow_networks: tuple[Name, ...] = ()
    upload_timeout: Seconds = 120.0
    cache_ttl: SecondsOrZero = 86_400.0

    def __post_init__(self) -> None:
        for text in self.allow_networks:
            try:
                ip_network(text)
            except ValueError:
                raise ValueError(
                    "allow_networks: expected networks as in 10.1.0.0/16 or fd00::/8"
                    " (no bits set beyond the prefix)"
                ) from None


class Arkose(Section, frozen=True):
    custom: bool = False
    urls: tuple[Name, ...] = ()

    def __post_init__(self) -> None:
        force_setattr(self, "urls", tuple(_http_url("urls", url) for url in self.urls))
        if self.custom and not self.urls:
            raise ValueError("urls: expected at least one, as arkose.custom is true")


class Images(Section, frozen=True):
    prompt_prefix: str = ""
    max_n: Annotated[int, Meta(ge=1, le=100)] = 4


class Bot(Section, frozen=True):
    enabled: bool = False
    markdown_image: bool = False
    plain_image_url: bool = False
    bing_reference: bool = False
    plugin_output: bool = False


class Compat(Section, frozen=True):
    ignore_unsupported: bool = False


class Schema(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The sections of `settings.toml`, in the order of the file."""

    server: Server = field(default_factory=Server)
    redis: Redis = field(default_factory=Redis)
    upstream: Upstream = field(default_factory=Upstream)
    workers: Workers = field(default_factory=Workers)
    queue: Queue = field(default_factory=Queue)
    stream: Stream = field(default_factory=Stream)
    log: Log = field(default_factory=Log)
    metrics: Metrics = field(default_factory=Metrics)
    models: Models = field(default_factory=Models)
    gpts: Gpts = field(default_factory=Gpts)
    conversation: Conversation = field(default_factory=Conversation)
    media: Media = field(default_factory=Media)
    files: Files = field(default_factory=Files)
    arkose: Arkose = field(default_factory=Arkose)
    images: Images = field(default_factory=Images)
    bot: Bot = field(default_factory=Bot)
    compat: Compat = field(default_factory=Compat)


_SECTIONS = tuple(section.name for section in fields(Schema))
_FIELDS = {
    f"{section.name}.{key.name}": key for section in fields(Schema) for key in fields(section.type)
}
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
"""What msgspec and Python call a kind of value, and what people do."""


class Gpt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One table of `gpts.toml`: the GPT with this id is offered under the table's name."""

    id: Annotated[str, Meta(pattern=r"^g-[A-Za-z0-9_-]+$")]


class Settings(Schema, frozen=True, kw_only=True):
    """All that the operator decided.

    `directory` is that of the settings file, where a generated secret is kept. `custom` are the
    model names and GPTs of `gpts.toml`.
    """

    directory: Path = HERE
    custom: tuple[tuple[str, Gpt], ...] = ()


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings that the environment, by default this process', points to.

    Raises SettingsError.
    """
    environ = os.environ if environ is None else environ
    path = Path(environ.get("GATEWAY_SETTINGS") or HERE / "settings.toml")
    file = path.name if path.parent == HERE else str(path)
    given = dict(_from_file(path, file)) | dict(_from_environment(environ))
    sections = {section.name: _section(section, file, given) for section in fields(Schema)}
    models: Models = sections["models"]
    return Settings(
        **sections,
        directory=path.resolve().parent,
        custom=_custom_gpts(environ.get("GATEWAY_GPTS"), models),
    )


class _Given(msgspec.Struct, frozen=True):
    """A value that was set, and where, for the message if it is wrong."""

    where: str
    value: object


def _from_file(path: Path, file: str) -> Iterator[tuple[str, _Given]]:
    for section, table in _read(path, file).items():
        if section not in _SECTIONS:
            raise SettingsError(f"{file}: {section}: no such section{_hint(section, _SECTIONS)}")
        if not isinstance(table, dict):
            raise SettingsError(f"{file}: {section}: expected a table, got {_kind(table)}")
        for key, value in table.items():
            name = f"{section}.{key}"
            if name not in _FIELDS:
                raise SettingsError(f"{file}: {name}: no such setting{_hint(name, _FIELDS)}")
            yield name, _Given(f"{file}: {name}", value)


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, _Given]]:
    for variable, text in environ.items():
        if not variable.startswith(OVERRIDE):
            continue
        where = f"environment: {variable}"
        name = variable.removeprefix(OVERRIDE).lower().replace("__", ".", 1)
        if name not in _FIELDS:
            raise SettingsError(f"{where}: no such setting{_hint(name, _FIELDS)}")
        declared = inspect.type_info(_FIELDS[name].type)
        if isinstance(declared, inspect.StrType | inspect.LiteralType):
            yield name, _Given(where, text)
            continue
        try:
            document = tomllib.loads(f"value = {text}")
        except tomllib.TOMLDecodeError:
            document = {}
        if document.keys() != {"value"}:
            raise SettingsError(
                f"{where}: expected {_DECLARED[type(declared)]}, written as in TOML"
            )
        yield name, _Given(where, document["value"])


def _section(section: FieldInfo, file: str, given: Mapping[str, _Given]) -> Any:
    """Decode one section. What comes back is of that section's own type, hence Any."""
    values: dict[str, object] = {}
    for key in fields(section.type):
        setting = given.get(f"{section.name}.{key.name}")
        if setting is None:
            continue
        try:
            values[key.name] = msgspec.convert(setting.value, key.type)
        except msgspec.ValidationError as error:
            raise SettingsError(f"{setting.where}: {_expected(error, key)}") from None
    try:
        return section.type(**values)
    except ValueError as error:
        key_name, _, why = str(error).partition(": ")
        name = f"{section.name}.{key_name}"
        where = given[name].where if name in given else f"{file}: {name}"
        raise SettingsError(f"{where}: {why}") from None


def _custom_gpts(named: str | None, models: Models) -> tuple[tuple[str, Gpt], ...]:
    path = Path(named or HERE / "gpts.toml")
    if not named and not path.exists():
        return ()
    file = path.name if path.parent == HERE else str(path)
    gpts: list[tuple[str, Gpt]] = []
    for name, table in _read(path, file).items():
        if name in models.names():
            raise SettingsError(f"{file}: {name}: the settings give this name to a model")
        try:
            gpts.append((name, msgspec.convert(table, Gpt)))
        except msgspec.ValidationError:
            raise SettingsError(
                f'{file}: {name}: expected a table with id = "g-...", the end of the GPT\'s link,'
                " and nothing else"
            ) from None
    return tuple(gpts)


def _read(path: Path, file: str) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise SettingsError(f"{file}: is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file}: is not TOML: {error}") from None


def _prefix(key: str, text: str) -> str:
    """`666`, `/666/` and `` become `/666`, `/666` and ``."""
    path = text.strip().strip("/")
    if not re.fullmatch(r"[A-Za-z0-9._~/-]*", path):
        raise ValueError(f"{key}: expected letters, digits and any of - . _ ~ /")
    return f"/{path}" if path else ""


def _http_url(key: str, text: str) -> str:
    """The URL without its trailing slashes."""
    if not text:
        return ""
    try:
        url = urlsplit(text)
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"{key}: expected a URL that begins with http:// or https://")
    return text.rstrip("/")


def _check_proxy_url(text: str) -> None:
    try:
        url = urlsplit(text)
        schemes = ("http", "socks5", "socks5h")
        # A "/", "?" or "#" in the password would stand where nothing of a proxy is.
        beside = url.path.strip("/") or url.query or url.fragment
        usable = url.scheme in schemes and bool(url.hostname) and bool(url.port) and not beside
    except ValueError:
        usable = False
    if text and not usable:
        raise ValueError(
            "proxy: expected http:// or socks5:// with [user:password@]host:port,"
            " the password percent-encoded"
        )


def _check_redis_url(text: str) -> None:
    scheme = text.partition("://")[0]
    if redis_url.is_sentinel_url(text):
        try:
            redis_url.parse(text)
        except ValueError as error:
            raise ValueError(f"url: {error}") from None
        return
    if text and scheme not in ("redis", "rediss", "unix"):
        raise ValueError(
            "url: expected a URL that begins with redis://, rediss://, unix:// or redis+sentinel://"
        )
    try:
        url = urlsplit(text)
        if scheme == "unix":
            usable = url.path.startswith("/")
        else:
            usable = re.fullmatch(r"(/\d*)?", url.path) is not None and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        # A "/", "?" or "#" in the password, as often as not.
        raise ValueError(
            "url: expected redis://[[user]:password@]host[:port][/database]"
            " or unix:///path, with the password percent-encoded"
        )


def _expected(error: msgspec.ValidationError, key: FieldInfo) -> str:
    declared = inspect.type_info(key.type)
    if isinstance(declared, inspect.LiteralType):
        return "expected one of " + ", ".join(f'"{value}"' for value in declared.values)
    return _plain(error)


def _plain(error: msgspec.ValidationError) -> str:
    """msgspec's message in plain words: 'expected a whole number, got text in quotes'."""
    message = re.sub(
        r"`(\w+)", lambda kind: _KINDS.get(kind[1], kind[1]), str(error).partition(" - at ")[0]
    )
    return message[:1].lower() + message[1:].replace("`", "")


def _hint(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _kind(value: object) -> str:
    name = type(value).__name__
    return _KINDS.get(name, name)


def without_password(url: str) -> str:
    """A URL as it may be shown to people."""
    return re.sub(r"(?i)(password=)[^&]*", r"\1***", re.sub(r"://.*@", "://***@", url))


def _shown(name: str, value: object) -> str:
    if name in ("key_for_info", "token"):
        return "'***'" if value else "''"
    if isinstance(value, tuple):
        return f"[{', '.join(_shown(name, item) for item in value)}]"
    return repr(without_password(value) if isinstance(value, str) else value)


def _value(settings: Settings, name: str) -> object:
    section, _, key = name.partition(".")
    return getattr(getattr(settings, section), key)
