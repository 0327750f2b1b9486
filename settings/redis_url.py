"""The URL of a Redis that Sentinels watch over, as values: neither redis-py nor arq reads one."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from urllib.parse import parse_qsl, unquote

import msgspec

PORT = 26379
"""Where a Sentinel listens if the URL does not say."""

EXPECTED = (
    "expected redis+sentinel://[[user]:password@]host[:port][,host[:port]...]/master[/database]"
    "[?sentinel_password=...], with the passwords percent-encoded"
)

_URL = re.compile(
    r"redis(?P<tls>s?)\+sentinel://(?:(?P<access>[^/?#]*)@)?(?P<sentinels>[^/?#@]+)"
    r"/(?P<master>[A-Za-z0-9._-]+)(?:/(?P<database>[0-9]{0,5}))?(?:\?(?P<options>[^#]*))?"
)
_SENTINEL = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?"
)
_SENTINEL_OPTIONS = frozenset(("sentinel_username", "sentinel_password"))
_TLS_OPTIONS = frozenset(("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs"))


class Access(msgspec.Struct, frozen=True):
    """Who we are to a server."""

    username: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return "Access(***)"


class SentinelUrl(msgspec.Struct, frozen=True):
    """Which Sentinels to ask for which master, and how to be let in.

    `tls` are redis-py's options of that name, for the Sentinels and the master alike; None: no TLS.
    """

    sentinels: tuple[tuple[str, int], ...]
    master: str
    database: int = 0
    access: Access = Access()
    sentinel_access: Access = Access()
    tls: dict[str, str] | None = None


def is_sentinel_url(text: str) -> bool:
    """Whether a Redis URL names Sentinels, and not the server itself."""
    return text.partition("://")[0] in ("redis+sentinel", "rediss+sentinel")


def parse(text: str) -> SentinelUrl:
    """The URL's values. Raises ValueError, whose message shows nothing of the URL."""
    url = _URL.fullmatch(text)
    if url is None:
        raise ValueError(EXPECTED)
    username, _, password = (url["access"] or "").partition(":")
    options = dict(parse_qsl(url["options"] or "", keep_blank_values=True))
    allowed = _SENTINEL_OPTIONS | (_TLS_OPTIONS if url["tls"] else set())
    if not options.keys() <= allowed:
        raise ValueError(EXPECTED)
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
    port = int(found["port"] or PORT) if found else 0
    if found is None or not 0 < port <= 65_535:
        raise ValueError(EXPECTED)
    if found["v6"]:
        try:
            return str(IPv6Address(found["v6"])), port
        except ValueError:
            raise ValueError(EXPECTED) from None
    return found["name"], port
