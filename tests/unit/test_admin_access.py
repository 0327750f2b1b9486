"""Admission of operators."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from msgspec.structs import replace
from sanic.compat import Header

import settings
from app.admin.access import Access, check_token
from app.admin.errors import CrossSite, NotAnOperator
from app.admin.sessions import Sessions
from app.http.access_log import entry_of
from app.http.connection import GatewayRequest
from settings.client_access import client_access
from settings.credentials import Secret
from wire.seal import Seal

TOKEN = "a-token-of-tests"
CONFIG = settings.Settings(
    admin=settings.Admin(password=Secret("correct horse"), token=Secret(TOKEN)),
    server=settings.Server(public_url="https://gateway.example/666"),
)


class Door:
    """Access, and requests to it."""

    def __init__(self, config: settings.Settings = CONFIG) -> None:
        self.sessions = Sessions(config.admin, Seal(b"a secret of the tests"))
        self.access = Access(config, self.sessions)
        self.session, self.cookie = Sessions(CONFIG.admin, Seal(b"a secret of the tests")).new(
            "ann"
        )

    @property
    def form_token(self) -> str:
        return self.sessions.form_token(self.session)

    def request(self, *headers: tuple[str, str], signed_in: bool = False) -> Any:
        cookie = [("cookie", f"{self.sessions.cookie}={self.cookie}")] if signed_in else []
        given = Header([("host", "gw:50011"), *cookie, *headers])
        return GatewayRequest(b"/admin/api/board", given, "1.1", "POST", None, None)


def test_a_program_is_admitted_by_the_token_alone() -> None:
    door = Door()
    request = door.request(("authorization", f"Bearer {TOKEN}"))
    admitted = door.access.admit_change(request)
    assert (admitted.operator.via, admitted.operator.name) == ("api", "admin.token")
    assert entry_of(request).names.keys() == {"request", "operator"}


@pytest.mark.parametrize(
    "given",
    [
        "Bearer gw-" + "x" * 43,
        "Bearer sk-a-token-of-the-upstream",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        "Bearer ",
        "Bearer",
        "Bearer \udce9\ud800",
    ],
)
def test_no_other_bearer_is_admitted_even_next_to_a_session(given: str) -> None:
    door = Door()
    for signed_in in (False, True):
        request = door.request(("authorization", given), signed_in=signed_in)
        with pytest.raises(NotAnOperator):
            door.access.admit(request)


def test_without_a_token_no_bearer_is_admitted() -> None:
    door = Door(settings.Settings(admin=settings.Admin(password=Secret("correct horse"))))
    for given in ("Bearer ", "Bearer x"):
        with pytest.raises(NotAnOperator):
            door.access.admit(door.request(("authorization", given)))
    assert door.access.admit(door.request(signed_in=True)).operator.name == "ann"


def test_two_bearers_or_one_in_another_header_are_not_admitted() -> None:
    door = Door()
    for headers in (
        [("authorization", f"Bearer {TOKEN}"), ("authorization", f"Bearer {TOKEN}")],
        [("x-api-key", TOKEN)],
        [],
    ):
        with pytest.raises(NotAnOperator):
            door.access.admit(door.request(*headers))


OURS = ("origin", "http://gw:50011")


@pytest.mark.parametrize(
    "headers",
    [
        [OURS],
        [("origin", "https://GW:50011")],
        [("origin", "https://gateway.example")],
        [("sec-fetch-site", "same-origin"), ("origin", "https://behind.a.proxy")],
    ],
)
def test_a_session_can_change_things_from_its_own_page(headers: list[tuple[str, str]]) -> None:
    door = Door()
    signed = ("x-form-token", door.form_token)
    admitted = door.access.admit_change(door.request(*headers, signed, signed_in=True))
    assert (admitted.operator.via, admitted.operator.name) == ("page", "ann")
    door.access.admit_change(door.request(*headers, signed_in=True), door.form_token)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("origin", "null")],
        [("origin", "http://evil.example")],
        [("origin", "http://gw:50011.evil.example")],
        [("origin", "http://gw")],
        [("origin", "https://gateway.example.evil.example")],
        [("sec-fetch-site", "cross-site"), OURS],
        [("sec-fetch-site", "same-site"), OURS],
        [("sec-fetch-site", "none"), OURS],
    ],
)
def test_a_session_changes_nothing_from_another_site(headers: list[tuple[str, str]]) -> None:
    door = Door()
    signed = ("x-form-token", door.form_token)
    with pytest.raises(CrossSite):
        door.access.admit_change(door.request(*headers, signed, signed_in=True))
    assert door.access.admit(door.request(*headers, signed_in=True)).session, "but it can read"


@pytest.mark.parametrize("token", ["", "00", "é"])
def test_a_session_changes_nothing_without_its_form_token(token: str) -> None:
    door = Door()
    with pytest.raises(CrossSite):
        door.access.admit_change(door.request(OURS, ("x-form-token", token), signed_in=True))
    with pytest.raises(CrossSite):
        door.access.admit_change(door.request(OURS, signed_in=True), token)


def test_the_token_of_operators_is_not_a_secret_that_others_have() -> None:
    def check(**sections: Any) -> None:
        config = settings.Settings(admin=CONFIG.admin, **sections)
        check_token(config, client_access(config))

    check()
    shared = settings.Upstream(kind="openai", base_url="http://gpu", credential=Secret("sk-a"))
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    for sections in (
        {"metrics": settings.Metrics(token=Secret(TOKEN))},
        {"upstream": replace(shared, credential=Secret(TOKEN))},
        {"upstream": shared, "auth": settings.Auth(keys=(digest,))},
    ):
        with pytest.raises(settings.SettingsError, match=r"admin\.token"):
            check(**sections)
