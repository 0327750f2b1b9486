"""Admission of clients by their keys, so that a gateway is never an open relay by accident.

An upstream that is asked with the gateway's own credential does not judge the clients' keys. So
the gateway has to, unless nobody else can reach it or its operator says that anybody may.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from ipaddress import ip_address

from settings import Auth, Settings, SettingsError
from settings.changing_file import ChangingFile
from settings.credentials import key_hash

OPEN = "auth.open is true: anyone who can connect may use the credential of the upstream"


class ClientAccess:
    """Decision over the clients' keys. `note` is a warning for the log and `/readyz`, or empty."""

    def __init__(self, keys: Callable[[], frozenset[str]] | None, note: str = "") -> None:
        self._keys = keys
        self.note = note

    @property
    def any_key(self) -> bool:
        """True if clients may use any key."""
        return self._keys is None

    def admits(self, key: str) -> bool:
        """Return True if a client may use this key."""
        if self._keys is None:
            return True
        digest = hashlib.sha256(key.encode(errors="replace")).hexdigest()
        return not self._keys().isdisjoint((digest, digest[:16]))


def client_access(config: Settings, host: str = "") -> ClientAccess:
    """Return the access that the settings grant to clients of a front end.

    `host` is the address on which it listens, by default `server.host`.

    Raises:
        SettingsError: anybody could use the credential of an upstream, or `auth.keys_file` cannot
            be read.
    """
    auth, host = config.auth, host or config.server.host
    if auth.keys or auth.keys_file:
        return ClientAccess(_listed(auth))
    guarded = [name for name, upstream in config.upstreams.items() if upstream.has_credential]
    if not guarded or is_loopback(host):
        return ClientAccess(None)
    if auth.open:
        return ClientAccess(None, OPEN)
    raise SettingsError(
        f"auth.keys: not set, so anyone who can connect to {host} could use the credential of the"
        f" upstream {guarded[0]}. Set auth.keys or auth.keys_file to the SHA-256 hashes of the keys"
        ' that clients may use, or server.host to "127.0.0.1", or auth.open to true'
    )


def is_loopback(host: str) -> bool:
    """Return True if only this machine can connect to a server that listens on `host`."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _listed(auth: Auth) -> Callable[[], frozenset[str]]:
    keys = frozenset(auth.keys)
    if not auth.keys_file:
        return lambda: keys
    file = ChangingFile("auth.keys_file", auth.keys_file, _parse)
    return lambda: keys | file.current()


def _parse(text: str) -> frozenset[str]:
    """Parse a hash at the beginning of each line, as `sha256sum` prints it; # begins a comment."""
    lines = (line.partition("#")[0].split() for line in text.splitlines())
    return frozenset(key_hash(words[0]) for words in lines if words)
