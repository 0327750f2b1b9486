"""Keys of clients: which ones may use upstreams that are asked with the gateway's credential.

Where keys are passed through, the upstream judges them.
"""

from __future__ import annotations

from sanic import Request

from app.http.body import given_bearer, read_bearer
from app.openai.errors import Unauthorized
from settings import Settings
from settings.client_access import client_access

ANONYMOUS = "no key"
"""The key of all requests without one, together. No bearer has a space."""

_MISSING = "Missing API key. Send a key of this gateway as `Authorization: Bearer <key>`."
_WRONG = "Incorrect API key. Ask the operator of this gateway for one."


def passes_keys_through(config: Settings) -> bool:
    """Return True if there is an upstream to which each client brings its own key."""
    return any(upstream.kind == "pandora" for upstream in config.upstreams.values())


def has_shared_upstreams(config: Settings) -> bool:
    """Return True if there is an upstream that is asked with the gateway's credential, or none."""
    return any(upstream.kind == "openai" for upstream in config.upstreams.values())


class Auth:
    """Admission of the clients of shared upstreams.

    `host` is the address on which the front end listens, by default `server.host`.

    Raises:
        SettingsError: anybody could use the credential of an upstream.
    """

    def __init__(self, config: Settings, host: str = "") -> None:
        self._access = client_access(config, host)
        self._is_shared = has_shared_upstreams(config)

    @property
    def note(self) -> str:
        """A warning for the operator, or empty."""
        return self._access.note

    def key(self, request: Request) -> str:
        """Return the key of a request for a shared upstream.

        Raises:
            Unauthorized: it may not use one.
        """
        given = given_bearer(request)
        if self._access.any_key:
            return given or ANONYMOUS
        if not given:
            raise Unauthorized(_MISSING)
        if not self._access.admits(given):
            raise Unauthorized(_WRONG)
        return given

    def own_or_shared_key(self, request: Request) -> str:
        """Return the key of a request under which its jobs were put in line.

        Raises:
            Unauthorized: there is no key, and one is needed.
        """
        if self._is_shared:
            return given_bearer(request) or self.key(request)
        return read_bearer(request)
