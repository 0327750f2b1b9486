"""Operators of the tests, as clients of the admin API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import settings
from app.admin.sessions import Sessions
from settings.credentials import Secret
from tests.support.line import LASTING
from tests.support.sanic_adapter import Client
from wire.seal import Seal

TOKEN = "a-token-of-the-operators"
PASSWORD = "correct horse"
AS_PROGRAM = {"authorization": f"Bearer {TOKEN}"}
CREDENTIAL = "sk-of-the-upstream"
ADMIN = settings.Admin(password=Secret(PASSWORD), token=Secret(TOKEN))
CONFIG = settings.Settings(
    queue=LASTING,
    admin=ADMIN,
    auth=settings.Auth(mode="both"),
    upstream=settings.Upstream(base_url="http://pandora"),
    others={
        "gpu": settings.Upstream(
            kind="openai", base_url="http://gpu", credential=Secret(CREDENTIAL)
        )
    },
)
"""A gateway with operators, and with an upstream of each kind."""


def origin(client: Client) -> dict[str, str]:
    """The headers of a form on a page of ours."""
    return {"origin": client.make_url("").rstrip("/")}


async def sign_in(client: Client, password: str = PASSWORD, **headers: str) -> Any:
    """Answer to the form of the login page."""
    form = {"password": password, "name": "ann"}
    return await client.post(
        "/admin/login", data=form, headers=origin(client) | headers, follow_redirects=False
    )


async def signed_in(client: Client) -> dict[str, str]:
    """The headers of a browser that has signed in."""
    answer = await sign_in(client)
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin")
    return {"cookie": answer.headers["set-cookie"].partition(";")[0]}


def form_token(client: Client, browser: Mapping[str, str], seal: Seal) -> dict[str, str]:
    """The headers that a page of ours adds to a request that changes something."""
    sessions = Sessions(ADMIN, seal)
    session = sessions.find(browser["cookie"].partition("=")[2])
    assert session
    return {"x-form-token": sessions.form_token(session)} | origin(client)
