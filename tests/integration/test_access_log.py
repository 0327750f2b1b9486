"""Lines of the log about requests: those that were served, and those that failed."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from msgspec.structs import replace

import settings
from tests.support.line import LASTING
from tests.support.requests import BODY, CHAT, messages
from tests.support.sanic_adapter import Client
from tests.support.scripted import ScriptedUpstream
from wire.events import Delta, Done, Failed, Started
from wire.jobs import fingerprint

CONFIG = settings.Settings(queue=LASTING, stream=settings.Stream(grace=0.2))
BEARER = "a-very-secret-bearer"
HEADERS = {"authorization": f"Bearer {BEARER}"}


@pytest.fixture
def config(request: pytest.FixtureRequest) -> settings.Settings:
    return replace(CONFIG, log=settings.Log(requests=getattr(request, "param", True)))


async def lines(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    """Fields of the records of this event, of which there is at least one."""
    async with asyncio.timeout(30):
        while not (found := [r for r in caplog.records if vars(r).get("event") == event]):
            await asyncio.sleep(0.01)
    return [vars(record) for record in found]


async def test_each_request_leaves_a_line_without_a_query_body_or_bearer(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answer = await client.post(f"{CHAT}?secret=of-query", json=BODY, headers=HEADERS)
    [line] = await lines(caplog, "request_served")
    assert (line["method"], line["path"], line["status"]) == ("POST", CHAT, 200)
    assert line["bytes"] == len(answer.content)
    assert line["job"] == answer.headers["x-queue-id"]
    assert line["key"] == fingerprint(BEARER)
    assert line["request"] == answer.headers["x-request-id"]
    assert 0 <= line["ms"] < 30_000
    assert (line["ending"], line["model"], line["lane"]) == ("done", BODY["model"], "chat")
    assert 0 <= line["wait"] < line["ms"] / 1000 + 1, "by Redis' clock"
    assert 0 <= line["first_token"] <= line["ms"] / 1000 + 0.01
    usage = answer.json()["usage"]
    assert line["input_tokens"] == usage["prompt_tokens"]
    assert line["output_tokens"] == usage["completion_tokens"]
    ours = [r for r in caplog.records if not r.name.startswith(("httpx", "httpcore"))]
    everything = " ".join(str(vars(record)) for record in ours)
    assert BEARER not in everything
    assert "of-query" not in everything


async def test_the_bytes_of_a_stream_are_counted(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    answer = await client.post(CHAT, json={**BODY, "stream": True}, headers=HEADERS)
    [line] = await lines(caplog, "request_served")
    assert line["bytes"] == len(answer.content)
    assert line["key"] == fingerprint(BEARER), "although the headers are gone by then"


async def test_a_failure_within_a_stream_leaves_a_line_with_its_reason(
    client: Client, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """Its status is 200, so that nothing showed it."""
    caplog.set_level(logging.INFO)
    upstream.script = ([Started("m"), Delta("half")], 0.3, [Failed("upstream_error", "broken")])
    answer = await client.post(CHAT, json={**BODY, "stream": True}, headers=HEADERS)
    assert messages(answer)[-1]["error"]["code"] == "upstream_error"
    names = {"job": answer.headers["x-queue-id"], "key": fingerprint(BEARER)}
    [failed] = await lines(caplog, "request_failed")
    assert names.items() <= failed.items()
    assert (failed["code"], failed["status"]) == ("upstream_error", 502)
    assert failed["ending"] == "failed"
    assert failed["bytes"] == len(answer.content), "it is the only line of the request"
    assert not [r for r in caplog.records if vars(r).get("event") == "request_served"]
    [job] = await lines(caplog, "job_failed")
    assert (names | {"reason": "upstream_error"}).items() <= job.items()


async def test_the_line_of_a_client_that_disconnects_says_so(
    front: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    url = front.make_url(CHAT)
    async with front.session.stream(
        "POST", url, json={**BODY, "stream": True}, headers=HEADERS
    ) as answer:
        assert answer.status_code == 200
    [line] = await lines(caplog, "request_cut")
    assert line["ending"] == "cancelled"
    assert line["job"] == answer.headers["x-queue-id"]


async def test_the_name_of_a_model_neither_fills_the_log_nor_steers_a_terminal(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    name = "gpt\x1b[2J\n" + "x" * 240
    await client.post(CHAT, json={**BODY, "model": name}, headers=HEADERS)
    [line] = await lines(caplog, "request_served")
    assert line["model"] == r"gpt\x1b[2J\n" + "x" * 92


async def test_a_request_that_cannot_be_read_leaves_one_line(
    front: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await front.post(CHAT, content=b"{", headers=HEADERS)
    [line] = await lines(caplog, "request_failed")
    assert (line["ending"], line["status"]) == ("refused", 400)
    assert not {"wait", "job", "model"} & line.keys()


async def test_a_job_that_is_cancelled_by_others_leaves_a_line_that_says_so(
    client: Client, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    upstream.script = ([Failed("cancelled", "The request was cancelled.", "cancelled")],)
    await client.post(CHAT, json=BODY, headers=HEADERS)
    [line] = await lines(caplog, "request_failed")
    assert (line["ending"], line["code"]) == ("cancelled", "cancelled")


async def test_the_first_token_is_counted_from_the_request(
    client: Client, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    upstream.script = (0.3, [Started("m"), Delta("x")], 0.3, [Done("stop")])
    await client.post(CHAT, json={**BODY, "stream": True}, headers=HEADERS)
    [line] = await lines(caplog, "request_served")
    assert 0.3 <= line["first_token"] <= line["ms"] / 1000 - 0.2
    assert line["output_tokens"] == 1, "although the client did not ask for the usage"


async def test_debug_shows_each_step_of_a_job(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    job = (await client.post(CHAT, json=BODY, headers=HEADERS)).headers["x-queue-id"]
    steps = ["job_in_line", "job_claimed", "answer_begun", "job_finished"]
    for step in steps:
        assert (await lines(caplog, step))[0]["job"] == job


@pytest.mark.parametrize("config", [False], indirect=True)
async def test_lines_of_served_requests_can_be_turned_off_but_not_those_of_failures(
    front: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert (await front.post(CHAT, json={}, headers=HEADERS)).status_code == 400
    assert (await lines(caplog, "request_failed"))[0]["key"] == fingerprint(BEARER)
    assert not [r for r in caplog.records if vars(r).get("event") == "request_served"]
