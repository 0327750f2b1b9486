"""Actions of operators over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

import settings
from local.redis import EmbeddedRedis
from tests.support.admin import AS_PROGRAM, CONFIG, CREDENTIAL, form_token, origin, signed_in
from tests.support.requests import BEARER, BODY, CHAT
from tests.support.sanic_adapter import Client
from tests.support.scripted import ScriptedUpstream
from wire.events import Delta, Started
from wire.keyring import Keyring
from wire.redis.client import Redis
from wire.seal import Seal

ACTIONS = (
    "intake/pause",
    "intake/resume",
    "jobs/none/cancel",
    "workers/none/drain",
    "keys",
    "keys/none",
    "keys/none/revoke",
    "accounts/gpu/park",
    "accounts/gpu/alice/wake",
    "accounts/gpu/resume",
)
KEY = "0123456789abcdef"


@pytest.fixture
def config() -> settings.Settings:
    """The settings of the gateway."""
    return CONFIG


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is answered late."""
    monkeypatch.setattr("app.throttle.FREE", 1000)
    monkeypatch.setattr("app.throttle.TOO_MANY", 1000)


async def act(
    client: Client, action: str, headers: Mapping[str, str] = AS_PROGRAM, **fields: object
) -> Any:
    """Answer to an action: its status and its body."""
    answer = await client.post(f"/admin/api/{action}", json=fields, headers=headers)
    return answer.status_code, answer.json()


async def audited(client: Client) -> list[tuple[str, ...]]:
    """The audit log, the latest first."""
    answer = await client.get("/admin/api/audit", headers=AS_PROGRAM)
    return [
        (entry["who"], entry["via"], entry["action"], entry["target"], entry["result"])
        for entry in answer.json()["entries"]
    ]


async def test_two_operators_pause_the_intake_at_once_and_resume_it(
    client: Client, seal: Seal
) -> None:
    browser = await signed_in(client)
    token = form_token(client, browser, seal)
    both = await asyncio.gather(
        act(client, "intake/pause"), act(client, "intake/pause", browser | token)
    )
    assert sorted((status, body["result"]) for status, body in both) == [
        (200, "already"),
        (200, "paused"),
    ]
    refused = await client.post(CHAT, json=BODY, headers=BEARER)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "intake_paused")
    assert (await act(client, "intake/resume"))[1]["result"] == "resumed"
    assert (await client.post(CHAT, json=BODY, headers=BEARER)).status_code == 200
    resumed, *pauses = await audited(client)
    assert resumed == ("admin.token", "api", "resume", "all", "resumed")
    assert {entry[:3] for entry in pauses} == {
        ("admin.token", "api", "pause"),
        ("ann", "page", "pause"),
    }


async def test_a_running_job_is_cancelled(client: Client, upstream: ScriptedUpstream) -> None:
    upstream.script = ([Started("m"), Delta("half")], 300.0)
    asking = asyncio.create_task(client.post(CHAT, json=BODY, headers=BEARER, timeout=60))
    async with asyncio.timeout(30):
        while not upstream.asked:
            await asyncio.sleep(0.01)
    id = upstream.asked[0].id
    assert (await act(client, f"jobs/{id}/cancel"))[1]["result"] == "cancelling"
    answer = await asking
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "cancelled_by_operator")
    status, body = await act(client, "jobs/none/cancel")
    assert (status, body["error"]["code"]) == (404, "job_not_found")


async def test_keys_are_issued_changed_and_revoked(front: Client, redis: Redis, seal: Seal) -> None:
    status, issued = await act(front, "keys", name="bot-a", max_running=3)
    assert status == 200
    id = issued["entry"]["id"]
    keyring = Keyring(redis, seal)
    assert await keyring.find(issued["key"]) == await keyring.get(id)
    _, changed = await act(front, f"keys/{id}", max_running=4, notes="of Ann")
    assert (changed["result"], changed["entry"]["limits"]["max_running"]) == ("changed", 4)
    assert [(await act(front, f"keys/{id}/revoke"))[1]["result"] for _ in range(2)] == [
        "revoked",
        "already",
    ]
    record = await keyring.get(id)
    assert record
    assert record.revoked
    listed = (await front.get("/admin/api/keys", headers=AS_PROGRAM)).json()["keys"]
    assert [(key["name"], key["revoked"]) for key in listed] == [("bot-a", record.revoked)]
    assert issued["key"] not in str(await audited(front))


@pytest.mark.parametrize(
    ("action", "body", "param"),
    [
        ("keys", {}, "name"),
        ("keys", {"name": "a", "sha256": "0" * 64}, "sha256"),
        ("keys", {"name": "a", "max_running": -1}, "max_running"),
        ("keys", {"name": "a", "max_runing": 1}, "max_runing"),
        (f"keys/{KEY}", {}, None),
        (f"keys/{KEY}", {"revoked": 0}, "revoked"),
        ("intake/pause", {"seconds": -1}, "seconds"),
        ("intake/pause", {"seconds": "x"}, "seconds"),
        ("intake/pause", {"key": "a", "upstream": "b"}, "upstream"),
        ("intake/pause", {"kye": "a"}, None),
        ("intake/resume", {"seconds": 1}, None),
        ("workers/none/drain", {"now": True}, None),
    ],
)
async def test_an_action_that_cannot_be_read_is_refused(
    front: Client, action: str, body: dict[str, Any], param: str | None
) -> None:
    status, answer = await act(front, action, **body)
    assert (status, answer["error"]["param"]) == (400, param), answer
    assert await audited(front) == []


async def test_an_unknown_thing_is_a_404(front: Client) -> None:
    for action, code in (
        ("workers/none/drain", "worker_not_found"),
        (f"keys/{KEY}/revoke", "key_not_found"),
        ("accounts/gpu/alice/wake", "account_not_found"),
        ("accounts/none/park", "account_not_found"),
    ):
        status, answer = await act(front, action)
        assert (status, answer["error"]["code"]) == (404, code)
    _, answer = await act(front, "accounts/gpu%2Falice%40a.page/wake")
    assert "account gpu/alice@a.page." in answer["error"]["message"]


async def test_a_long_name_does_not_fill_the_audit_log(front: Client) -> None:
    assert (await act(front, "intake/resume", upstream="a" * 60_000))[0] == 200
    [(*_, target, result)] = await audited(front)
    assert (len(target), result) == (200, "already")


async def test_a_body_is_json_and_small(front: Client) -> None:
    for body, status in (
        (b"{", 400),
        (b"[]", 400),
        (b"\xff", 400),
        (b" " * 70_000, 413),
        (b"", 200),
    ):
        answer = await front.post("/admin/api/intake/pause", content=body, headers=AS_PROGRAM)
        assert answer.status_code == status, body[:9]


async def test_nobody_but_an_operator_acts(front: Client, redis: Redis, seal: Seal) -> None:
    key, _ = await Keyring(redis, seal).new("bot-a", {})
    browser = await signed_in(front)
    token = form_token(front, browser, seal)
    for action in ACTIONS:
        for bearer in (key, "a-token-that-is-passed-through", CREDENTIAL):
            headers = {"authorization": f"Bearer {bearer}"} | token
            assert (await act(front, action, headers))[0] == 401
        for other_site in (
            browser,
            browser | origin(front),
            browser | {"x-form-token": token["x-form-token"]},
            browser | token | {"origin": "https://evil.example"},
            browser | token | {"sec-fetch-site": "same-site"},
        ):
            status, answer = await act(front, action, other_site)
            assert (status, answer["error"]["code"]) == (403, "cross_site_request")
        got = await front.get(f"/admin/api/{action}", headers=AS_PROGRAM)
        assert got.status_code in (405, 404) or action == "keys", "a GET changes nothing"
    assert await audited(front) == []


@pytest.mark.parametrize(
    ("path", "status"), [("act/pause", 303), ("logout", 401), ("api/intake/pause", 401)]
)
async def test_the_body_of_a_stranger_is_not_read(front: Client, path: str, status: int) -> None:
    answer = await front.session.post(
        front.make_url(f"/admin/{path}"), content=b" " * 70_000, headers=origin(front)
    )
    assert answer.status_code == status


async def test_without_redis_an_operator_learns_that_nothing_was_done(
    front: Client, redis_server: EmbeddedRedis
) -> None:
    redis_server.stop()
    try:
        async with asyncio.timeout(10):
            status, answer = await act(front, "intake/pause")
    finally:
        redis_server.start()
    assert (status, answer["error"]["code"]) == (503, "redis_unavailable")
    assert answer["error"]["message"].startswith("Nothing was changed")
