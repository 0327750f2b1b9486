"""Guards of the page of operators: who sees it, the token of its forms, names as plain text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import quote

import pytest

import settings
from tests.support.admin import (
    AS_PROGRAM,
    CONFIG,
    PASSWORD,
    form_token,
    origin,
    signed_in,
)
from tests.support.sanic_adapter import Client
from wire.seal import Seal

HOSTILE = """"'></script><script>alert(1)</script><img src=x onerror=alert(2)>"""
ACTIONS = ("pause", "resume", "cancel", "drain", "wake", "revoke", "issue", "change", "none")


@pytest.fixture
def config() -> settings.Settings:
    """The settings of the gateway."""
    return CONFIG


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is answered late."""
    monkeypatch.setattr("app.throttle.FREE", 1000)
    monkeypatch.setattr("app.throttle.TOO_MANY", 1000)


class Foreign(HTMLParser):
    """Collects what could run or load something in a page, except for the assets of ours."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag in ("script", "img") and not (named.get("src") or "").startswith("/admin/assets/"):
            self.found.append((tag, "", None))
        for name, value in attrs:
            leads_away = name in ("href", "src", "action") and not (value or "").startswith(
                ("/admin", "#")
            )
            if leads_away or name.startswith("on") or name == "style":
                self.found.append((tag, name, value))


async def test_names_become_text_in_every_view(front: Client, seal: Seal) -> None:
    fields = {"name": HOSTILE, "notes": HOSTILE, "models": [HOSTILE]}
    issued = await front.post("/admin/api/keys", json=fields, headers=AS_PROGRAM)
    id = issued.json()["entry"]["id"]
    assert (
        await front.post("/admin/api/intake/pause", json={"key": id}, headers=AS_PROGRAM)
    ).status_code == 200
    form = {"password": PASSWORD, "name": HOSTILE}
    answer = await front.post(
        "/admin/login", data=form, headers=origin(front), follow_redirects=False
    )
    browser = {"cookie": answer.headers["set-cookie"].partition(";")[0]}
    text = quote(HOSTILE, safe="")
    queries = (
        *("", "/line", "/keys", "/audit", "/upstreams", "/processes", "/jobs"),
        *(f"/keys?q={text}", f"/act/change?id={id}", f"/act/revoke?id={id}", f"/line?key={text}"),
        *(f"/act/pause?what=key&name={text}", f"/act/{text}", f"/?done={text}", f"/jobs/{text}"),
    )
    shown = 0
    for query in queries:
        page = await front.get(f"/admin{query}", headers=browser)
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert Foreign(page.text).found == [], query
        shown += "alert(1)" in page.text
    assert shown > 5, "the name is shown"


async def test_a_stranger_sees_the_login_alone(front: Client) -> None:
    for path in ("", "/line", "/keys", "/audit", "/act/issue", "/act/pause"):
        for headers in ({}, {"cookie": "gateway_operator_x=y"}, {"authorization": "Bearer gw-x"}):
            answer = await front.get(f"/admin{path}", headers=headers, follow_redirects=False)
            assert (answer.status_code, answer.headers["location"]) == (303, "/admin/login")
    stream = await front.get("/admin/stream")
    assert stream.text == "event: signed_out\ndata:\n\n"


async def test_a_form_acts_with_the_token_of_its_session_and_from_our_page_alone(
    front: Client, seal: Seal
) -> None:
    browser = await signed_in(front)
    token = form_token(front, browser, seal)["x-form-token"]
    for action in ACTIONS:
        for form, headers in (
            ({}, browser | origin(front)),
            ({"form_token": "0" * 32}, browser | origin(front)),
            ({"form_token": token}, browser),
            ({"form_token": token}, browser | {"origin": "https://evil.example"}),
        ):
            answer = await front.post(f"/admin/act/{action}", data=form, headers=headers)
            assert answer.status_code == 403, action
    audit = await front.get("/admin/api/audit", headers=AS_PROGRAM)
    assert audit.json()["entries"] == []
    done = await front.post(
        "/admin/act/pause",
        data={"form_token": token},
        headers=browser | origin(front),
        follow_redirects=False,
    )
    assert done.status_code == 303


async def test_style_and_script_are_kept_by_browsers_until_they_change(front: Client) -> None:
    page = await front.get("/admin/login")
    assets = set(re.findall(r"/admin/assets/[\w.]+", page.text))
    assert len(assets) == 3
    for asset in assets:
        answer = await front.get(asset)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert (await front.get("/admin/assets/admin.0000000000000000.js")).status_code == 404


@pytest.mark.parametrize(
    ("back", "location"),
    [
        ("/admin/line?key=a", "/admin/line?key=a"),
        ("https://evil.example/admin", "/admin"),
        ("//evil.example", "/admin"),
        ("/administrator", "/admin"),
        ("/admin/\r\nset-cookie: a=b", "/admin"),
    ],
)
async def test_a_choice_of_colours_leads_back_to_our_pages_alone(
    front: Client, back: str, location: str
) -> None:
    form = {"theme": "dark", "language": "zh", "back": back}
    answer = await front.post(
        "/admin/look", data=form, headers=origin(front), follow_redirects=False
    )
    assert (answer.status_code, answer.headers["location"]) == (303, location)
    chosen = answer.headers.get_list("set-cookie")
    assert [cookie.partition(";")[0] for cookie in chosen] == [
        "gateway_theme=dark",
        "gateway_language=zh",
    ]
    assert all("HttpOnly" in cookie and "SameSite=Strict" in cookie for cookie in chosen)


async def test_an_error_is_a_page_in_the_language_of_its_reader(front: Client, seal: Seal) -> None:
    browser = await signed_in(front) | {"accept-language": "zh-CN"}
    for path, status in (
        ("/act/nothing", 404),
        ("/line?offset=-1", 400),
        ("/keys?q=" + "x" * 200, 400),
    ):
        answer = await front.get(f"/admin{path}", headers=browser)
        assert answer.status_code == status
        assert '<html lang="zh-CN"' in answer.text
        assert "错误" in answer.text
