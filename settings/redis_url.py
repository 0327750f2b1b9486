"""URLs of Redis: those of one server, and those of a master that Sentinels watch.

redis-py and arq cannot read the latter.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from settings.credentials import Access
from settings.urls import without_password

SENTINEL_PORT = 26379
"""Port of a Sentinel for which the URL names none."""

EXPECTED_SCHEME = (
    "expected a URL that begins with redis://, rediss://, unix:// or redis+sentinel://"
)
EXPECTED_SERVER = (
    "expected redis://[[user]:password@]host[:port][/database]"
    " or unix:///path, with the password percent-encoded"
)
EXPECTED_SENTINELS = (
    "expected redis+sentinel://[[user]:password@]host[:port][,host[:port]...]/master[/database]"
    "[?sentinel_password=...], with the passwords percent-encoded"
)

_SENTINEL_URL = re.compile(
    r"redis(?P<tls>s?)\+sentinel://(?:(?P<access>[^/?#]*)@)?(?P<sentinels>[^/?#@]+)"
    r"/(?P<master>[A-Za-z0-9._-]+)(?:/(?P<database>[0-9]{0,5}))?(?:\?(?P<options>[^#]*))?"
)
_SENTINEL = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?"
)
_SENTINEL_OPTIONS = frozenset(("sentinel_username", "sentinel_password"))
_TLS_OPTIONS = frozenset(("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs"))


class ServerUrl(msgspec.Struct, frozen=True):
    """URL of one Redis server. `text` is what redis-py takes, with the password in it."""

    text: str

    def __str__(self) -> str:
        return without_password(self.text)

    def __repr__(self) -> str:
        return f"ServerUrl('{self}')"


class SentinelUrl(msgspec.Struct, frozen=True):
    """URL of a Redis master that is found by asking Sentinels.

    `tls` are redis-py's options of that name, for the Sentinels and the master alike; None: no TLS.
    """

    sentinels: tuple[tuple[str, int], ...]
    master: str
    database: int = 0
    access: Access = Access()
    sentinel_access: Access = Access()
    tls: dict[str, str] | None = None

    def __str__(self) -> str:
        scheme = "redis+sentinel" if self.tls is None else "rediss+sentinel"
        hosts = ((f"[{host}]" if ":" in host else host, port) for host, port in self.sentinels)
        sentinels = ",".join(f"{host}:{port}" for host, port in hosts)
        return f"{scheme}://{sentinels}/{self.master}/{self.database}"

    def __repr__(self) -> str:
        return f"SentinelUrl('{self}')"


RedisUrl: TypeAlias = ServerUrl | SentinelUrl


def redis_url(text: str) -> RedisUrl:
    """Parse the URL of a Redis. Raises ValueError, whose message shows nothing of the URL."""
    scheme = text.partition("://")[0]
    if scheme in ("redis+sentinel", "rediss+sentinel"):
        return _sentinel_url(text)
    if scheme not in ("redis", "rediss", "unix"):
        raise ValueError(EXPECTED_SCHEME)
    try:
        url = urlsplit(text)
        if scheme == "unix":
            usable = url.path.startswith("/")
        else:
            usable = re.fullmatch(r"(/\d*)?", url.path) is not None and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        # Most often because of a "/", "?" or "#" in the password.
        raise ValueError(EXPECTED_SERVER)
    return ServerUrl(text)


def _sentinel_url(text: str) -> SentinelUrl:
    url = _SENTINEL_URL.fullmatch(text)
    if url is None:
        raise ValueError(EXPECTED_SENTINELS)
    username, _, password = (url["access"] or "").partition(":")
    options = dict(parse_qsl(url["options"] or "", keep_blank_values=True))
    allowed = _SENTINEL_OPTIONS | (_TLS_OPTIONS if url["tls"] else set())
    if not options.keys() <= allowed:
        raise ValueError(EXPECTED_SENTINELS)
    return SentinelUrl(
        sentinels=tuple(dict.fromkeys(map(_sentinel, url["sentinels"].split(",")))),
        master=url["master"],
        database=int(url["database"] or 0),
        access=Access(unquote(username) or None, unquote(password) or None),
        sentinel_access=Access(
            options.get("sentinel_username") or None, options.get("sentinel_password") or None
        ),
        tls={key: options[key] for key in options.keys() & _TLS_OPTIONS} if url["tls"] else None,
    )


def _sentinel(text: str) -> tuple[str, int]:
    found = _SENTINEL.fullmatch(text)
    port = int(found["port"] or SENTINEL_PORT) if found else 0
    if found is None or not 0 < port <= 65_535:
        raise ValueError(EXPECTED_SENTINELS)
    if found["v6"]:
        try:
            return str(IPv6Address(found["v6"])), port
        except ValueError:
            raise ValueError(EXPECTED_SENTINELS) from None
    return found["name"], port
