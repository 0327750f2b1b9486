"""The operator's settings as frozen, typed records.

`settings/loader.py` fills them from `settings.toml`, `gpts.toml` and the environment. The comments
of `settings.toml` explain each setting; a test holds both to the same names and defaults.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, field
from msgspec.structs import force_setattr

from settings.accounts import Account
from settings.credentials import Secret, bearer, key_hash
from settings.networks import PRIVATE, Network
from settings.redis_url import RedisUrl, ServerUrl
from settings.urls import ProxyUrl, http_url, prefix, without_password

HERE = Path(__file__).resolve().parents[1]

# The upper bounds refuse `inf` and typing errors.
Seconds = Annotated[float, Meta(gt=0, le=604_800)]
SecondsOrZero = Annotated[float, Meta(ge=0, le=604_800)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Weight = Annotated[float, Meta(ge=0.01, le=100)]
Port = Annotated[int, Meta(ge=1, le=65_535)]
Bytes = Annotated[int, Meta(ge=1024, le=1 << 40)]
Name = Annotated[str, Meta(min_length=1)]
CountOrZero = Annotated[int, Meta(ge=0, le=1_000_000)]

MAIN = "main"
"""Name of the upstream of `[upstream]`; those of `[upstreams.NAME]` have names of their own."""


def table_of(upstream: str) -> str:
    """Return the name of an upstream's table in the settings files."""
    return "upstream" if upstream == MAIN else f"upstreams.{upstream}"


class SettingsError(Exception):
    """A setting cannot be used. The message names its place and what was expected."""


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One table of `settings.toml`. Its `__post_init__` raises ValueError("key: why")."""

    def __repr__(self) -> str:
        shown = (f"{name}={_shown(getattr(self, name))}" for name in self.__struct_fields__)
        return f"{type(self).__name__}({', '.join(shown)})"

    def _normalize(self, key: str, form: Callable[[Any], object]) -> None:
        """Replace a value by its one form. Raises ValueError("key: why")."""
        try:
            force_setattr(self, key, form(getattr(self, key)))
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_shown, value))}]"
    return repr(without_password(value) if isinstance(value, str) else value)


class Server(Section, frozen=True):
    host: Name = "0.0.0.0"  # noqa: S104 - clients are on other machines and in containers
    port: Port = 50011
    processes: Count = 1
    api_prefix: str = ""
    public_url: str = ""
    cors_origins: tuple[Name, ...] = ("*",)
    header_timeout: Seconds = 30.0
    body_timeout: Seconds = 30.0
    max_body_bytes: Bytes = 150_994_944
    max_connections: Count = 10_000
    max_connections_per_address: CountOrZero = 1000
    proxies: tuple[Network, ...] = PRIVATE
    address_header: str = ""
    drain_timeout: SecondsOrZero = 60.0

    def __post_init__(self) -> None:
        self._normalize("api_prefix", prefix)
        self._normalize("public_url", http_url)

    @property
    def local_url(self) -> str:
        """URL of the front end for clients on the same machine, without `api_prefix`."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


AuthMode = Literal["passthrough", "keys", "both"]


class Auth(Section, frozen=True):
    """The keys that clients may use; see `settings/client_access.py`."""

    mode: Literal["", "passthrough", "keys", "both"] = ""
    keys: tuple[str, ...] = ()
    keys_file: str = ""
    open: bool = False
    on_revoke: Literal["finish", "end"] = "finish"

    def __post_init__(self) -> None:
        self._normalize("keys", lambda keys: tuple(map(key_hash, keys)))
        if self.open and (self.keys or self.keys_file):
            raise ValueError("open: expected false, as auth.keys or auth.keys_file is set")
        if self.mode == "keys" and self.open:
            raise ValueError('open: expected false, as auth.mode is "keys"')
        if self.mode == "passthrough" and (self.keys or self.keys_file):
            raise ValueError(
                'mode: expected "keys" or "both", as auth.keys or auth.keys_file is set'
            )


class Redis(Section, frozen=True):
    url: RedisUrl | None = None
    outage_grace: SecondsOrZero = 30.0

    @property
    def role_url(self) -> RedisUrl:
        """URL that a role connects to; `make run` sets an empty `url` before it starts them."""
        return self.url or ServerUrl("redis://127.0.0.1:6379/0")


UpstreamKind = Literal["pandora", "openai"]

_CREDENTIALS = ("credential", "credential_file", "accounts", "accounts_file")

DEFAULTS_OF_KIND: dict[object, dict[str, float]] = {
    "openai": {"max_concurrency": 0, "first_event_timeout": 600.0, "max_duration": 3600.0}
}
"""Defaults that differ from those of `Upstream`, which are Pandora's; the loader applies them."""


class Upstream(Section, frozen=True):
    """One upstream: `[upstream]`, or an `[upstreams.NAME]` with all that it inherits.

    `models` maps the names that clients use to those of the server; empty, the server is asked.
    `max_concurrency` 0 means that the server is asked. `credential_file` and `accounts_file` are
    absolute paths.
    """

    kind: UpstreamKind = "pandora"
    base_url: str = ""
    api_prefix: str = ""
    credential: Secret = Secret()
    credential_file: str = ""
    accounts_file: str = ""
    accounts: tuple[Account, ...] = ()
    models: dict[str, str] = {}
    proxy: ProxyUrl | None = None
    transport: Literal["auto", "sse", "websocket"] = "auto"
    max_concurrency: CountOrZero = 4
    per_account_concurrency: Count = 1
    per_pool_concurrency: Count = 3
    max_n: Count = 1
    pass_service_tier: bool = False
    connect_timeout: Seconds = 10.0
    first_event_timeout: Seconds = 60.0
    idle_timeout: Seconds = 120.0
    max_duration: Seconds = 900.0
    retries: Annotated[int, Meta(ge=0, le=100)] = 2
    circuit_failures: Count = 5

    def __post_init__(self) -> None:
        self._normalize("base_url", http_url)
        if "@" in urlsplit(self.base_url).netloc:
            raise ValueError("base_url: expected no user or password; requests bring bearers")
        self._normalize("api_prefix", prefix)
        self._normalize("credential", bearer)
        given = [key for key in _CREDENTIALS if getattr(self, key)]
        if len(given) > 1:
            raise ValueError(f"{given[1]}: expected only one of this and {given[0]}")
        if self.kind == "pandora":
            self._check_pandora()

    def _check_pandora(self) -> None:
        if self.credential or self.credential_file:
            key = "credential" if self.credential else "credential_file"
            raise ValueError(
                f"{key}: expected none; accounts and accounts_file are for tokens of Pandora-Next"
            )
        if self.models:
            raise ValueError("models: expected none, as [models] names those of Pandora-Next")
        if not self.max_concurrency:
            raise ValueError("max_concurrency: expected a whole number >= 1")

    @property
    def has_credential(self) -> bool:
        """True if the upstream is asked with credentials or accounts of the operator's."""
        return bool(self.credential or self.credential_file or self.has_accounts)

    @property
    def has_accounts(self) -> bool:
        """True if the operator has accounts there that all gateway keys share."""
        return bool(self.accounts or self.accounts_file)

    @property
    def takes_tokens(self) -> bool:
        """True if it is asked with the tokens that clients bring."""
        return self.kind == "pandora" and not self.has_credential

    def require_base_url(self) -> str:
        """Return `base_url`; `make run` sets an empty one before it starts the roles.

        Raises SettingsError if it is empty.
        """
        if not self.base_url:
            raise SettingsError(
                "upstream.base_url: not set; name your model server in settings.local.toml"
                " or in GATEWAY__UPSTREAM__BASE_URL"
            )
        return self.base_url


class Workers(Section, frozen=True):
    max_jobs: Count = 10
    upstreams: tuple[Name, ...] = ()
    drain_timeout: SecondsOrZero = 60.0


class Queue(Section, frozen=True):
    max_waiting: Count = 1000
    max_waiting_per_key: Count = 100
    max_bytes: Bytes = 268_435_456
    max_wait: Seconds = 300.0
    max_retry_after: Seconds = 120.0
    chat_slots: Count = 3
    images_slots: Count = 1
    embeddings_slots: Count = 1
    weights: dict[str, Weight] = {}
    strict_priority: bool = False
    on_model_cap: Literal["wait", "refuse"] = "wait"
    resume_grace: SecondsOrZero = 30.0
    keep_result: SecondsOrZero = 300.0
    lease: Seconds = 6.0
    heartbeat: Seconds = 1.5
    max_log_bytes: Bytes = 16_777_216

    def __post_init__(self) -> None:
        # One lost heartbeat and a short outage together must not cost the lease.
        if self.heartbeat * 3 > self.lease:
            raise ValueError("heartbeat: expected at most a third of queue.lease")

    @property
    def longest_wait(self) -> float:
        """Seconds after which a job that is still waiting is no longer started."""
        return 2 * self.max_wait


class Stream(Section, frozen=True):
    keepalive: Literal["comment", "empty_delta", "off"] = "empty_delta"
    keepalive_interval: Seconds = 15.0
    grace: SecondsOrZero = 2.0
    errors: Literal["object", "both"] = "object"
    whole_keepalive: Literal["off", "whitespace"] = "off"
    max_backlog: Bytes = 1_048_576
    send_timeout: Seconds = 30.0


class Log(Section, frozen=True):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Literal["console", "json"] = "console"
    to_file: bool = True
    path: Name = "log/access.log"
    keep_days: Annotated[int, Meta(ge=0, le=10_000)] = 30
    requests: bool = True


class Trace(Section, frozen=True):
    propagate: bool = False


class Metrics(Section, frozen=True):
    token: Secret = Secret()

    def __post_init__(self) -> None:
        self._normalize("token", bearer)


SHORTEST_PASSWORD = 8
SHORTEST_TOKEN = 16


class Admin(Section, frozen=True):
    """Access of operators. Without an own `port`, they use that of the clients."""

    password: Secret = Secret()
    token: Secret = Secret()
    host: str = ""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    session: Seconds = 43_200.0

    def __post_init__(self) -> None:
        self._normalize("token", bearer)
        self._check_length("password", SHORTEST_PASSWORD)
        self._check_length("token", SHORTEST_TOKEN)
        if self.token.reveal().startswith("gw-"):
            raise ValueError("token: expected another one, as gateway keys begin with gw-")
        if self.host and not self.port:
            raise ValueError("host: expected none, as admin.port is 0")

    def _check_length(self, key: str, shortest: int) -> None:
        """Check the length of a secret that is set. Raises ValueError, without showing it."""
        if 0 < len(getattr(self, key).reveal()) < shortest:
            raise ValueError(f"{key}: expected at least {shortest} characters")

    @property
    def is_on(self) -> bool:
        """True if there is a way for operators to prove who they are."""
        return bool(self.password or self.token)


Units = Annotated[float, Meta(ge=0, le=1_000_000)]


class Usage(Section, frozen=True):
    """`units` are those of the upstream that a request for a model costs, by the model's name."""

    units: dict[str, Units] = field(default_factory=lambda: {"gpt-3.5-turbo": 4.0})
    default_units: Units = 14.0
    keep_days: Annotated[int, Meta(ge=1, le=10_000)] = 92

    def units_of(self, model: str) -> float:
        """Return the units that one request for a model costs."""
        return self.units.get(model, self.default_units)


class Models(Section, frozen=True):
    gpt_4_s: tuple[Name, ...] = ("gpt-4-s", "gpt-4")
    gpt_4_mobile: tuple[Name, ...] = ("gpt-4-mobile",)
    gpt_3_5: tuple[Name, ...] = ("gpt-3.5-turbo",)
    fallback: bool = True

    def __post_init__(self) -> None:
        taken: set[str] = set()
        for key in ("gpt_4_s", "gpt_4_mobile", "gpt_3_5"):
            for name in getattr(self, key):
                if name in taken:
                    raise ValueError(f"{key}: the model name {name!r} is listed twice")
                taken.add(name)

    def names(self) -> tuple[str, ...]:
        """All model names that clients may use, in the order of the file."""
        return self.gpt_4_s + self.gpt_4_mobile + self.gpt_3_5


class Gpts(Section, frozen=True):
    key_for_info: Secret = Secret()
    refresh: Seconds = 3600.0
    confirm_actions: Literal["no", "allow", "always_allow"] = "no"


class Conversation(Section, frozen=True):
    delete_after_response: bool = False
    delete_mode: Literal["patch", "history_off"] = "patch"


class Responses(Section, frozen=True):
    keep: SecondsOrZero = 3600.0
    max_bytes: Bytes = 67_108_864


class Media(Section, frozen=True):
    store: Name = "media"
    max_bytes: Bytes = 104_857_600
    ttl: Annotated[float, Meta(gt=0, le=315_360_000)] = 604_800.0
    download_timeout: Seconds = 60.0
    use_oaiusercontent_url: bool = False
    use_pandora_file_server: bool = False
    pandora_file_server: str = "https://files.pandoranext.com"

    def __post_init__(self) -> None:
        self._normalize("pandora_file_server", http_url)


class Files(Section, frozen=True):
    max_bytes: Bytes = 104_857_600
    max_count: Count = 20
    fetch_timeout: Seconds = 60.0
    allow_networks: tuple[Network, ...] = ()
    upload_timeout: Seconds = 120.0
    cache_ttl: SecondsOrZero = 86_400.0


class Arkose(Section, frozen=True):
    custom: bool = False
    urls: tuple[Name, ...] = ()

    def __post_init__(self) -> None:
        self._normalize("urls", lambda urls: tuple(map(http_url, urls)))
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


Compatibility = Literal["emulate", "ignore", "refuse"]


class Compat(Section, frozen=True):
    tools: Literal["", "emulate", "ignore", "refuse"] = ""
    json: Literal["", "emulate", "ignore", "refuse"] = ""
    ignore_unsupported: bool = False

    @property
    def tool_mode(self) -> Compatibility:
        """Value of `tools`, or its default."""
        return self.tools or self._default

    @property
    def json_mode(self) -> Compatibility:
        """Value of `json`, or its default."""
        return self.json or self._default

    @property
    def _default(self) -> Compatibility:
        return "ignore" if self.ignore_unsupported else "emulate"


class Schema(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The sections of `settings.toml`, in the order of the file."""

    server: Server = field(default_factory=Server)
    auth: Auth = field(default_factory=Auth)
    redis: Redis = field(default_factory=Redis)
    upstream: Upstream = field(default_factory=Upstream)
    workers: Workers = field(default_factory=Workers)
    queue: Queue = field(default_factory=Queue)
    stream: Stream = field(default_factory=Stream)
    log: Log = field(default_factory=Log)
    trace: Trace = field(default_factory=Trace)
    metrics: Metrics = field(default_factory=Metrics)
    admin: Admin = field(default_factory=Admin)
    usage: Usage = field(default_factory=Usage)
    models: Models = field(default_factory=Models)
    gpts: Gpts = field(default_factory=Gpts)
    conversation: Conversation = field(default_factory=Conversation)
    responses: Responses = field(default_factory=Responses)
    media: Media = field(default_factory=Media)
    files: Files = field(default_factory=Files)
    arkose: Arkose = field(default_factory=Arkose)
    images: Images = field(default_factory=Images)
    bot: Bot = field(default_factory=Bot)
    compat: Compat = field(default_factory=Compat)


class Gpt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One table of `gpts.toml`: a GPT that is offered as a model under the table's name."""

    id: Annotated[str, Meta(pattern=r"^g-[A-Za-z0-9_-]+$")]


class Settings(Schema, frozen=True, kw_only=True):
    """All settings of the gateway.

    `others` are the upstreams of `[upstreams.NAME]`. `directory` is that of the settings file, in
    which a generated secret is kept. `custom` are the model names and GPTs of `gpts.toml`.
    """

    others: dict[str, Upstream] = {}
    directory: Path = HERE
    custom: tuple[tuple[str, Gpt], ...] = ()

    @property
    def upstreams(self) -> dict[str, Upstream]:
        """All upstreams by name. Next to others, an `[upstream]` without an address is not one."""
        if self.others and not self.upstream.base_url:
            return dict(self.others)
        return {MAIN: self.upstream, **self.others}

    @property
    def admin_address(self) -> tuple[str, int] | None:
        """Host and port of operators, if they have a port of their own."""
        if not (self.admin.is_on and self.admin.port):
            return None
        return self.admin.host or self.server.host, self.admin.port

    @property
    def longest_answer(self) -> float:
        """Seconds that an answer may take at most, at any upstream."""
        return max(upstream.max_duration for upstream in self.upstreams.values())

    @property
    def longest_start(self) -> float:
        """Seconds until an answer begins, once its job runs, at most, at any upstream."""
        return max(one.connect_timeout + one.first_event_timeout for one in self.upstreams.values())

    def require_upstreams(self) -> dict[str, Upstream]:
        """Return the upstreams that a worker with these settings serves, all with an address.

        Raises SettingsError if an address is missing.
        """
        served = {
            name: upstream
            for name, upstream in self.upstreams.items()
            if not self.workers.upstreams or name in self.workers.upstreams
        }
        for upstream in served.values():
            upstream.require_base_url()
        return served
