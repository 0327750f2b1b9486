"""Settings: files, variables, URLs and hashes of keys, from operators who make mistakes."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from hypothesis import strategies as st

from settings import HERE, Settings, SettingsError
from settings.client_access import _parse, client_access
from settings.credentials import key_hash
from settings.environment import misspelt
from settings.loader import FIELDS, load
from settings.networks import networks
from settings.redis_url import redis_url
from settings.urls import http_url, prefix, proxy_url, without_password
from tests.support.fuzzing import ODD, ODD_TEXTS, Json, documents, fuzzed

CANARY = "canary-of-a-password"
SHIPPED: Json = tomllib.loads((HERE / "settings.toml").read_text())
OWN: list[Json] = [
    SHIPPED,
    {
        "upstream": {"kind": "openai", "base_url": "http://a:1", "models": {"a": "b"}},
        "upstreams": {"gpu_b": {"base_url": "http://b", "models": ["c"], "max_concurrency": 2}},
        "auth": {"keys": ["0" * 64], "open": False},
        "workers": {"upstreams": ["gpu_b"]},
    },
    {
        "redis": {"url": f"redis+sentinel://u:{CANARY}@h:1,h2/master/0?sentinel_password={CANARY}"},
        "upstream": {"proxy": f"socks5://u:{CANARY}@h:1", "base_url": "https://h/"},
        "metrics": {"token": CANARY},
        "files": {"allow_networks": ["10.0.0.0/8"]},
        "gpts": {"key_for_info": CANARY},
    },
]
VARIABLES = st.dictionaries(
    st.one_of(
        st.sampled_from([f"GATEWAY__{name.replace('.', '__').upper()}" for name in FIELDS]),
        st.sampled_from(
            [
                *("GATEWAY__UPSTREAMS__B__BASE_URL", "GATEWAY__UPSTREAMS__B__CREDENTIAL"),
                *("GATEWAY__", "GATEWAY____", "GATEWAY__SERVER", "GATEWAY_SERVER_PORT", "X"),
                *("GATEWAY__UPSTREAMS____", "gateway__server__port"),
            ]
        ),
    ),
    st.one_of(
        ODD.map(json.dumps),
        st.sampled_from(
            [
                *(
                    "1",
                    "0",
                    "-1",
                    "1e9",
                    "inf",
                    "nan",
                    "true",
                    "[]",
                    '["a"]',
                    "{a = 1}",
                    "a\nb = 1",
                ),
                *(
                    "http://h",
                    f"redis://:{CANARY}@h/0",
                    f"{CANARY} {CANARY}",
                    f"http://u:{CANARY}@",
                ),
            ]
        ),
        ODD_TEXTS,
    ),
    max_size=3,
)


def toml(value: Json) -> str:
    """A value in TOML, as far as it has a form there."""
    match value:
        case dict():
            pairs = (f"{json.dumps(str(key))} = {toml(item)}" for key, item in value.items())
            return f"{{{', '.join(pairs)}}}"
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case None:
            return '""'
    return json.dumps(value).replace("Infinity", "inf").replace("NaN", "nan")


@contextmanager
def written(**files: str) -> Iterator[Path]:
    """A folder with these files."""
    with TemporaryDirectory() as directory:
        for name, text in files.items():
            path = Path(directory, f"{name.replace('_', '.')}.toml")
            path.write_bytes(text.encode(errors="surrogatepass"))
        yield Path(directory)


def loaded(environ: dict[str, str], directory: Path) -> tuple[Settings | None, str]:
    """The settings, or None and the reason for which they are refused."""
    places = {
        "GATEWAY_SETTINGS": str(directory / "settings.toml"),
        "GATEWAY_GPTS": str(directory / "gpts.toml"),
    }
    try:
        return load(environ | places), ""
    except SettingsError as error:
        return None, str(error)


def check(found: Settings) -> None:
    """Check what the roles rely on."""
    assert found.longest_answer > 0
    assert found.longest_start > 0
    assert found.upstreams
    assert found.server.local_url.startswith("http://")
    assert found.queue.heartbeat * 3 <= found.queue.lease
    assert repr(found)
    with suppress(SettingsError):
        client_access(found)
        found.require_upstreams()


_GPTS = st.sampled_from(["", "a = 1", '[g]\nid = "g-1"', "[", "\ud83d"])


@fuzzed(documents(OWN), documents(OWN), _GPTS)
def test_files_are_settings_or_are_refused(shipped: Json, own: Json, gpts: str) -> None:
    texts = (
        "\n".join(f"{json.dumps(str(key))} = {toml(value)}" for key, value in one.items())
        if isinstance(one, dict)
        else toml(one)
        for one in (shipped, own)
    )
    with written(settings=next(texts), settings_local=next(texts), gpts=gpts) as directory:
        found, reason = loaded({}, directory)
    if found is not None:
        check(found)
    else:
        assert ".toml: " in reason


@fuzzed(VARIABLES)
def test_variables_are_settings_or_are_refused(environ: dict[str, str]) -> None:
    with written(settings="", gpts="") as directory:
        found, reason = loaded(environ, directory)
    if found is not None:
        check(found)
    else:
        assert reason
    for name, meant in misspelt(environ):
        assert name in environ
        assert meant.startswith("GATEWAY_")


_SECRET = st.sampled_from(
    [
        "REDIS__URL",
        "UPSTREAM__PROXY",
        "UPSTREAM__CREDENTIAL",
        "METRICS__TOKEN",
        "GPTS__KEY_FOR_INFO",
    ]
)
_BEFORE = st.sampled_from(
    ["", " ", "redis://:", "redis://u:", "socks5://u:", "rediss+sentinel://:"]
)
_AFTER = st.sampled_from(["", " ", "@h:1", "@h/master", "@", "/@h", "?@h", "#@h:1", "\n", "é@h:1"])


@fuzzed(_SECRET, _BEFORE, _AFTER, st.booleans())
def test_no_secret_is_shown(name: str, before: str, after: str, is_openai: bool) -> None:
    environ = {f"GATEWAY__{name}": before + CANARY + after}
    if is_openai:
        environ |= {"GATEWAY__UPSTREAM__KIND": "openai", "GATEWAY__UPSTREAM__BASE_URL": "http://h"}
    with written(settings="", gpts="") as directory:
        found, reason = loaded(environ, directory)
    assert CANARY not in reason
    assert CANARY not in repr(found)


_URLS = (
    st.builds(
        "".join,
        st.lists(
            st.sampled_from(
                [
                    *(
                        "http://",
                        "https://",
                        "redis://",
                        "rediss://",
                        "unix://",
                        "redis+sentinel://",
                    ),
                    *(
                        "rediss+sentinel://",
                        "socks5://",
                        "socks5h://",
                        "h",
                        ":1",
                        ":0",
                        ":99999",
                        "/",
                    ),
                    *(f"u:{CANARY}@", f":{CANARY}@", "[::1]", "[", "]", "/0", "/99999", "/master"),
                    *("?", "#", "%", "%2F", ",", "h2:2", "@", f"?sentinel_password={CANARY}", "\0"),
                    *("&ssl_certfile=a", " ", "é", "٣", "\u2028", "1" * 300),
                ]
            ),
            max_size=7,
        ),
    )
    | ODD_TEXTS
)


T = TypeVar("T")
V = TypeVar("V")


def tried(read: Callable[[V], T], value: V) -> tuple[T | None, str]:
    """A value as it is read, or None and the reason for which it is refused."""
    try:
        return read(value), ""
    except ValueError as error:
        return None, str(error)


@fuzzed(_URLS)
def test_a_url_is_read_or_refused_without_its_password(text: str) -> None:
    for read in (redis_url, proxy_url, http_url, prefix):
        found, reason = tried(read, text)
        assert CANARY not in reason
        assert read in (http_url, prefix) or CANARY not in repr(found)
    without_password(text)


_LINES = st.sampled_from(["0" * 16, "F" * 64, "# c", "\u2028", f"{'a' * 64}  -"])


@fuzzed(st.lists(ODD_TEXTS | _LINES))
def test_a_file_of_keys_is_read_or_refused_without_them(lines: list[str]) -> None:
    keys, _ = tried(_parse, "\n".join(lines))
    assert keys is None or all(key_hash(key) == key for key in keys)
    keys, reason = tried(_parse, "\n".join([*lines, f"{CANARY} bot"]))
    assert keys is None
    assert CANARY not in reason


_NETWORKS = st.sampled_from(["10.0.0.0/8", "::/0", "10.0.0.1/8", "1/33", "٣.0.0.0"])


@fuzzed(st.lists(ODD_TEXTS | _NETWORKS))
def test_networks_are_read_or_refused(texts: list[str]) -> None:
    found, _ = tried(networks, texts)
    assert found is None or len(found) == len(texts)
