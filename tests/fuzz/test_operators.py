"""Requests to the admin API: what is presented as a session or a token, queries, bodies of keys."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any, cast
from urllib.parse import quote_plus

from hypothesis import strategies as st
from sanic import Request
from sanic.compat import Header

from app.admin.access import Access
from app.admin.acting import Pausing, chosen_fields
from app.admin.api import Page
from app.admin.body import decode, query
from app.admin.errors import CrossSite, NotAnOperator
from app.admin.sessions import Sessions
from app.http.connection import GatewayRequest
from app.openai.errors import ApiError, BadRequest
from tests.support.admin import ADMIN, CONFIG, TOKEN
from tests.support.fuzzing import ODD_TEXTS, Json, bodies, fuzzed
from wire.seal import Seal

SESSIONS = Sessions(ADMIN, Seal(b"a secret of the fuzz tests"))
ACCESS = Access(CONFIG, SESSIONS)
SESSION, COOKIE = SESSIONS.new("ann")
PARTS = st.sampled_from(
    [
        *("Bearer ", "bearer", "Basic ", TOKEN, TOKEN[:-1], " ", "\t", ",", ";", "=", '"', "\xa0"),
        *(
            f"{SESSIONS.cookie}=",
            COOKIE,
            COOKIE[:-1],
            COOKIE[4:],
            COOKIE[:60],
            "\udcff",
            "é",
            "x" * 9,
        ),
        *(
            "http://gw",
            "https://gw",
            "null",
            "same-origin",
            "cross-site",
            SESSIONS.form_token(SESSION),
        ),
    ]
)
VALUES = st.lists(PARTS | ODD_TEXTS, max_size=4).map("".join)
NAMES = st.sampled_from(
    ["authorization", "cookie", "origin", "sec-fetch-site", "x-form-token", "x-api-key"]
)


def request(headers: list[tuple[str, str]], target: bytes = b"/admin") -> Request[Any, Any]:
    given = Header([("host", "gw"), *headers])
    return GatewayRequest(target, given, "1.1", "POST", None, None)


@fuzzed(st.lists(st.tuples(NAMES, VALUES), max_size=6))
def test_nobody_is_an_operator_without_the_token_or_a_cookie(
    headers: list[tuple[str, str]],
) -> None:
    asked = request(headers)
    try:
        admitted = ACCESS.admit(asked)
    except NotAnOperator:
        return
    if admitted.session is None:
        [given] = [value for name, value in headers if name == "authorization"]
        assert given.lower().startswith("bearer ")
        assert given.partition(" ")[2].strip() == TOKEN
        return
    assert admitted.session == SESSION
    assert COOKIE in "".join(value for name, value in headers if name == "cookie")
    with suppress(CrossSite):
        assert ACCESS.admit_change(asked) == admitted
        assert SESSIONS.form_token(SESSION) in dict(headers).values()


QUERIES = st.lists(
    st.sampled_from([*Page.__struct_fields__, "=", "&", "=1", "=-1", "=1e9", "%ff", "+", ";"])
    | ODD_TEXTS.map(partial(quote_plus, errors="surrogatepass")),
    max_size=6,
).map("".join)


@fuzzed(QUERIES)
def test_a_query_is_read_or_refused(text: str) -> None:
    with suppress(BadRequest):
        page = query(request([], f"/admin?{text}".encode()), Page)
        assert 1 <= page.limit <= 200


NESTED: Json = {"bot": [[[[{}]]]], "models": ["a"]}


@fuzzed(
    bodies(
        [NESTED, {"key": "a", "upstream": "b", "seconds": 1.5}, {"name": "bot", "max_running": 3}]
    )
)
def test_a_body_is_read_or_refused(body: bytes) -> None:
    for kind in (Pausing, dict[str, object]):
        with suppress(ApiError):
            asked = decode(body, kind)
            if isinstance(asked, Pausing):
                assert asked.target[0] in ("all", "key", "upstream")
            else:
                assert "sha256" not in chosen_fields(cast(dict[str, object], asked))
