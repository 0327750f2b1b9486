"""Admission of clients by their keys, so that a gateway is never an open relay by accident.

An upstream that is asked with the operator's own credential does not judge the clients' keys, so
the gateway has to. `auth.mode` says which ones it takes:

- passthrough: any. The bearer of a client is its token for Pandora-Next.
- keys: gateway keys, and those listed in `auth.keys`.
- both: bearers that begin with `gw-` are gateway keys, all others are passed through.

Without a mode it follows from the upstreams. Then any key may come although the gateway has a
credential if nobody else can reach it, or if its operator says so with `auth.open`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from ipaddress import ip_address

from settings import Auth, AuthMode, Settings, SettingsError
from settings.changing_file import ChangingFile
from settings.credentials import key_hash

OPEN = "auth.open is true: anyone who can connect may use the credential of the upstream"


class ClientAccess:
    """Decision over the clients' keys.

    `any_key`: shared upstreams may be used with any key. `note` is a warning for the log and
    `/readyz`, or empty.
    """

    def __init__(
        self,
        mode: AuthMode,
        listed: Callable[[], frozenset[str]] = frozenset,
        *,
        any_key: bool = False,
        note: str = "",
    ) -> None:
        self._mode = mode
        self._listed = listed
        self.any_key = any_key
        self.note = note

    @property
    def has_gateway_keys(self) -> bool:
        """True if bearers that begin with `gw-` are gateway keys."""
        return self._mode != "passthrough"

    @property
    def passes_through(self) -> bool:
        """True if other bearers are passed through to Pandora-Next."""
        return self._mode != "keys"

    @property
    def needs_gateway_keys(self) -> bool:
        """True if only gateway keys are admitted, as no other key is listed."""
        return not (self.any_key or self.passes_through or self._listed())

    def lists(self, key: str) -> bool:
        """Return True if the settings list this key."""
        digest = hashlib.sha256(key.encode(errors="replace")).hexdigest()
        return not self._listed().isdisjoint((digest, digest[:16]))


def client_access(config: Settings, host: str = "") -> ClientAccess:
    """Return the access that the settings grant to clients of a front end.

    `host` is the address on which it listens, by default `server.host`.

    Raises:
        SettingsError: `auth.mode` does not suit the upstreams, or `auth.keys_file` cannot be read.
    """
    auth = config.auth
    mode = auth_mode(config)
    _check(mode, config)
    listed, is_listed = _listed(auth), bool(auth.keys or auth.keys_file)
    guarded = [one for one in config.upstreams.values() if one.has_credential]
    everybody = auth.open or (not auth.mode and is_loopback(host or config.server.host))
    if mode == "passthrough":
        return ClientAccess(mode, any_key=True)
    return ClientAccess(
        mode,
        listed,
        any_key=not is_listed and (everybody or (mode == "both" and not guarded)),
        note=OPEN if auth.open and guarded else "",
    )


def auth_mode(config: Settings) -> AuthMode:
    """Return `auth.mode`, or the mode that follows from the upstreams."""
    return config.auth.mode or _derived(config)


def is_loopback(host: str) -> bool:
    """Return True if only this machine can connect to a server that listens on `host`."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _derived(config: Settings) -> AuthMode:
    """Return the mode of settings without one."""
    upstreams = config.upstreams.values()
    if all(one.takes_tokens for one in upstreams):
        return "passthrough"
    is_listed = config.auth.keys or config.auth.keys_file
    if not is_listed and not any(one.has_credential for one in upstreams):
        return "passthrough"
    return "both" if any(one.takes_tokens for one in upstreams) else "keys"


def _check(mode: AuthMode, config: Settings) -> None:
    """Raise SettingsError if a mode does not suit the upstreams."""
    guarded = [name for name, one in config.upstreams.items() if one.has_credential]
    takers = [name for name, one in config.upstreams.items() if one.takes_tokens]
    if mode == "passthrough" and guarded:
        raise SettingsError(
            f'auth.mode: expected "keys" or "both", as anyone could use your credential of the'
            f" upstream {guarded[0]} otherwise"
        )
    if mode == "keys" and takers:
        raise SettingsError(
            f'auth.mode: expected "passthrough" or "both", as clients bring their own tokens of the'
            f" upstream {takers[0]}"
        )
    if mode == "both" and len(takers) == len(config.upstreams):
        raise SettingsError(
            'auth.mode: expected "passthrough", as there is no upstream that a gateway key could'
            f" use: clients bring their own tokens of the upstream {takers[0]}"
        )


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
