"""Answers over WebSocket, from the simulator, and the ways they break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager

import aiohttp
import pytest

from simulator.accounts import Limits
from tests.support.pandora import HANDED_OUT, new_pandora
from tests.support.simulator import FAST, Caller, calling
from wire import VERSION
from wire.events import Delta, Done, Event
from wire.jobs import ChatJob, Message
from workers.http.session import open_session
from workers.pandora.backend import Backend
from workers.pandora.client import Pandora
from workers.pandora.transport import Mode
from workers.upstream import UpstreamBusy, UpstreamError

OVER = f"account=websocket {FAST}"


@asynccontextmanager
async def asking(
    transport: Mode = "auto", limits: Limits | None = None
) -> AsyncIterator[tuple[Caller, Pandora]]:
    async with asyncio.timeout(30), calling(limits) as caller, open_session() as session:
        pandora = new_pandora(session, caller.url, mode=transport, rules=HANDED_OUT)
        try:
            yield caller, pandora
        finally:
            await pandora.aclose()


def job(said: str, bearer: str = "alice") -> ChatJob:
    return ChatJob(VERSION, "job-1", "gpt_4_s", bearer, [Message("user", f"[[sim {said}]]")])


async def collect(pandora: Pandora, said: str, bearer: str = "alice") -> list[Event]:
    async with aclosing(pandora.answer(job(said, bearer))) as answer:
        return [event async for events in answer for event in events]


async def read(pandora: Pandora, said: str, into: list[Event]) -> None:
    """Collect the events of an answer while it comes."""
    async with aclosing(pandora.answer(job(said))) as answer:
        async for events in answer:
            into.extend(events)


async def text(pandora: Pandora, said: str, bearer: str = "alice") -> str:
    """The text of a whole answer."""
    events = await collect(pandora, said, bearer)
    assert events[-1] == Done("stop")
    return "".join(event.text for event in events if isinstance(event, Delta))


async def broken(pandora: Pandora, said: str) -> tuple[str, str | None]:
    """The text of an answer that failed, and the code of its failure."""
    said_so_far = ""

    async def run() -> None:
        nonlocal said_so_far
        async with aclosing(pandora.answer(job(said))) as answer:
            async for events in answer:
                said_so_far += "".join(e.text for e in events if isinstance(e, Delta))

    with pytest.raises(UpstreamError) as caught:
        await run()
    return said_so_far, caught.value.failed.code


async def test_an_answer_handed_over_to_a_socket_arrives_there_and_the_socket_is_kept(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with asking() as (caller, pandora):
        assert await text(pandora, f"words=3 {OVER}") == "w0 w1 w2"
        assert await text(pandora, f"words=2 {OVER}") == "w0 w1"
        assert await text(pandora, f"words=1 account=sse {FAST}") == "w0"
        stats = await caller.stats()
        assert (stats["sockets"], stats["registered"], stats["stopped"]) == (1, 0, 0)


async def test_a_socket_that_is_opened_first_is_registered_once_and_serves_all(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with asking("websocket") as (caller, pandora):
        await caller.control("script", {"account": "websocket", "bearer": "alice"})
        for _ in range(3):
            assert await text(pandora, f"words=3 {FAST}") == "w0 w1 w2"
        assert await text(pandora, f"words=2 {FAST}", "bob") == "w0 w1"
        stats = await caller.stats()
        assert (stats["sockets"], stats["registered"]) == (2, 2)


async def test_answers_of_one_account_share_a_socket_and_do_not_mix(
    loop: asyncio.AbstractEventLoop,
) -> None:
    limits = Limits(per_account=5)
    async with asking(limits=limits) as (caller, pandora):
        said = "strangers=2 account=websocket interval=0.005 delay=0.01"
        answers = [text(pandora, f"words={n} {said}") for n in (5, 10, 15, 20, 25)]
        told = await asyncio.gather(*answers)
        expected = [" ".join(f"w{i}" for i in range(n)) for n in (5, 10, 15, 20, 25)]
        assert told == expected
        assert (await caller.stats())["sockets"] == 1


@pytest.mark.parametrize("cut", ["frame=3", "frame=11 strangers=2", "frame=100000 strangers=2"])
async def test_bodies_cut_anywhere_among_frames_of_other_responses_give_the_same_answer(
    loop: asyncio.AbstractEventLoop, cut: str
) -> None:
    async with asking() as (_, pandora):
        # At its own pace: the simulator closes a connection that is a thousand frames behind.
        said = f"words=2 {cut} account=websocket interval=0.1 delay=0"
        assert await text(pandora, said) == "w0 w1"


@pytest.mark.parametrize("transport", ["auto", "websocket"])
@pytest.mark.parametrize("at", [0, 1, 3, 6, 9])
async def test_a_broken_connection_is_resumed_without_lost_or_duplicate_events(
    loop: asyncio.AbstractEventLoop, at: int, transport: Mode
) -> None:
    async with asking(transport) as (caller, pandora):
        said = f"words=30 interval=0.005 delay=0 account=websocket socket=drop at_frame={at}"
        assert await text(pandora, said) == " ".join(f"w{i}" for i in range(30))
        stats = await caller.stats()
        assert (stats["sockets"], stats["reconnects"]) == (2, 1)


async def test_frames_are_acknowledged_so_that_long_answers_are_not_cut_off(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with asking() as (caller, pandora):
        assert (await text(pandora, f"words=1500 {OVER}")).endswith(" w1499")
        assert (await caller.stats())["acks"] > 50


async def test_a_socket_closed_for_good_fails_its_answer_and_the_next_answer_opens_another(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with asking() as (caller, pandora):
        said = "words=40 interval=0.01 delay=0 account=websocket socket=close at_frame=4"
        begun, code = await broken(pandora, said)
        assert begun.startswith("w0")
        assert code == "answer_broken_off"
        # The answer without a reader was stopped, so the account is free again.
        await caller.until(lambda stats: stats["active"] == 0 and stats["stopped"] == 1)
        assert await text(pandora, f"words=2 {OVER}") == "w0 w1"


async def test_an_account_without_sockets_answers_over_sse_and_is_not_asked_again(
    loop: asyncio.AbstractEventLoop,
) -> None:
    for fault in ("html", "404"):
        async with asking("websocket") as (caller, pandora):
            await caller.control("script", {"register": fault})
            assert await text(pandora, f"words=2 {FAST}") == "w0 w1"
            await caller.control("script", {"register": "nowhere"})
            assert await text(pandora, f"words=2 {FAST}") == "w0 w1"
            stats = await caller.stats()
            assert (stats["registered"], stats["sockets"]) == (0, 0)


async def test_an_answer_handed_over_without_a_url_fails_and_is_stopped(
    loop: asyncio.AbstractEventLoop,
) -> None:
    for transport in ("auto", "websocket"):
        async with asking(transport) as (caller, pandora):
            await caller.control("script", {"register": "nowhere"})
            assert await broken(pandora, f"words=3 {OVER}") == ("", "websocket_nowhere")
            stats = await caller.stats()
            assert (stats["active"], stats["stopped"]) == (0, 1)


async def test_a_socket_that_cannot_be_opened_fails_the_answer_without_showing_its_url(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    for transport in ("auto", "websocket"):
        async with asking(transport) as (caller, pandora):
            await caller.control("script", {"socket": "refuse"})
            assert await broken(pandora, f"words=3 {OVER}") == ("", "websocket_unreachable")
            assert await text(pandora, f"words=2 account=sse {FAST}") == "w0 w1"
            stats = await caller.stats()
            assert (stats["active"], stats["stopped"]) == (0, 1)
    assert "access_token" not in caplog.text
    assert "alice" not in caplog.text


async def test_with_transport_sse_an_answer_over_a_socket_is_refused_and_stopped(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with asking("sse") as (caller, pandora):
        assert await broken(pandora, f"words=3 {OVER}") == ("", "websocket_refused")
        stats = await caller.stats()
        assert (stats["active"], stats["stopped"], stats["sockets"]) == (0, 1, 0)
        assert await text(pandora, f"words=2 account=sse {FAST}") == "w0 w1"


async def test_a_job_that_is_cancelled_is_stopped_upstream_and_the_others_go_on(
    loop: asyncio.AbstractEventLoop,
) -> None:
    limits = Limits(per_account=2)
    async with asking(limits=limits) as (caller, pandora):
        other = asyncio.create_task(
            text(pandora, "words=40 interval=0.01 delay=0 account=websocket")
        )
        events: list[Event] = []
        said = "fault=silence at_word=1 account=websocket interval=0 delay=0"
        left = asyncio.create_task(read(pandora, said, events))
        await caller.until(lambda stats: stats["active"] == 2)
        while Delta("w0") not in events:
            await asyncio.sleep(0.01)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        stats = await caller.stats()
        assert (stats["stopped"], stats["aborted"]) == (1, 1)
        assert await other == " ".join(f"w{i}" for i in range(40))
        assert (await caller.stats())["sockets"] == 1


async def test_frames_of_other_responses_are_no_sign_of_life(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with asking() as (_, pandora):
        said = "fault=silence at_word=1 strangers=2 account=websocket interval=0 delay=0"
        events: list[Event] = []
        reading = asyncio.create_task(read(pandora, said, events))
        while Delta("w0") not in events:
            await asyncio.sleep(0.01)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reading, 0.3)
        assert [event for event in events if isinstance(event, Delta)] == [Delta("w0")]


async def test_a_busy_account_is_busy_and_an_error_in_the_stream_is_an_error(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with asking() as (_, pandora):
        with pytest.raises(UpstreamBusy):
            await collect(pandora, "error=busy")
        _, code = await broken(pandora, f"words=4 fault=error_after {OVER}")
        assert code != "answer_broken_off"
        _, code = await broken(pandora, f"words=4 fault=cut at=1500 {OVER}")
        assert code == "answer_broken_off"


async def test_an_idle_socket_is_closed(loop: asyncio.AbstractEventLoop) -> None:
    async with asking() as (caller, pandora):
        pandora._transport.sockets._idle = 0.1
        assert await text(pandora, f"words=3 {OVER}") == "w0 w1 w2"
        (task,) = pandora._transport.sockets._readers
        await asyncio.wait([task], timeout=30)
        await asyncio.sleep(0)
        assert pandora._transport.sockets._accounts == {}
        # The account is known to have sockets: the next one is there before the question.
        assert await text(pandora, f"words=3 {OVER}") == "w0 w1 w2"
        assert (await caller.stats())["registered"] == 1


async def test_without_the_subprotocol_the_server_sends_bare_frames(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulator.hub.RELIABLE", "another.subprotocol")
    async with asking() as (caller, pandora):
        assert await text(pandora, f"words=20 strangers=2 {OVER}") == " ".join(
            f"w{i}" for i in range(20)
        )
        assert await text(pandora, f"words=2 strangers=2 frame=1 {OVER}") == "w0 w1"
        said = "words=30 interval=0.01 delay=0 account=websocket socket=drop at_frame=5"
        _, code = await broken(pandora, said)
        assert code == "answer_broken_off"
        assert (await caller.stats())["acks"] == 0


async def test_frames_may_arrive_before_the_response_to_the_post(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asking("websocket") as (caller, pandora):
        await caller.control("script", {"account": "websocket", "bearer": "alice"})
        assert await text(pandora, f"words=1 {FAST}") == "w0"
        post = Backend.post_conversation

        async def late(
            backend: Backend, bearer: str, body: bytes, headers: Mapping[str, str]
        ) -> aiohttp.ClientResponse:
            response = await post(backend, bearer, body, headers)
            await caller.until(lambda stats: stats["finished"] == 2)
            return response

        monkeypatch.setattr(Backend, "post_conversation", late)
        assert await text(pandora, f"words=9 strangers=1 {FAST}") == "w0 w1 w2 w3 w4 w5 w6 w7 w8"


async def test_each_user_of_a_pool_has_a_socket_of_its_own(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool's bearer reaches another user with each POST; frames arrive over that user's
    socket."""
    limits = Limits(per_pool=2)
    async with asking(limits=limits) as (caller, pandora):
        users = iter(("user-1", "user-2"))
        plain = "simulator.hub.user_id"
        monkeypatch.setattr(plain, lambda _bearer: next(users, "user-2"))
        said = "account=websocket interval=0.02 delay=0.1"
        one = asyncio.create_task(text(pandora, f"words=9 {said}", "pk-pool"))
        await caller.until(lambda stats: stats["active"] == 1)
        two = asyncio.create_task(text(pandora, f"words=5 {said}", "pk-pool"))
        assert await one == "w0 w1 w2 w3 w4 w5 w6 w7 w8"
        assert await two == "w0 w1 w2 w3 w4"
        assert (await caller.stats())["sockets"] == 2
