"""Callers: who sent a request, and which upstreams they may use.

Where keys are passed through, the upstream judges them.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping

import msgspec
from sanic import HTTPResponse, Request

from app.http.body import given_bearer
from app.openai.errors import Unauthorized
from settings import Settings
from settings.client_access import client_access
from wire.jobs import fingerprint
from wire.keyring import IssuedKey
from wire.usage import PASSTHROUGH

ANONYMOUS = "no key"
"""The identity of all callers without a key, together. No bearer has a space."""

_MISSING = "Missing API key. Send a key of this gateway as `Authorization: Bearer <key>`."
_WRONG = "Incorrect API key. Ask the operator of this gateway for one."


class Caller(msgspec.Struct, frozen=True):
    """Sender of a request.

    `identity` keeps its jobs and items apart from those of others. `bearer` is its token for
    Pandora-Next, "" if it has none. `issued` is the record of its gateway key, if it has one.
    `is_listed` if its key is one of `auth.keys`.
    """

    identity: str
    bearer: str
    issued: IssuedKey | None = None
    is_listed: bool = False

    @property
    def fingerprint(self) -> str:
        """Its name in logs, `queue.weights` and usage: 16 hex digits."""
        return self.issued.id if self.issued else fingerprint(self.identity)

    @property
    def book(self) -> str:
        """The name under which its usage is counted. The upstream judges all other keys."""
        return self.fingerprint if self.issued or self.is_listed else PASSTHROUGH

    def weight(self, weights: Mapping[str, float]) -> float:
        """Return its part of the slots: that of its gateway key, or else of `queue.weights`."""
        if self.issued:
            return self.issued.weight
        return weights.get(self.fingerprint, 1.0) if weights else 1.0


OfCaller = Callable[[Request, Caller], Coroutine[None, None, HTTPResponse | None]]
"""Handler of requests whose caller is known."""


def passes_keys_through(config: Settings) -> bool:
    """Return True if there is an upstream to which each client brings its own key."""
    return any(upstream.kind == "pandora" for upstream in config.upstreams.values())


def has_shared_upstreams(config: Settings) -> bool:
    """Return True if there is an upstream that is asked with the gateway's credential, or none."""
    return any(upstream.kind == "openai" for upstream in config.upstreams.values())


class Auth:
    """Admission of clients.

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

    @property
    def needs_key(self) -> bool:
        """True if a request without a key is always refused."""
        return not (self._is_shared and self._access.any_key)

    async def caller(self, request: Request) -> Caller:
        """Return the caller of a request, from its headers alone.

        Raises:
            Unauthorized: it may use no upstream.
        """
        if given := given_bearer(request):
            is_listed = not self._access.any_key and self._access.admits(given)
            return Caller(given, given, is_listed=is_listed)
        if not self._is_shared:
            raise Unauthorized
        if not self._access.any_key:
            raise Unauthorized(_MISSING)
        return Caller(ANONYMOUS, "")

    def check_shared(self, caller: Caller) -> None:
        """Check that a caller may use the shared upstreams.

        Raises:
            Unauthorized: it may not.
        """
        if not self._access.any_key and not caller.is_listed:
            raise Unauthorized(_WRONG)

    def check_own(self, caller: Caller) -> None:
        """Check that a caller may use Pandora-Next.

        Raises:
            Unauthorized: it may not.
        """
        if not caller.bearer:
            raise Unauthorized

    def of_own(
        self, handler: OfCaller
    ) -> Callable[..., Coroutine[None, None, HTTPResponse | None]]:
        """Make a feature of a handler of requests for Pandora-Next."""

        async def feature(request: Request) -> HTTPResponse | None:
            caller = await self.caller(request)
            self.check_own(caller)
            return await handler(request, caller)

        return feature
