"""Consequences of every error and broken answer that the simulator of OpenAI's servers knows.

Also of recorded answers that break off at any place.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, get_args

import aiohttp
import pytest

import settings
from simulator.openai.errors import ERRORS, ErrorName
from simulator.openai.likeness import LIKENESSES
from simulator.openai.script import Fault
from simulator.openai.server import serve
from simulator.openai.state import Config
from tests.support.openai import FAST, asks
from tests.support.replay import RECORDED, cut_places, played, recorded, replaying
from wire import VERSION
from wire.events import Complete, Event, Piece, Started
from wire.jobs import ApiPath, RelayedJob
from workers.openai.server import OpenAiServer, open_openai
from workers.upstream import UpstreamBusy, UpstreamError

Refusal = UpstreamBusy | UpstreamError

REFUSED_US = {"unauthorized", "unauthorized_text", "forbidden"}
NO_MONEY = {"no_money", "quota", "credit"}
BUSY = {
    "rate": 2.0,
    "rate_reset": 1.0,
    "relay": 0.0,
    "loading": 0.0,
    "model_loading": 1.0,
    "no_slot": 0.0,
    "vllm_busy": 0.0,
    "ollama_busy": 0.0,
    "flat": 0.0,
    "kobold": 0.0,
    "overloaded": 0.0,
}
"""The seconds to wait that the server stated."""
ONE_REQUEST = {"server", "image", "trace"}
DOWN = {"slow", "early", "plain", "bad_gateway", "gateway_timeout", "cloudflare"}
CLIENTS_FAULT = {
    "invalid": 400,
    "context": 400,
    "too_many_tokens": 400,
    "not_pulled": 404,
    "no_path": 404,
    "method": 405,
    "too_large": 413,
    "media_type": 415,
    "unprocessable": 422,
    "unsupported": 501,
}


@pytest.fixture
async def upstream(loop: asyncio.AbstractEventLoop) -> AsyncIterator[OpenAiServer]:
    async with serve(Config(slots=8)) as url, opened(url) as server:
        yield server


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[OpenAiServer]:
    config = settings.Upstream(kind="openai", base_url=url)
    async with asyncio.timeout(60), open_openai("gpu", config) as server:
        yield server


def job(body: object, path: ApiPath = "chat/completions") -> RelayedJob:
    return RelayedJob(VERSION, "j1", path, "tiny", "k1", json.dumps(body).encode())


async def collect(server: OpenAiServer, asked: RelayedJob) -> tuple[list[Event], Refusal | None]:
    """The events of an answer, and the error that ended it."""
    events: list[Event] = []
    try:
        async with aclosing(server.answer(asked)) as batches:
            async for batch in batches:
                events += batch
    except (UpstreamBusy, UpstreamError) as error:
        return events, error
    return events, None


def consequence(error: Refusal | None) -> str | float | int:
    """One word for the consequence of an error; for a busy server, its pause."""
    match error:
        case UpstreamBusy(refused_us=True):
            return "refused us"
        case UpstreamBusy():
            return error.pause
        case UpstreamError(capped_for=float()):
            return "no money"
        case UpstreamError(failed=failed) if failed.fault == "bad_request":
            return failed.status
        case UpstreamError(passing=True, retries=1, doubtful=True):
            return "once more"
        case UpstreamError(passing=True):
            return "down"
    return "failed" if error else "whole"


def expected(name: ErrorName) -> str | float | int:
    if name in BUSY:
        return BUSY[name]
    if name in CLIENTS_FAULT:
        return CLIENTS_FAULT[name]
    for names, word in (
        (REFUSED_US, "refused us"),
        (NO_MONEY, "no money"),
        (ONE_REQUEST, "once more"),
        (DOWN, "down"),
    ):
        if name in names:
            return word
    raise AssertionError(name)


@pytest.mark.parametrize("name", ERRORS)
async def test_an_error_before_an_answer_has_its_consequence(
    upstream: OpenAiServer, name: ErrorName
) -> None:
    events, error = await collect(upstream, job(asks(f"error={name}")))
    assert events == []
    assert consequence(error) == expected(name)
    if isinstance(error, UpstreamError) and name in CLIENTS_FAULT:
        assert error.failed.message
        assert (error.failed.code == "context_length_exceeded") == (
            name in ("context", "too_many_tokens")
        )


def code_of(name: ErrorName) -> object:
    match ERRORS[name].content:
        case {"error": {"code": code}}:
            return code
    return None


@pytest.mark.parametrize("name", [name for name in ERRORS if code_of(name) == ERRORS[name].status])
@pytest.mark.parametrize("fault", ["error", "error_done"])
async def test_an_error_as_the_first_message_is_judged_by_its_code(
    upstream: OpenAiServer, name: ErrorName, fault: str
) -> None:
    events, error = await collect(upstream, job(asks(f"error={name} fault={fault} {FAST}")))
    assert events == []
    assert consequence(error) == expected(name)


BEGUN = {
    "error": "failed",
    "error_done": "failed",
    "error_choice": "failed",
    "no_done": "whole",
    "no_finish": "whole",
    "broken_off": "failed",
    "cut at=700": "failed",
    "cut_after_finish": "whole",
    "garbage": "failed",
}
SILENT = {
    "error": "once more",
    "error_done": "once more",
    "error_choice": "once more",
    "only_done": "down",
    "broken_off words=0": "down",
    "cut at=100": "down",
    "garbage": "down",
    "reset": "down",
}
WAITING = {"silence", "hang"}
"""Faults after which nothing comes: the deadlines of the worker end them."""


def test_every_fault_has_its_row() -> None:
    rows = {row.partition(" ")[0] for row in (*BEGUN, *SILENT)} | WAITING | {"stale"}
    assert rows == set(get_args(Fault))


@pytest.mark.parametrize("fault", BEGUN)
async def test_an_answer_that_had_begun_has_one_ending_and_is_never_tried_again(
    upstream: OpenAiServer, fault: str
) -> None:
    asked = asks(f"words=3 at_word=2 fault={fault} {FAST}")
    events, error = await collect(upstream, job(asked))
    assert isinstance(events[0], Started)
    assert b"w0" in b"".join(each.data for each in events if isinstance(each, Piece))
    assert consequence(error) == BEGUN[fault]
    assert [isinstance(each, Complete) for each in events].count(True) == (error is None)


@pytest.mark.parametrize("fault", SILENT)
async def test_an_answer_that_said_nothing_may_be_tried_again(
    upstream: OpenAiServer, fault: str
) -> None:
    events, error = await collect(upstream, job(asks(f"words=3 at_word=0 fault={fault} {FAST}")))
    assert events == []
    assert consequence(error) == SILENT[fault]


@pytest.mark.parametrize("finish", ["error", "abort"])
async def test_a_finish_can_be_a_failure(upstream: OpenAiServer, finish: str) -> None:
    _, error = await collect(upstream, job(asks(f"words=2 finish={finish} {FAST}")))
    assert consequence(error) == "failed"


async def test_a_stale_connection_costs_nothing(upstream: OpenAiServer) -> None:
    for _ in range(3):
        events, error = await collect(upstream, job(asks(f"words=1 fault=stale {FAST}")))
        assert (consequence(error), isinstance(events[-1], Complete)) == ("whole", True)


@pytest.mark.parametrize("fault", sorted(WAITING))
async def test_a_silent_server_is_left_by_closing(fault: str) -> None:
    async with serve() as url, opened(url) as server:
        asked = job(asks(f"fault={fault} ping=0.01 {FAST}"))
        answer = asyncio.create_task(collect(server, asked))
        await until_active(url, 1)
        answer.cancel()
        await until_active(url, 0)


async def until_active(url: str, number: int) -> None:
    async with aiohttp.ClientSession() as http:
        while True:
            async with http.get(f"{url}/simulator/stats") as response:
                if (await response.json())["active"] == number:
                    return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("like", LIKENESSES)
async def test_every_servers_form_is_a_whole_answer(like: str) -> None:
    async with serve(Config(like=like)) as url, opened(url) as server:  # type: ignore[arg-type]
        asked = asks(f"words=3 reasoning=2 progress=1 {FAST}", n=1)
        events, error = await collect(server, job(asked))
        assert error is None
        assert isinstance(events[-1], Complete)
        pieces = [each.data for each in events if isinstance(each, Piece)]
        assert b" w2" in b"".join(pieces)
        usage = events[-1].usage or pieces[-1]
        assert b'"usage"' in usage


@pytest.mark.parametrize("path", ["completions", "responses", "messages"])
@pytest.mark.parametrize(
    ("fault", "ending"),
    [
        ("no_finish", "whole"),
        ("broken_off", "failed"),
        ("error at_word=2", "failed"),
        ("cut at=1400", "failed"),
        ("", "whole"),
    ],
)
async def test_other_dialects_end_as_truthfully(
    upstream: OpenAiServer, path: ApiPath, fault: str, ending: str
) -> None:
    question = f"[[sim words=9 {fault and 'fault='}{fault} {FAST}]]"
    body: dict[str, object] = {"prompt": question, "input": question, "model": "tiny"}
    body["messages"] = [{"role": "user", "content": question}]
    if fault == "no_finish" and path != "completions":
        ending = "failed"  # `[DONE]` is no word of these dialects
    events, error = await collect(upstream, job(body, path))
    assert consequence(error) == ending
    assert isinstance(events[0], Started)


RECORDINGS = sorted(
    str(file.relative_to(RECORDED).with_suffix(""))
    for file in RECORDED.rglob("*stream*.response")
    if b"event-stream" in file.read_bytes()[:400]
)


@pytest.mark.skipif(not RECORDINGS, reason="the recordings are not part of this repository")
@pytest.mark.parametrize("name", RECORDINGS)
async def test_a_recording_that_breaks_off_anywhere_is_whole_only_after_its_finish(
    name: str,
) -> None:
    raw = recorded(name)
    request = (RECORDED / f"{name}.request").read_bytes()
    path: Any = request.split()[1].decode().removeprefix("/v1/")
    if path not in get_args(ApiPath):
        pytest.skip("a path that is not served")
    asked = RelayedJob(VERSION, "j1", path, "tiny", "k1", request.partition(b"\r\n\r\n")[2])
    places = sorted({at for part in cut_places(raw).values() for at in part[:: len(part) // 3 + 1]})
    scripts = [played(raw, places), *(played(raw, end=at) for at in places)]
    async with replaying(*scripts) as socket, opened(socket.url) as server:
        whole, error = await collect(server, asked)
        if error is not None:  # an error was recorded
            return
        data = pieces(whole)
        for at in places:
            events, error = await collect(server, asked)
            assert data.startswith(pieces(events)), at
            assert (error is None) == isinstance(events[-1] if events else None, Complete), at
            if error is None:
                assert said_its_finish(pieces(events)), at
            elif events:
                assert consequence(error) == "failed", at


def pieces(events: list[Event]) -> bytes:
    return b"\n".join(each.data for each in events if isinstance(each, Piece))


def said_its_finish(data: bytes) -> bool:
    finishes = (
        b'"finish_reason":"',
        b'"finish_reason": "',
        b'"stop_reason":"',
        b"response.completed",
    )
    return any(finish in data for finish in finishes)
