"""The admin API over HTTP: who may read, what, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

import settings
from app.admin import streams
from local.redis import EmbeddedRedis
from settings.credentials import Secret
from tests.support.admin import (
    AS_PROGRAM,
    CONFIG,
    CREDENTIAL,
    PASSWORD,
    TOKEN,
    form_token,
    origin,
    sign_in,
    signed_in,
)
from tests.support.sanic_adapter import Client
from wire.keyring import Keyring
from wire.line.board import Board, BoardFlow
from wire.line.operator import OperatorLine
from wire.redis.client import Redis
from wire.seal import Seal

BOARD = "/admin/api/board"
EVENTS = "/admin/api/events"
READS = (
    "board",
    "jobs",
    "jobs/nothing",
    "endings",
    "history",
    "processes",
    "keys",
    "audit",
    "events",
)


@pytest.fixture
def config(request: pytest.FixtureRequest) -> settings.Settings:
    """The settings of the gateway, with some sections replaced."""
    return replace(CONFIG, **getattr(request, "param", {}))


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds for which clients would have waited for a refusal."""
    seconds: list[float] = []

    async def note(delay: float) -> None:
        seconds.append(delay)

    monkeypatch.setattr("app.refusals.sleep", note)
    return seconds


async def test_a_program_and_a_person_read_the_board(
    front: Client, seal: Seal, redis: Redis
) -> None:
    _, record = await Keyring(redis, seal).new("bot-a", {"max_running": 3})
    for headers in (AS_PROGRAM, await signed_in(front)):
        for part in ("endings", "history?minutes=1440", "processes", "audit?limit=1"):
            assert (await front.get(f"/admin/api/{part}", headers=headers)).status_code == 200
        answer = await front.get(BOARD, headers=headers)
        assert answer.status_code == 200
        assert answer.json()["waiting_total"] == 0
        assert (await front.get("/admin/api/jobs", headers=headers)).json() == {
            "jobs": [],
            "names": {},
        }
        [key] = (await front.get("/admin/api/keys", headers=headers)).json()["keys"]
        assert (key["id"], key["name"], key["limits"]["max_running"]) == (record.id, "bot-a", 3)
        assert record.sha256 not in json.dumps(key)
        missing = await front.get("/admin/api/jobs/nothing", headers=headers)
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")


async def test_no_key_of_a_client_is_enough(
    front: Client, redis: Redis, seal: Seal, delays: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.throttle.TOO_MANY", 1000)
    key, _ = await Keyring(redis, seal).new("bot-a", {})
    others = (key, "a-token-that-is-passed-through", CREDENTIAL, "-")
    given = [{"authorization": f"Bearer {other}"} for other in others]
    given += [{}, {"x-api-key": key}, {"x-api-key": TOKEN}, {"cookie": f"token={TOKEN}"}]
    for part in READS:
        for headers in given:
            answer = await front.get(f"/admin/api/{part}", headers=headers)
            assert answer.status_code == 401, headers
            assert answer.json()["error"]["code"] == "not_an_operator"
    assert (await front.get(f"{BOARD}?token={TOKEN}")).status_code == 401
    assert len(delays) > 30, "those who keep coming are answered late"


@pytest.mark.parametrize("config", [{"admin": settings.Admin()}], indirect=True)
async def test_without_a_password_and_a_token_there_is_no_admin(front: Client) -> None:
    for path in (*(f"/admin/api/{part}" for part in READS), "/admin/login", "/admin"):
        for method in ("GET", "POST"):
            headers = AS_PROGRAM | {"origin": "https://a.page"}
            answer = await front.session.request(method, front.make_url(path), headers=headers)
            unknown = await front.session.request(
                method, front.make_url("/unknown"), headers=headers
            )
            assert answer.status_code == unknown.status_code == 404
            assert answer.headers.keys() == unknown.headers.keys()


@pytest.mark.parametrize("config", [{"admin": settings.Admin(token=Secret(TOKEN))}], indirect=True)
async def test_without_a_password_nobody_can_sign_in(front: Client, delays: list[float]) -> None:
    for password in ("", PASSWORD):
        assert "error=wrong_password" in (await sign_in(front, password)).headers["location"]
    assert (await front.get(BOARD, headers=AS_PROGRAM)).status_code == 200


async def test_a_session_is_a_cookie_for_our_pages_alone(front: Client) -> None:
    plain = (await sign_in(front)).headers["set-cookie"]
    for attribute in ("HttpOnly", "SameSite=Strict", "Path=/admin", "Max-Age=43200"):
        assert attribute in plain
    assert "Secure" not in plain
    host = httpx.URL(front.make_url("")).netloc.decode()
    behind_tls = await sign_in(front, origin=f"https://{host}")
    assert "; Secure" in behind_tls.headers["set-cookie"]


async def test_a_person_signs_out(front: Client, seal: Seal) -> None:
    browser = await signed_in(front)
    form = {"form_token": form_token(front, browser, seal)["x-form-token"]}
    headers = browser | origin(front)
    for wrong in ({}, {"form_token": "0" * 32}):
        refused = await front.post(
            "/admin/logout", data=wrong, headers=headers, follow_redirects=False
        )
        assert refused.status_code == 403
        assert "set-cookie" not in refused.headers
    answer = await front.post("/admin/logout", data=form, headers=headers, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/login")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "=; Path=/admin; Max-Age=0" in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "null"},
        {"origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
async def test_another_site_cannot_sign_a_browser_in(
    front: Client, headers: dict[str, str]
) -> None:
    answer = await front.post(
        "/admin/login", data={"password": PASSWORD}, headers=headers, follow_redirects=False
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cross_site_request")
    assert "set-cookie" not in answer.headers


async def test_an_address_that_guesses_passwords_is_not_even_told_the_right_one(
    front: Client, delays: list[float]
) -> None:
    headers = await signed_in(front)
    problems = [
        (await sign_in(front, f"guess {number}")).headers["location"].partition("error=")[2]
        for number in range(12)
    ]
    assert problems[:7] == ["wrong_password"] * 7
    assert problems[-3:] == ["too_many_attempts"] * 3
    assert len(delays) == 11, "all but the first are answered late"
    right = await sign_in(front)
    assert "too_many_attempts" in right.headers["location"]
    assert "set-cookie" not in right.headers
    assert (await front.get(BOARD, headers=headers)).status_code == 200, "sessions go on"


async def test_answers_are_for_no_other_site_frame_or_cache(front: Client) -> None:
    page = {"origin": "https://a.page"}
    for path, headers in ((BOARD, AS_PROGRAM), (BOARD, {}), ("/admin/api/unknown", {})):
        answer = await front.get(path, headers=headers | page)
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    asking = page | {"access-control-request-method": "POST"}
    preflight = await front.session.options(front.make_url(BOARD), headers=asking)
    assert not [name for name in preflight.headers if name.startswith("access-control")]
    clients = await front.get("/v1/models", headers=page)
    assert clients.headers["access-control-allow-origin"] == "*", "as ever"


async def test_proxies_know_each_path_that_is_not_for_clients(front: Client) -> None:
    for status, paths in {
        404: (f"/{BOARD}", f"{BOARD}/", "/admin//api/board", "//metrics", "/metrics/"),
        200: ("/admin/", "/healthz/", "//v1//models"),  # as people and programs write them
    }.items():
        for path in paths:
            url = front.make_url("/").removesuffix("/") + path
            assert (await front.session.get(url, headers=AS_PROGRAM)).status_code == status, path


async def test_methods_and_queries_are_checked(front: Client) -> None:
    head = await front.session.head(front.make_url(BOARD), headers=AS_PROGRAM)
    assert (head.status_code, head.content) == (200, b"")
    posted = await front.post(BOARD, headers=AS_PROGRAM)
    assert (posted.status_code, posted.headers["allow"]) == (405, "GET, HEAD")
    for query in ("limit=0", "limit=9999", "offset=-1", "offset=x", "unknown=1"):
        answer = await front.get(f"/admin/api/jobs?{query}", headers=AS_PROGRAM)
        assert (answer.status_code, answer.json()["error"]["type"]) == (
            400,
            "invalid_request_error",
        )


async def test_the_log_names_the_operator_and_no_secret(
    front: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await front.get(BOARD, headers=AS_PROGRAM)
    session = await signed_in(front)
    await front.get(BOARD, headers=session)
    await sign_in(front, "a-wrong-password")
    ours = [vars(r) for r in caplog.records if not r.name.startswith(("httpx", "httpcore"))]
    served = [r for r in ours if r.get("event") == "request_served" and r["path"] == BOARD]
    assert [(r["operator"], r.get("key")) for r in served] == [("admin.token", None), ("ann", None)]
    everything = " ".join(map(str, ours))
    cookie = session["cookie"].partition("=")[2]
    for secret in (TOKEN, PASSWORD, cookie, "a-wrong-password"):
        assert secret not in everything


async def test_without_redis_the_api_names_the_reason_and_people_still_sign_in(
    front: Client, redis_server: EmbeddedRedis
) -> None:
    redis_server.stop()
    try:
        headers = await signed_in(front)
        for part in READS[:-1]:
            async with asyncio.timeout(2):
                answer = await front.get(f"/admin/api/{part}", headers=headers)
            assert answer.status_code == 503
            error = answer.json()["error"]
            assert error["code"] == "redis_unavailable"
            assert error["message"].startswith("Redis cannot be used (")
    finally:
        redis_server.start()


async def test_a_redis_that_hangs_delays_no_answer_by_more_than_two_seconds(
    front: Client, redis_server: EmbeddedRedis
) -> None:
    redis_server.process.send_signal(signal.SIGSTOP)
    try:
        asked = [front.get(f"/admin/api/{part}", headers=AS_PROGRAM) for part in READS[:-1]]
        async with asyncio.timeout(2):
            answers = await asyncio.gather(*asked)
    finally:
        redis_server.process.send_signal(signal.SIGCONT)
    assert {answer.json()["error"]["code"] for answer in answers} == {"redis_unavailable"}
    assert "no answer in time" in answers[0].text


async def test_no_secret_of_operators_is_in_redis(front: Client, redis: Redis, seal: Seal) -> None:
    browser = await signed_in(front)
    headers = browser | form_token(front, browser, seal)
    for each in (headers, AS_PROGRAM):
        paused = await front.post("/admin/api/intake/pause", headers=each)
        assert paused.status_code == 200
    stored = str([await redis.dump(key) for key in await redis.keys("*")])
    assert "ann" in stored
    cookie = browser["cookie"].partition("=")[2]
    for secret in (PASSWORD, TOKEN, cookie, headers["x-form-token"]):
        assert secret not in stored


class Stream:
    """A stream of events as a client reads it."""

    def __init__(
        self,
        client: Client,
        session: httpx.AsyncClient | None = None,
        headers: Mapping[str, str] = AS_PROGRAM,
    ) -> None:
        self._request = (session or client.session).stream(
            "GET", client.make_url(EVENTS), headers=headers, timeout=30
        )

    async def __aenter__(self) -> Stream:
        self.response = await self._request.__aenter__()
        self._lines = self.response.aiter_lines()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._request.__aexit__(None, None, None)

    async def next(self) -> tuple[str, Any]:
        """Name and data of the next event."""
        async for line in self._lines:
            if line.startswith("event: "):
                return line.removeprefix("event: "), json.loads((await anext(self._lines))[6:])
        raise EOFError

    async def until(self, name: str) -> Any:
        """Data of the next event with a name."""
        while True:
            found, data = await self.next()
            if found == name:
                return data

    async def rest(self) -> int:
        """Number of the events until the end of the stream."""
        number = 0
        while True:
            try:
                await self.next()
            except EOFError:
                return number
            number += 1


async def test_a_stream_shows_the_board_again_and_again_also_after_an_outage(
    front: Client, redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.admin.boards.INTERVAL", 0.05)
    async with Stream(front) as stream:
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        assert stream.response.headers["cache-control"] == "no-store, no-transform"
        for _ in range(3):
            assert await stream.until("board")
        redis_server.stop()
        try:
            assert (await stream.until("unavailable"))["reason"]
        finally:
            redis_server.start()
        assert (await stream.until("board"))["running_total"] == 0


async def test_the_number_of_streams_is_bounded_and_each_leaves_its_place(
    front: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.admin.boards.INTERVAL", 0.02)
    limits = httpx.Limits(max_connections=300)
    async with httpx.AsyncClient(limits=limits) as session:
        async with asyncio.timeout(60):
            open_ = [await Stream(front, session).__aenter__() for _ in range(streams.MOST)]
            refused = await front.get(EVENTS, headers=AS_PROGRAM)
            assert (refused.status_code, refused.json()["error"]["code"]) == (
                503,
                "too_many_streams",
            )
            assert [name for name, _ in [await one.next() for one in open_]] == ["board"] * 100
            for one in open_:
                await one.__aexit__()
            while True:  # once the front end has noticed
                async with Stream(front) as another:
                    if another.response.status_code == 200:
                        break
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "config",
    [{"admin": settings.Admin(password=Secret(PASSWORD), session=1.0)}],
    indirect=True,
)
async def test_a_stream_ends_with_its_session(front: Client) -> None:
    headers = await signed_in(front)
    async with Stream(front, headers=headers) as stream:
        assert await stream.rest() > 0
    async with asyncio.timeout(30):
        while (await front.get(BOARD, headers=headers)).status_code != 401:
            await asyncio.sleep(0.01)


async def test_a_reader_that_stops_is_cut_off(
    front: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Boards that it leaves unread are not kept: the next is read once this one is sent."""
    read = 0

    async def long_board(_: object) -> Board:
        nonlocal read
        read += 1
        return Board(at=read, flows=[BoardFlow(key=f"{number:032}") for number in range(10_000)])

    monkeypatch.setattr("app.admin.boards.INTERVAL", 0.0)
    monkeypatch.setattr("app.admin.streams.SEND_TIMEOUT", 0.2)
    monkeypatch.setattr(OperatorLine, "board", long_board)
    caplog.set_level(logging.INFO)
    url = httpx.URL(front.make_url(EVENTS))
    reader, writer = await asyncio.open_connection(url.host, url.port, limit=1)
    writer.write(
        f"GET {EVENTS} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {TOKEN}\r\n\r\n".encode()
    )
    async with asyncio.timeout(30):
        while "client_stalled" not in {vars(record).get("event") for record in caplog.records}:
            await asyncio.sleep(0.01)
    assert read < 30
    with contextlib.suppress(ConnectionError):
        while await reader.read(1 << 20):
            pass
    writer.close()
