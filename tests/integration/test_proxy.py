"""Every call to the upstream goes through `upstream.proxy`, and its password nowhere else."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

import settings
from settings.urls import proxy_url
from simulator.openai.server import serve as serve_openai
from simulator.openai.state import Config
from simulator.server import serve
from tests.support.loopback import new_pandora
from tests.support.proxies import LOGIN, proxy
from wire import VERSION
from wire.events import Complete, Delta, Event
from wire.jobs import ChatJob, Message, RelayedJob
from workers.http.session import open_session
from workers.openai.server import open_openai
from workers.pandora.client import Pandora
from workers.upstream import UpstreamError

FAST = "interval=0 delay=0"


async def ask(pandora: Pandora, said: str) -> str:
    job = ChatJob(VERSION, "job-1", "gpt_4_s", "alice", [Message("user", said)])
    events: list[Event] = []
    async with asyncio.timeout(30), aclosing(pandora.answer(job)) as answer:
        async for batch in answer:
            events += batch
    return "".join(event.text for event in events if isinstance(event, Delta))


@pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])
async def test_an_answer_comes_through_a_proxy_that_looks_up_the_name(
    loop: asyncio.AbstractEventLoop, scheme: str
) -> None:
    async with serve() as url, proxy(scheme) as passed:
        target = f"upstream.invalid:{url.rpartition(':')[2]}"
        async with open_session(proxy_url(f"{scheme}://{LOGIN}@{passed.address}")) as session:
            pandora = new_pandora(session, f"http://{target}")
            assert await ask(pandora, f"[[sim words=3 {FAST}]]") == "w0 w1 w2"
        assert passed.targets == [target]


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_an_openai_server_is_asked_through_its_proxy(
    loop: asyncio.AbstractEventLoop, scheme: str
) -> None:
    async with serve_openai(Config()) as url, proxy(scheme) as passed:
        target = f"upstream.invalid:{url.rpartition(':')[2]}"
        config = settings.Upstream(
            kind="openai",
            base_url=f"http://{target}",
            proxy=proxy_url(f"{scheme}://{LOGIN}@{passed.address}"),
        )
        body = b'{"messages":[{"role":"user","content":"[[sim words=3 interval=0 delay=0]]"}]}'
        job = RelayedJob(VERSION, "job-1", "chat/completions", "tiny", "key", body)
        async with asyncio.timeout(30), open_openai("main", config) as server:
            assert "tiny" in (await server.survey()).models
            async with aclosing(server.answer(job)) as answer:
                events = [event async for batch in answer for event in batch]
        assert isinstance(events[-1], Complete)
        assert set(passed.targets) == {target}


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_websocket_goes_through_the_proxy_as_well(
    loop: asyncio.AbstractEventLoop, scheme: str
) -> None:
    async with serve() as url, proxy(scheme) as passed:
        target = f"upstream.invalid:{url.rpartition(':')[2]}"
        async with (
            open_session(proxy_url(f"{scheme}://{LOGIN}@{passed.address}")) as session,
            aclosing(new_pandora(session, f"http://{target}")) as pandora,
        ):
            said = f"[[sim words=3 account=websocket {FAST}]]"
            assert await ask(pandora, said) == "w0 w1 w2"
        assert len(passed.targets) == 2
        assert passed.targets[0] == target


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_the_password_of_a_proxy_that_refuses_it_is_not_shown(
    loop: asyncio.AbstractEventLoop, scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve() as url, proxy(scheme) as passed:
        async with open_session(proxy_url(f"{scheme}://user:hunter2@{passed.address}")) as session:
            with pytest.raises(UpstreamError) as caught:
                await ask(new_pandora(session, url), "hi")
        assert passed.targets == []
    assert "hunter2" not in caplog.text + repr(caught.value.failed)
    assert "hunter2" not in repr(caught.value.failed)
