"""Arkose tokens, fetched from the simulator and spent there."""

from __future__ import annotations

import asyncio

from tests.support.pandora import code, collect, job, new_pandora, simulated, text
from wire.events import Failed
from workers.pandora.arkose import ArkoseServers
from workers.pandora.backend import Backend

ASK = "[[sim arkose=1 words=2 interval=0 delay=0]]"


async def test_an_arkose_token_is_fetched_for_each_answer_and_sent_in_body_and_header(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with simulated() as (caller, session):
        arkose = ArkoseServers(Backend(session, caller.url), ["http://127.0.0.1:1", caller.url])
        pandora = new_pandora(session, caller.url, arkose=arkose)
        for answers in (1, 2):
            assert text(await collect(pandora, job(ASK))) == "w0 w1"
            assert (await caller.stats())["arkose"] == answers
        (refused,) = await collect(new_pandora(session, caller.url), job(ASK))
        assert isinstance(refused, Failed)
        assert refused.fault == "forbidden"


async def test_gpt_3_5_is_asked_without_an_arkose_token(loop: asyncio.AbstractEventLoop) -> None:
    async with simulated() as (caller, session):
        pandora = new_pandora(
            session, caller.url, arkose=ArkoseServers(Backend(session, caller.url), [caller.url])
        )
        await collect(pandora, job("[[sim words=2 interval=0 delay=0]]", "gpt_3_5"))
        assert (await caller.stats())["arkose"] == 0


async def test_without_an_arkose_token_from_any_server_the_upstream_is_not_asked(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener, simulated() as (caller, session):
        urls = [f"http://127.0.0.1:{port}", caller.url]
        pandora = new_pandora(
            session,
            caller.url,
            arkose=ArkoseServers(Backend(session, caller.url), urls, timeout=0.2),
        )
        for fault in ("empty", "html", "500"):
            await caller.control("script", {"token": fault})
            events = await collect(pandora, job(ASK))
            assert code(events) == "arkose_unavailable"
            assert len(events) == 1
        stats = await caller.stats()
        assert (stats["started"], stats["invalid"]) == (0, 0)
