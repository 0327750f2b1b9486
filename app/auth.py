"""Callers: who sent a request, and which upstreams they may use.

Where keys are passed through, the upstream judges them; `settings/client_access.py` has the rules.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Coroutine, Mapping

import msgspec
from msgspec.structs import replace
from sanic import HTTPResponse, Request

from app.http.access_log import Entry, entry_of
from app.http.body import given_bearer
from app.key_lookup import KeyLookup
from app.openai.errors import ModelNotFound, Unauthorized
from settings import Bot, Settings
from settings.client_access import ClientAccess
from wire.jobs import fingerprint
from wire.keyring import PREFIX, IssuedKey, identity
from wire.line.usage import PASSTHROUGH

ANONYMOUS = "no key"
"""The identity of all callers without a key, together. No bearer has a space."""

_MISSING = "Missing API key. Send a key of this gateway as `Authorization: Bearer <key>`."
_WRONG = "Incorrect API key. Ask the operator of this gateway for one."
_REVOKED = "This API key has been revoked. Ask the operator of this gateway for another one."
_EXPIRED = "This API key has expired. Ask the operator of this gateway for another one."
_NO_MODEL = (
    "This API key can use none of the models of this URL. See GET /v1/models for its models."
)


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

    def may_use(self, model: str) -> bool:
        """Return True if its gateway key, if it has one, is for this model."""
        return not self.issued or not self.issued.models or model in self.issued.models

    def check_model(self, model: str) -> None:
        """Check that it may use a model, by the name that clients use.

        Raises:
            ModelNotFound: its gateway key is for others.
        """
        if not self.may_use(model):
            raise ModelNotFound(f"The model `{model[:100]}` does not exist.", param="model")

    def bot(self, config: Bot) -> Bot:
        """Return the settings of `[bot]` for it."""
        return replace(config, **self.issued.bot) if self.issued else config


OfCaller = Callable[[Request, Caller], Coroutine[None, None, HTTPResponse | None]]
"""Handler of requests whose caller is known."""


def passes_keys_through(config: Settings) -> bool:
    """Return True if there is an upstream to which each client brings its own key."""
    return any(upstream.kind == "pandora" for upstream in config.upstreams.values())


def has_shared_upstreams(config: Settings) -> bool:
    """Return True if there is an upstream that is asked with the gateway's credential, or none."""
    return any(upstream.kind == "openai" for upstream in config.upstreams.values())


class Auth:
    """Admission of clients. `lookup` finds the records of gateway keys."""

    def __init__(self, config: Settings, access: ClientAccess, lookup: KeyLookup) -> None:
        upstreams = config.upstreams.values()
        self._access = access
        self._lookup = lookup
        self._operators = config.admin.token
        self._is_shared = has_shared_upstreams(config)
        self.has_pool = any(one.kind == "pandora" and one.has_credential for one in upstreams)

    @property
    def passes_through(self) -> bool:
        """True if there is an upstream to which clients bring their own keys."""
        return self._access.passes_through

    @property
    def needs_key(self) -> bool:
        """True if a request without a key is always refused."""
        access = self._access
        return not access.any_key or (access.passes_through and not self._is_shared)

    async def caller(self, request: Request) -> Caller:
        """Return the caller of a request, from its headers alone.

        Raises:
            Unauthorized: it may use no upstream.
            LineUnavailable: its key cannot be checked, as Redis is unreachable.
        """
        access, given = self._access, given_bearer(request)
        if self._is_of_operators(given):
            raise Unauthorized(_WRONG)
        if self._is_gateway_key(given):
            return await self._issued(given, entry_of(request))
        is_listed = access.lists(given)
        if access.passes_through and (given or not self._is_shared):
            if not given:
                raise Unauthorized
            return Caller(given, given, is_listed=is_listed)
        if not (access.any_key or is_listed):
            raise Unauthorized(_WRONG if given else _MISSING)
        return Caller(given or ANONYMOUS, "", is_listed=is_listed)

    async def _issued(self, key: str, entry: Entry) -> Caller:
        record = await self._lookup.find(key)
        if record is None:
            raise Unauthorized(_WRONG)
        entry.key_name = record.name
        if record.revoked:
            raise Unauthorized(_REVOKED)
        if record.has_expired(time.time()):
            raise Unauthorized(_EXPIRED)
        return Caller(identity(record.id), "", record)

    def shows_models(self, request: Request) -> bool:
        """Return True if the sender of a request that `caller` refuses may see the models of
        Pandora-Next: where keys are passed through, and without a gateway key that is not valid."""
        if not self._access.passes_through:
            return False
        try:
            return not self._is_gateway_key(given_bearer(request))
        except Unauthorized:
            return True

    def _is_gateway_key(self, given: str) -> bool:
        has_form = self._access.has_gateway_keys and given.startswith(PREFIX)
        return has_form and not self._access.lists(given)

    def _is_of_operators(self, given: str) -> bool:
        """Return True for the token of operators, which an upstream must never see."""
        ours = self._operators.reveal()
        return bool(ours) and hmac.compare_digest(given.encode(), ours.encode())

    def check_shared(self, caller: Caller) -> None:
        """Check that a caller may use the shared upstreams.

        Raises:
            Unauthorized: it may not.
        """
        if not (caller.issued or caller.is_listed or self._access.any_key):
            raise Unauthorized(_WRONG)

    def check_own(self, caller: Caller) -> None:
        """Check that a caller may use Pandora-Next: with its own token, or on the operator's
        accounts.

        Raises:
            Unauthorized: it may not.
            ModelNotFound: no gateway key may.
        """
        if caller.bearer:
            return
        if caller.issued is None and self._access.passes_through:
            raise Unauthorized
        if not self.has_pool:
            raise ModelNotFound(_NO_MODEL, param="model")

    def of_own(
        self, handler: OfCaller
    ) -> Callable[..., Coroutine[None, None, HTTPResponse | None]]:
        """Make a feature of a handler of requests for Pandora-Next."""

        async def feature(request: Request) -> HTTPResponse | None:
            caller = await self.caller(request)
            self.check_own(caller)
            return await handler(request, caller)

        return feature
