import tomllib
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest

import settings
from settings import SettingsError
from settings.credentials import Access
from settings.environment import misspelt
from settings.loader import load
from settings.redis_url import SentinelUrl, ServerUrl
from settings.urls import ProxyUrl
from tests.support.defaults import defaults

SHIPPED = Path(settings.__file__).parents[1] / "settings.toml"

Load = Callable[..., settings.Settings]


@pytest.fixture
def load_toml(tmp_path: Path) -> Load:
    """Load settings from this text, this environment, and an empty gpts.toml."""

    def load_text(text: str = "", gpts: str = "", **environ: str) -> settings.Settings:
        (tmp_path / "mine.toml").write_text(text)
        (tmp_path / "gpts.toml").write_text(gpts)
        files = {
            "GATEWAY_SETTINGS": str(tmp_path / "mine.toml"),
            "GATEWAY_GPTS": str(tmp_path / "gpts.toml"),
        }
        return load(files | environ)

    return load_text


def comments() -> Mapping[str, str]:
    """Each setting's comment in the shipped file."""
    found: dict[str, str] = {}
    section, comment = "", ""
    for line in SHIPPED.read_text().splitlines():
        if line.startswith("#"):
            comment += line
            continue
        if line.startswith("["):
            section = line.strip("[]")
        elif line:
            found[f"{section}.{line.partition(' ')[0]}"] = comment
        comment = ""
    return found


def test_the_shipped_file_has_every_setting_with_its_default_and_nothing_else() -> None:
    shipped = tomllib.loads(SHIPPED.read_text())
    assert shipped == defaults()
    types = {name: {key: type(value) for key, value in t.items()} for name, t in shipped.items()}
    assert types == {
        n: {key: type(value) for key, value in t.items()} for n, t in defaults().items()
    }


def test_every_setting_has_a_comment() -> None:
    assert all(comments().values())


def test_the_shipped_files_load_to_the_defaults() -> None:
    assert load({}) == settings.Settings()


def test_an_empty_file_gives_the_defaults(load_toml: Load, tmp_path: Path) -> None:
    loaded = load_toml()
    assert loaded.server == settings.Server()
    assert loaded.directory == tmp_path


def test_an_integer_is_accepted_as_a_float(load_toml: Load) -> None:
    max_wait = load_toml("[queue]\nmax_wait = 20").queue.max_wait
    assert (max_wait, type(max_wait)) == (20.0, float)


def test_the_environment_overrides_the_file_by_the_declared_type(load_toml: Load) -> None:
    loaded = load_toml(
        '[server]\nport = "not looked at"\nprocesses = 2',
        GATEWAY__SERVER__PORT="8080",
        GATEWAY__SERVER__API_PREFIX="666",
        GATEWAY__QUEUE__MAX_WAIT="20",
        GATEWAY__BOT__ENABLED="true",
        GATEWAY__MODELS__GPT_4_S='["a", "b,c"]',
        GATEWAY__STREAM__KEEPALIVE="off",
        GATEWAY__IMAGES__PROMPT_PREFIX="画：",
        GATEWAY_PORT="tcp://10.0.0.1:80",
    )
    assert (loaded.server.port, loaded.server.processes) == (8080, 2)
    assert loaded.server.api_prefix == "/666"
    assert loaded.queue.max_wait == 20.0
    assert loaded.bot.enabled is True
    assert loaded.models.gpt_4_s == ("a", "b,c")
    assert loaded.stream.keepalive == "off"
    assert loaded.images.prompt_prefix == "画："


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[servr]", "servr: no such section; did you mean server?"),
        ("server = 3", "server: expected a table, got a whole number"),
        ("[server]\nprot = 1", "server.prot: no such setting; did you mean server.port?"),
        ('[server]\nport = "80"', "server.port: expected a whole number, got text in quotes"),
        ("[server]\nport = 80.0", "server.port: expected a whole number, got a number"),
        ("[server]\nport = true", "server.port: expected a whole number, got true or false"),
        ("[server]\nport = 65536", "server.port: expected a whole number <= 65535"),
        ("[bot]\nenabled = 1", "bot.enabled: expected true or false, got a whole number"),
        (
            "[upstream]\nmax_concurrency = 0",
            "upstream.max_concurrency: expected a whole number >= 1",
        ),
        ("[queue]\nmax_wait = -1", "queue.max_wait: expected a number > 0.0"),
        ("[queue]\nmax_wait = nan", "queue.max_wait: expected a number > 0.0"),
        ("[queue]\nmax_wait = inf", "queue.max_wait: expected a number <= 604800.0"),
        ("[queue]\nlease = 3", "queue.heartbeat: expected at most a third of queue.lease"),
        ("[models]\ngpt_3_5 = 'a'", "models.gpt_3_5: expected a list, got text in quotes"),
        ("[models]\ngpt_3_5 = [1]", "models.gpt_3_5: expected text in quotes, got a whole number"),
        (
            "[models]\ngpt_3_5 = ['gpt-4']",
            "models.gpt_3_5: the model name 'gpt-4' is listed twice",
        ),
        (
            "[stream]\nkeepalive = 'on'",
            'stream.keepalive: expected one of "comment", "empty_delta", "off"',
        ),
        ("[arkose]\ncustom = true", "arkose.urls: expected at least one, as arkose.custom is true"),
        (
            "[upstream]\nbase_url = 'pandora:80'",
            "upstream.base_url: expected a URL that begins with http:// or https://",
        ),
        (
            "[upstream]\nbase_url = 'https://me:hush@pandora'",
            "upstream.base_url: expected no user or password; requests bring bearers",
        ),
        (
            "[server]\napi_prefix = '/a b'",
            "server.api_prefix: expected letters, digits and any of - . _ ~ /",
        ),
        (
            "[redis]\nurl = 'http://x'",
            "redis.url: expected a URL that begins with redis://, rediss://, unix:// or"
            " redis+sentinel://",
        ),
        (
            "[redis]\nurl = 'redis+sentinel://x'",
            "redis.url: expected redis+sentinel://[[user]:password@]host[:port][,host[:port]...]/",
        ),
        (
            "[upstream]\nmodels = 3",
            "upstream.models: expected a list of strings or a table of strings",
        ),
        (
            "[upstream]\nmodels = ['a']",
            "upstream.models: expected none, as [models] names those of Pandora-Next",
        ),
        (
            "[upstream]\ncredential_file = 'a'",
            "upstream.credential_file: expected none; accounts and accounts_file are for tokens of"
            " Pandora-Next",
        ),
        (
            "[upstreams.a]\naccounts = ['sk-hush']",
            "upstreams.a.accounts: expected no secret in this file; name a file that has it in"
            " upstreams.a.accounts_file, or set GATEWAY__UPSTREAMS__A__ACCOUNTS in the environment",
        ),
        (
            "[upstreams.a]\ncredential = 'sk-hush'",
            "upstreams.a.credential: expected no secret in this file; name a file that has it in"
            " upstreams.a.credential_file, or set GATEWAY__UPSTREAMS__A__CREDENTIAL in the"
            " environment",
        ),
        ("[upstreams.a]\nretries = 1", "upstreams.a.base_url: not set"),
        (
            "[upstreams.a]\nbase_ulr = ''",
            "upstreams.a.base_ulr: no such setting; did you mean upstreams.a.base_url?",
        ),
        (
            "[upstreams.B]\nbase_url = 'http://b'",
            "upstreams.B: expected a name of lower-case letters, digits and _",
        ),
        (
            "[upstreams.main]\nbase_url = 'http://b'",
            "upstreams.main: expected another name, as [upstream] has this one",
        ),
        ("upstreams = 3", "upstreams: expected a table, got a whole number"),
        ("[upstreams]\na = 3", "upstreams.a: expected a table, got a whole number"),
        ("[workers]\nupstreams = ['b']", "workers.upstreams: there is no upstream 'b', only main"),
        ("[auth]\nkeys = ['sk-hush']", "auth.keys: expected SHA-256 hashes of keys, all 64 hex"),
        (
            "[auth]\nkeys = ['2bb80d537b1da3e3']\nopen = true",
            "auth.open: expected false, as auth.keys or auth.keys_file is set",
        ),
        ("[admin]\npassword = 'sk-hush'", "admin.password: expected at least 8 characters"),
        ("[admin]\ntoken = 'sk-hush'", "admin.token: expected at least 16 characters"),
        ("[admin]\ntoken = 'sk-hush é'", "admin.token: expected ASCII characters without spaces"),
        ("[admin]\ntoken = 'gw-sk-hush-sk-hush'", "admin.token: expected another one, as gateway"),
        ("[admin]\nhost = 'a'", "admin.host: expected none, as admin.port is 0"),
        ("[server", "is not TOML: Expected ']' at the end of a table declaration"),
    ],
)
def test_an_error_in_the_file_is_named(
    load_toml: Load, tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_toml(text)
    assert str(caught.value).startswith(f"{tmp_path / 'mine.toml'}: {message}")
    assert "sk-hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("GATEWAY__SERVER__PRT", "80", "no such setting; did you mean server.port?"),
        ("GATEWAY__PORTS", "80", "no such setting"),
        ("GATEWAY__SERVER__PORT", "1.5", "expected a whole number, got a number"),
        ("GATEWAY__SERVER__PORT", "many", "expected a whole number, written as in TOML"),
        ("GATEWAY__SERVER__PORT", "1\nhost = 2", "expected a whole number, written as in TOML"),
        ("GATEWAY__BOT__ENABLED", "True", "expected true or false, written as in TOML"),
        ("GATEWAY__MODELS__GPT_4_S", "a,b", "expected a list of strings, written as in TOML"),
        ("GATEWAY__UPSTREAM__CREDENTIAL", "a b", "expected ASCII characters without spaces"),
        (
            "GATEWAY__UPSTREAM__MODELS",
            "a",
            "expected a list of strings or a table of strings, written as in TOML",
        ),
        (
            "GATEWAY__UPSTREAMS__A__BASE_ULR",
            "http://a",
            "no such setting; did you mean upstreams.a.base_url?",
        ),
        (
            "GATEWAY__UPSTREAMS__BASE_URL",
            "http://a",
            "expected a name of lower-case letters, digits and _",
        ),
    ],
)
def test_an_error_in_the_environment_is_named(
    load_toml: Load, variable: str, text: str, message: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_toml(**{variable: text})
    assert str(caught.value) == f"environment: {variable}: {message}"


def test_a_configured_file_that_does_not_exist_prevents_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        load({"GATEWAY_SETTINGS": str(tmp_path / "none.toml")})
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        load({"GATEWAY_GPTS": str(tmp_path / "none.toml")})


@pytest.mark.parametrize(
    ("given", "prefix"), [("", ""), ("/", ""), ("666 ", "/666"), ("/666/", "/666"), ("a/b", "/a/b")]
)
def test_prefixes_are_normalized(load_toml: Load, given: str, prefix: str) -> None:
    loaded = load_toml(GATEWAY__SERVER__API_PREFIX=given, GATEWAY__UPSTREAM__API_PREFIX=given)
    assert (loaded.server.api_prefix, loaded.upstream.api_prefix) == (prefix, prefix)


def test_a_role_on_its_own_has_a_default_redis_but_no_default_upstream(load_toml: Load) -> None:
    alone = load_toml()
    assert alone.redis.role_url == ServerUrl("redis://127.0.0.1:6379/0")
    with pytest.raises(SettingsError, match=r"^upstream\.base_url: not set"):
        alone.upstream.require_base_url()
    told = load_toml(
        GATEWAY__REDIS__URL="unix:///run/redis.sock",
        GATEWAY__UPSTREAM__BASE_URL="https://pandora.example.com//",
    )
    assert told.redis.role_url == ServerUrl("unix:///run/redis.sock")
    watched = load_toml(GATEWAY__REDIS__URL="rediss+sentinel://:a@one,two:7/main/3")
    assert watched.redis.role_url == SentinelUrl(
        (("one", 26379), ("two", 7)), "main", 3, Access(None, "a"), tls={}
    )
    assert told.upstream.require_base_url() == "https://pandora.example.com"


@pytest.mark.parametrize(
    "url",
    [
        "redis://me:hush@10.0.0.5:6379/3?password=hush",
        "redis+sentinel://me:hush@10.0.0.5:6379/3?sentinel_password=hush",
    ],
)
def test_no_secret_is_in_the_representation_of_the_settings(load_toml: Load, url: str) -> None:
    loaded = load_toml(
        GATEWAY__GPTS__KEY_FOR_INFO="fk-hush",
        GATEWAY__METRICS__TOKEN="hush",
        GATEWAY__ADMIN__PASSWORD="hush-hush",
        GATEWAY__ADMIN__TOKEN="hush-hush-hush-hush",
        GATEWAY__UPSTREAMS__A__KIND="openai",
        GATEWAY__UPSTREAMS__A__BASE_URL="http://a",
        GATEWAY__UPSTREAMS__A__CREDENTIAL="sk-hush",
        GATEWAY__REDIS__URL=url,
        GATEWAY__UPSTREAM__PROXY="http://me:hush@10.0.0.9:3128",
    )
    printed = f"{loaded} {loaded!r}"
    assert "hush" not in printed
    assert "10.0.0.5:6379/3" in printed


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hush/hush@host",
        "redis://:hush#hush@host",
        "redis://host:hush",
        "hush://x",
        "redis+sentinel://:hush/hush@host/main",
        "redis+sentinel://host/main?passwort=hush",
    ],
)
def test_no_password_is_in_an_error(load_toml: Load, url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_toml(GATEWAY__REDIS__URL=url)
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_gpts_are_loaded_and_validated(load_toml: Load, tmp_path: Path) -> None:
    loaded = load_toml(gpts='[mine]\nid = "g-abc-my-gpt"')
    assert loaded.custom == (("mine", settings.Gpt("g-abc-my-gpt")),)
    expected = 'expected a table with id = "g-...", the end of the GPT\'s link, and nothing else'
    for gpts, message in [
        ('id = "g-a"', f"id: {expected}"),
        ("[mine]\nid = 3", f"mine: {expected}"),
        ("[mine]", f"mine: {expected}"),
        ('[mine]\nid = "https://chat.openai.com/g/g-a"', f"mine: {expected}"),
        ('[mine]\nid = "g-a"\nidd = 1', f"mine: {expected}"),
        ('[gpt-4]\nid = "g-a"', "gpt-4: the settings give this name to a model"),
    ]:
        with pytest.raises(SettingsError) as caught:
            load_toml(gpts=gpts)
        assert str(caught.value) == f"{tmp_path / 'gpts.toml'}: {message}"


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("http://10.0.0.9:80", ProxyUrl("http", "10.0.0.9", 80)),
        ("http://[::1]:3128/", ProxyUrl("http", "::1", 3128)),
        ("socks5h://p:1080", ProxyUrl("socks5", "p", 1080)),
        ("socks5://me%40x:p%2Fq@p:1", ProxyUrl("socks5", "p", 1, Access("me@x", "p/q"))),
    ],
)
def test_a_proxy_is_decoded(load_toml: Load, text: str, proxy: ProxyUrl) -> None:
    assert load_toml(GATEWAY__UPSTREAM__PROXY=text).upstream.proxy == proxy


@pytest.mark.parametrize(
    "text",
    ["http://p", "http://p:0", "https://p:1", "p:1", "http://me:hu/sh@p:1", "http://p:1/?hush"],
)
def test_an_unusable_proxy_is_refused_and_not_shown(load_toml: Load, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_toml(GATEWAY__UPSTREAM__PROXY=text)
    assert str(caught.value) == (
        "environment: GATEWAY__UPSTREAM__PROXY: expected http:// or socks5:// with"
        " [user:password@]host:port, the password percent-encoded"
    )


def test_networks_are_decoded(load_toml: Load) -> None:
    loaded = load_toml(GATEWAY__FILES__ALLOW_NETWORKS='["10.1.0.0/16", "fd00::/8"]')
    assert loaded.files.allow_networks == (IPv4Network("10.1.0.0/16"), IPv6Network("fd00::/8"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('["10.1.0.1/16"]', "expected networks as in 10.1.0.0/16 or fd00::/8"),
        ('["somewhere"]', "expected networks as in 10.1.0.0/16 or fd00::/8"),
        ("[10]", "expected text in quotes, got a whole number"),
        ("10.1.0.0/16", "expected a list of strings, written as in TOML"),
    ],
)
def test_unusable_networks_are_refused(load_toml: Load, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_toml(GATEWAY__FILES__ALLOW_NETWORKS=text)
    assert str(caught.value).startswith(f"environment: GATEWAY__FILES__ALLOW_NETWORKS: {message}")


def test_the_operators_own_files_are_read_after_those_of_the_release(
    load_toml: Load, tmp_path: Path
) -> None:
    (tmp_path / "mine.local.toml").write_text("[server]\nport = 8081\n[queue]\nmax_wait = 7.0")
    (tmp_path / "gpts.local.toml").write_text('[own]\nid = "g-own"\n[both]\nid = "g-mine"')
    loaded = load_toml(
        "[server]\nport = 8080\nprocesses = 2",
        '[theirs]\nid = "g-theirs"\n[both]\nid = "g-theirs"',
        GATEWAY__QUEUE__MAX_WAIT="9",
    )
    assert (loaded.server.port, loaded.server.processes, loaded.queue.max_wait) == (8081, 2, 9.0)
    assert {name: gpt.id for name, gpt in loaded.custom} == {
        "theirs": "g-theirs",
        "both": "g-mine",
        "own": "g-own",
    }


def test_an_error_in_the_operators_own_file_names_that_file(
    load_toml: Load, tmp_path: Path
) -> None:
    own = tmp_path / "mine.local.toml"
    own.write_text("[server]\nprot = 1")
    with pytest.raises(SettingsError) as caught:
        load_toml("[server]\nport = 1")
    assert str(caught.value) == f"{own}: server.prot: no such setting; did you mean server.port?"


def test_git_does_not_track_the_operators_own_files() -> None:
    ignored = (settings.HERE / ".gitignore").read_text().splitlines()
    assert {"/settings.local.toml", "/gpts.local.toml"} <= set(ignored)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("GATEWAY_SERVER_PORT", "GATEWAY__SERVER__PORT"),
        ("GATEWAY_SERVER__PORT", "GATEWAY__SERVER__PORT"),
        ("gateway__server__port", "GATEWAY__SERVER__PORT"),
        ("GATEWAY_REDIS_ULR", "GATEWAY__REDIS__URL"),
        ("GATEWAY_BASE_URL", "GATEWAY__UPSTREAM__BASE_URL"),
        ("GATEWAY_UPSTREAMS_GPU_B_BASE_URL", "GATEWAY__UPSTREAMS__GPU_B__BASE_URL"),
        ("GATEWAY_UPSTREAM_BASE_URL", "GATEWAY__UPSTREAM__BASE_URL"),
        ("GATEWAY_SECERT", "GATEWAY_SECRET"),
        ("gateway_settings", "GATEWAY_SETTINGS"),
        ("GATEWAY_SETTINGS", None),
        ("GATEWAY__SERVER__PORT", None),
        ("GATEWAY_VERSION", None),
        ("HOME", None),
    ],
)
def test_a_variable_that_looks_like_a_setting_and_is_none_is_named(
    load_toml: Load, name: str, meant: str | None
) -> None:
    assert dict(misspelt({name: "50012"})) == ({name: meant} if meant else {})


def test_variables_that_kubernetes_makes_for_a_service_called_gateway_are_not_named() -> None:
    made = "SERVICE_HOST SERVICE_PORT SERVICE_PORT_HTTP PORT PORT_80_TCP PORT_80_TCP_ADDR"
    assert dict(misspelt({f"GATEWAY_{name}": "x" for name in made.split()})) == {}
