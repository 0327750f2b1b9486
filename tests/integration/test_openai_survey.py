"""A survey asks a server for its models and slots, and says what it had to assume."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

import settings
from tests.support.loopback import Exchange, Script, Server, refusal, serving
from wire import VERSION
from wire.jobs import RelayedJob
from workers.openai.server import OpenAiServer, open_openai
from workers.openai.survey import Survey
from workers.upstream import UpstreamError

MODELS = b'{"data":[{"id":"m","aliases":["n"]}]}'


def page(status: int, body: bytes = b"{}") -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.send(refusal(status, body))

    return script


@asynccontextmanager
async def asking(*scripts: Script, **config: Any) -> AsyncIterator[tuple[Server, OpenAiServer]]:
    async with serving(*scripts) as server:
        upstream = settings.Upstream(
            **{"kind": "openai", "base_url": server.url, "max_concurrency": 0, **config}
        )
        async with open_openai("gpu", upstream) as opened:
            yield server, opened


def paths(server: Server) -> list[str]:
    return [exchange.head.split()[1].decode() for exchange in server.exchanges]


async def test_llama_cpp_states_its_slots() -> None:
    async with asking(page(200, MODELS), page(200, b'{"total_slots":3}')) as (server, upstream):
        assert await upstream.survey() == Survey({"m": "m", "n": "m"}, False, 3)
    assert paths(server) == ["/v1/models", "/props"]


async def test_others_are_asked_in_turn(caplog: pytest.LogCaptureFixture) -> None:
    none = page(404)
    tabby = page(200, b'{"parameters":{"max_batch_size":5}}')
    async with asking(page(200, MODELS), none, none, tabby) as (server, upstream):
        assert (await upstream.survey()).slots == 5
    assert paths(server) == ["/v1/models", "/props", "/server_info", "/v1/model"]
    with caplog.at_level(logging.INFO):
        async with asking(*[page(200, MODELS), none, none, none] * 2) as (server, upstream):
            for _ in range(2):
                survey = await upstream.survey()
                assert (survey.slots, survey.slots_known) == (1, False)
    assumed = [r.getMessage() for r in caplog.records if getattr(r, "event", "") == "slots_assumed"]
    assert len(assumed) == 1  # a survey is logged when it has changed
    assert "upstreams.gpu.max_concurrency" in assumed[0]


async def test_the_operators_settings_stand() -> None:
    config = {"models": {"gpt-4": "m"}, "max_concurrency": 7}
    async with asking(page(200, MODELS), **config) as (server, upstream):
        assert await upstream.survey() == Survey({"gpt-4": "m"}, False, 7)
    assert paths(server) == ["/v1/models"]


async def test_a_server_without_a_list_takes_any_model() -> None:
    async with asking(page(404), max_concurrency=1) as (_, upstream):
        assert await upstream.survey() == Survey({}, True, 1, silence="status 404")
    async with asking(page(200, b'{"data":[]}'), max_concurrency=1) as (_, upstream):
        assert (await upstream.survey()).any_model


async def test_a_server_that_is_down_is_surveyed_later() -> None:
    async with asking() as (server, upstream):
        pass
    async with open_openai(
        "main", settings.Upstream(kind="openai", base_url=server.url, max_concurrency=0)
    ) as upstream:
        survey = await upstream.survey()
        assert replace(survey, silence="") == Survey({}, False, 1, slots_known=False)
        assert survey.silence.startswith("connection refused: no server listens there (")


@pytest.mark.parametrize("status", [401, 429, 500, 503])
async def test_a_server_that_starts_offers_nothing_until_it_can_be_asked(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    pages = page(status), page(200, MODELS)
    async with asking(*pages, max_concurrency=1) as (_, upstream):
        assert not (await upstream.survey()).is_known
        assert (await upstream.survey()).models == {"m": "m", "n": "m"}
    unlisted = [
        each for each in caplog.records if getattr(each, "event", "") == "upstream_unlisted"
    ]
    assert len(unlisted) == (status != 401)  # that has a line of its own
    async with asking(page(status), max_concurrency=1, models={"gpt-4": "m"}) as (_, upstream):
        assert (await upstream.survey()).models == {"gpt-4": "m"}


async def test_names_of_models_that_are_left_out_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    listed = msgspec.json.encode({"data": [{"id": str(n)} for n in range(5003)]})
    async with asking(page(200, listed), max_concurrency=1) as (_, upstream):
        assert len((await upstream.survey()).models) == 5000
    assert "3 names are left out" in caplog.text


async def test_a_server_that_is_down_now_keeps_its_models_and_slots() -> None:
    found = Survey({"m": "m", "n": "m"}, False, 3)
    good = page(200, MODELS), page(200, b'{"total_slots":3}')
    without_props = page(200, MODELS), *[page(503)] * 3
    async with asking(*good, page(503), page(401), *without_props) as (_, upstream):
        assert await upstream.survey() == found
        assert await upstream.survey() == found
        assert (await upstream.survey()).trouble == "refused_us"
        assert await upstream.survey() == found


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_credential_is_loud(status: int, caplog: pytest.LogCaptureFixture) -> None:
    async with asking(*[page(status)] * 4) as (_, upstream):
        assert (await upstream.survey()).trouble == "refused_us"
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert "upstreams.gpu.credential" in errors[0]


async def test_aliases_of_the_list_reach_the_server_under_its_own_name() -> None:
    async with asking(page(200, MODELS), page(400), max_concurrency=1) as (server, upstream):
        await upstream.survey()
        job = RelayedJob(VERSION, "j", "chat/completions", "n", "k", b"{}")
        with pytest.raises(UpstreamError):
            await anext(upstream.answer(job))
    assert b'"model":"m"' in server.exchanges[1].body
