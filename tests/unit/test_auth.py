"""Callers by their headers, in each mode."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Literal, cast

import pytest
from msgspec.structs import replace
from redis.exceptions import ConnectionError
from sanic import Request
from sanic.compat import Header

import settings
from app.auth import ANONYMOUS, Auth, Caller
from app.key_lookup import KeyLookup
from app.no_keys import WARNING, NoKeys
from app.openai.errors import LineUnavailable, ModelNotFound, Unauthorized
from runtime.tasks import background
from settings.client_access import client_access
from settings.credentials import Secret
from wire.jobs import fingerprint
from wire.keyring import IssuedKey

KEY, REVOKED, EXPIRED = "gw-example", "gw-revoked", "gw-expired"


def record(key: str, sha256: str, **fields: object) -> IssuedKey:
    return IssuedKey(id=fingerprint(key), sha256=sha256, name="bot", created=1).changed(fields)


RECORDS = {
    each.id: each
    for each in (
        record(KEY, "ff92c15fc8b530dbc48aaba076230462162f5ac82671c637b950f1a8c74b2344"),
        record(REVOKED, "0" * 64, revoked=5),
        record(
            EXPIRED,
            "0" * 64,
            expires=round(time.time()) - 1,
        ),
    )
}
ISSUED = Caller(f"gw {fingerprint(KEY)}", "", RECORDS[fingerprint(KEY)])

TOKENS = settings.Upstream(base_url="http://p")
GUARDED = settings.Upstream(kind="openai", base_url="http://a", credential=Secret("sk-hush"))
UNGUARDED = settings.Upstream(kind="openai", base_url="http://b")
LISTED = (fingerprint("listed"), fingerprint("gw-listed"))

Mode = Literal["", "passthrough", "keys", "both"]


def config(
    *upstreams: settings.Upstream, mode: Mode = "", keys: tuple[str, ...] = ()
) -> settings.Settings:
    others = {f"u{number}": upstream for number, upstream in enumerate(upstreams)}
    return settings.Settings(others=others, auth=settings.Auth(mode=mode, keys=keys))


async def read(id: str) -> IssuedKey | None:
    return RECORDS.get(id)


def auth(config: settings.Settings) -> Auth:
    return Auth(config, client_access(config), KeyLookup(read))


class Asking:
    """A request with these headers."""

    def __init__(self, **headers: str) -> None:
        self.ctx = SimpleNamespace()
        self.headers = Header({name.replace("_", "-"): value for name, value in headers.items()})


def asking(key: str = "", **headers: str) -> Request:
    given = {"authorization": f"Bearer {key}"} if key else {}
    return cast(Request, Asking(**given, **headers))


async def test_keys_are_passed_through_where_no_upstream_has_a_credential() -> None:
    open_door = auth(config(TOKENS, UNGUARDED))
    for key in ("sk-1", KEY):
        assert await open_door.caller(asking(key)) == Caller(key, key)
    assert await open_door.caller(asking()) == Caller(ANONYMOUS, "")
    with pytest.raises(Unauthorized, match="Missing bearer"):
        await auth(config(TOKENS)).caller(asking())


async def test_the_token_of_operators_is_no_key_of_a_client_and_goes_to_no_upstream() -> None:
    token = Secret("a-token-of-the-operators")
    for each in (config(TOKENS), config(UNGUARDED), config(TOKENS, GUARDED)):
        door = auth(replace(each, admin=settings.Admin(token=token)))
        for request in (asking(token.reveal()), asking(x_api_key=token.reveal())):
            with pytest.raises(Unauthorized, match="Incorrect"):
                await door.caller(request)
    assert (await auth(config(TOKENS)).caller(asking("sk-1"))).bearer == "sk-1"


@pytest.mark.parametrize("header", ["authorization", "x_api_key"])
async def test_a_gateway_key_is_its_own_caller_in_either_header(header: str) -> None:
    request = asking(**{header: f"Bearer {KEY}" if header == "authorization" else KEY})
    for each in (config(GUARDED), config(TOKENS, GUARDED), config(UNGUARDED, mode="both")):
        caller = await auth(each).caller(request)
        assert caller == ISSUED
        assert KEY not in (caller.identity, caller.bearer)
        auth(each).check_shared(caller)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (REVOKED, "revoked"),
        (EXPIRED, "expired"),
        ("gw-made-up", "Incorrect"),
        ("sk-1", "Incorrect"),
        ("", "Missing"),
    ],
)
async def test_a_key_that_is_not_valid_is_refused(
    key: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(IssuedKey, "is_of", lambda self, key: True)
    with pytest.raises(Unauthorized, match=message):
        await auth(config(GUARDED, mode="keys")).caller(asking(key))


async def test_listed_keys_stay_valid_also_with_the_prefix_of_gateway_keys() -> None:
    for each in (config(GUARDED, keys=LISTED), config(GUARDED, keys=LISTED, mode="keys")):
        for key in ("listed", "gw-listed"):
            caller = await auth(each).caller(asking(key))
            assert caller == Caller(key, "", is_listed=True)
            auth(each).check_shared(caller)


async def test_with_both_other_bearers_are_for_pandora_alone() -> None:
    both = auth(config(TOKENS, GUARDED, keys=LISTED))
    token = await both.caller(asking("eyJ"))
    assert token == Caller("eyJ", "eyJ")
    both.check_own(token)
    with pytest.raises(Unauthorized):
        both.check_shared(token)
    both.check_shared(await both.caller(asking("listed")))


async def test_a_gateway_key_has_no_model_of_an_upstream_that_takes_tokens() -> None:
    both = auth(config(TOKENS, GUARDED))
    with pytest.raises(ModelNotFound):
        both.check_own(await both.caller(asking(KEY)))


async def test_a_request_without_a_key_is_refused_at_once_where_no_upstream_takes_it() -> None:
    """It could send its body first, next to Pandora-Next."""
    with pytest.raises(Unauthorized, match="Missing API key"):
        await auth(config(TOKENS, GUARDED)).caller(asking())
    some = auth(config(TOKENS, UNGUARDED, mode="both"))
    anonymous = await some.caller(asking())
    some.check_shared(anonymous)
    with pytest.raises(Unauthorized):
        some.check_own(anonymous)


@pytest.mark.parametrize(
    ("config", "key", "shows"),
    [
        (config(TOKENS), "", True),
        (config(TOKENS, GUARDED), "", True),
        (config(TOKENS, GUARDED), REVOKED, False),
        (config(GUARDED), "", False),
        (config(GUARDED), REVOKED, False),
    ],
)
def test_the_models_of_pandora_are_shown_where_keys_are_passed_through(
    config: settings.Settings, key: str, shows: bool
) -> None:
    assert auth(config).shows_models(asking(key)) is shows
    malformed = asking(authorization="nonsense")
    assert auth(config).shows_models(malformed) is client_access(config).passes_through


async def test_a_key_that_cannot_be_checked_opens_nothing() -> None:
    async def fail(id: str) -> None:
        raise ConnectionError

    guarded = config(GUARDED)
    with pytest.raises(LineUnavailable):
        await Auth(guarded, client_access(guarded), KeyLookup(fail)).caller(asking(KEY))


@pytest.mark.parametrize(
    ("config", "issued", "warning"),
    [
        (config(GUARDED), 0, WARNING),
        (config(GUARDED), 1, ""),
        (config(GUARDED, keys=LISTED), 0, ""),
        (config(TOKENS, GUARDED), 0, ""),
        (config(UNGUARDED), 0, ""),
    ],
)
async def test_a_gateway_that_takes_only_gateway_keys_and_has_none_says_so(
    config: settings.Settings, issued: int, warning: str
) -> None:
    async def count() -> int:
        return issued

    assert await NoKeys(client_access(config), count).warning() == warning


async def test_the_log_says_once_that_there_is_no_gateway_key(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("app.no_keys.INTERVAL", 0.0)
    numbers = iter([0, 0, 1, 0])
    looked = asyncio.Event()

    async def count() -> int:
        if (number := next(numbers, None)) is None:
            looked.set()
            await asyncio.Event().wait()
        return number or 0

    async with background(NoKeys(client_access(config(GUARDED)), count).keep_logging()):
        await looked.wait()
    assert caplog.messages == [WARNING, WARNING]
