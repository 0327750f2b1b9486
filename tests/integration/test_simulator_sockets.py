"""The simulator's answers over WebSocket, in both shapes of frames, and the ways they break."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from yarl import URL

from tests.support.simulator import (
    FAST,
    Caller,
    calling,
    confirm,
    events,
    finals,
    gizmo_mode,
    text,
    texts,
)

RELIABLE = "json.reliable.webpubsub.azure.v1"
Socket = aiohttp.ClientWebSocketResponse


async def register(caller: Caller, bearer: str = "alice") -> dict[str, Any]:
    url = f"{caller.url}/backend-api/register-websocket"
    async with caller.http.post(url, headers={"Authorization": f"Bearer {bearer}"}) as response:
        assert response.status == 200
        answer: dict[str, Any] = await response.json()
        return answer


@asynccontextmanager
async def connected(caller: Caller, *, reliable: bool, **query: str) -> AsyncIterator[Socket]:
    url = URL((await register(caller))["wss_url"]).update_query(query)
    protocols = (RELIABLE,) if reliable else ()
    async with caller.http.ws_connect(url, protocols=protocols) as socket:
        yield socket


async def ask(caller: Caller, directive: str) -> dict[str, Any]:
    async with caller.say(f"[[sim account=websocket {directive} {FAST}]]") as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        answer: dict[str, Any] = await response.json()
        return answer


async def read(socket: Socket, response_id: str) -> tuple[bytes, list[dict[str, Any]]]:
    """The body of one response, to its last frame, and all data frames seen meanwhile."""
    body, seen = b"", []
    async for message in socket:
        frame = json.loads(message.data)
        if frame["type"] == "system":
            continue
        data = frame["data"] if frame["type"] == "message" else frame
        seen.append(frame)
        if data["response_id"] == response_id:
            body += base64.b64decode(data["body"])
            if not data["more_body"]:
                break
    return body, seen


@pytest.mark.parametrize("reliable", [False, True])
async def test_an_answer_arrives_over_the_socket_with_one_event_per_frame(
    loop: asyncio.AbstractEventLoop, reliable: bool
) -> None:
    async with calling() as caller, connected(caller, reliable=reliable) as socket:
        assert socket.protocol == (RELIABLE if reliable else None)
        answer = await ask(caller, "words=3")
        body, seen = await read(socket, answer["response_id"])
        assert texts(body) == ["", "w0", "w0 w1", "w0 w1 w2"]
        assert body.endswith(b"data: [DONE]\n\n")
        assert events(body)[0]["conversation_id"] == answer["conversation_id"]
        data = [frame["data"] if reliable else frame for frame in seen]
        assert all(base64.b64decode(d["body"]).count(b"\n\n") == 1 for d in data)
        assert len(data) == body.count(b"\n\n")
        if reliable:
            assert [frame["sequenceId"] for frame in seen] == list(range(1, len(seen) + 1))
        stats = await caller.stats()
        assert (stats["sockets"], stats["registered"], stats["finished"]) == (1, 1, 1)


async def test_a_client_can_connect_after_the_post_returned_the_url(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with calling() as caller:
        answer = await ask(caller, "words=3")
        async with caller.http.ws_connect(answer["wss_url"]) as socket:
            body, _ = await read(socket, answer["response_id"])
        assert texts(body)[-1] == "w0 w1 w2"


async def test_a_posted_script_makes_an_account_answer_over_sockets(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with calling() as caller, connected(caller, reliable=False) as socket:
        await caller.control("script", {"account": "websocket", "bearer": "alice"})
        async with caller.say(f"[[sim words=1 {FAST}]]") as response:
            answer = await response.json()
        assert texts((await read(socket, answer["response_id"]))[0])[-1] == "w0"
        assert texts(await caller.read(f"[[sim words=1 {FAST}]]", "bob"))[-1] == "w0"
        assert texts(await caller.read(f"[[sim words=2 account=sse {FAST}]]"))[-1] == "w0 w1"


@pytest.mark.parametrize("frame", [1, 7, 100_000])
async def test_frames_of_other_responses_are_mixed_in_and_bodies_are_cut_anywhere(
    loop: asyncio.AbstractEventLoop, frame: int
) -> None:
    async with calling() as caller, connected(caller, reliable=False) as socket:
        answer = await ask(caller, f"words=2 strangers=2 frame={frame}")
        body, seen = await read(socket, answer["response_id"])
        assert texts(body) == ["", "w0", "w0 w1"]
        ours = [f for f in seen if f["response_id"] == answer["response_id"]]
        assert len(seen) == 3 * len(ours)
        assert all(len(base64.b64decode(f["body"])) <= frame for f in ours)
        assert any(base64.b64decode(f["body"]) == b"data: [DONE]\n\n" for f in seen)


async def test_a_reliable_connection_that_reconnects_gets_every_unacknowledged_frame(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with calling() as caller:
        registered = URL((await register(caller))["wss_url"])
        frames: list[dict[str, Any]] = []
        async with caller.http.ws_connect(registered, protocols=(RELIABLE,)) as socket:
            hello = await socket.receive_json()
            assert hello["event"] == "connected"
            answer = await ask(caller, "words=4 socket=drop at_frame=5 interval=0.01")
            async for message in socket:
                frames.append(json.loads(message.data))
                if len(frames) == 3:
                    await socket.send_json({"type": "sequenceAck", "sequenceId": 3})
                    await caller.until(lambda stats: stats["acks"] == 1)
        numbers = [frame["sequenceId"] for frame in frames]
        assert numbers == [1, 2, 3, 4, 5][: len(numbers)]
        back = {
            "awps_connection_id": hello["connectionId"],
            "awps_reconnection_token": hello["reconnectionToken"],
        }
        url = registered.update_query(back)
        async with caller.http.ws_connect(url, protocols=(RELIABLE,)) as socket:
            assert (await socket.receive_json())["connectionId"] == hello["connectionId"]
            _, again = await read(socket, answer["response_id"])
        assert again[0]["sequenceId"] == 4
        every = {f["sequenceId"]: f["data"] for f in frames + again}
        body = b"".join(base64.b64decode(every[n]["body"]) for n in sorted(every))
        assert texts(body)[-1] == "w0 w1 w2 w3"
        assert body.endswith(b"[DONE]\n\n")
        stats = await caller.stats()
        assert (stats["reconnects"], stats["finished"]) == (1, 1)


@pytest.mark.parametrize("reliable", [False, True])
async def test_a_socket_can_be_closed_early_for_good(
    loop: asyncio.AbstractEventLoop, reliable: bool
) -> None:
    async with calling() as caller:
        async with connected(caller, reliable=reliable) as socket:
            answer = await ask(caller, "words=4 socket=close at_frame=3")
            body, seen = await read(socket, answer["response_id"])
            assert (len(seen), b"[DONE]" in body) == (3, False)
            assert socket.close_code == 1000
        await caller.until(lambda stats: stats["finished"] == 1)
        gone = {"awps_connection_id": "unknown", "awps_reconnection_token": "x"}
        async with connected(caller, reliable=True, **gone) as socket:
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
            assert socket.close_code == 1008


async def test_a_body_cut_short_closes_the_socket(loop: asyncio.AbstractEventLoop) -> None:
    async with calling() as caller, connected(caller, reliable=False) as socket:
        answer = await ask(caller, "fault=cut at=1000")
        body, _ = await read(socket, answer["response_id"])
        assert len(body) == 1000
        assert (await caller.stats())["active"] == 0


@pytest.mark.parametrize(("fault", "status"), [("html", 200), ("404", 404)])
async def test_registering_can_fail(
    loop: asyncio.AbstractEventLoop, fault: str, status: int
) -> None:
    async with calling() as caller:
        await caller.control("script", {"register": fault})
        url = f"{caller.url}/backend-api/register-websocket"
        headers = {"Authorization": "Bearer alice"}
        async with caller.http.post(url, headers=headers) as response:
            assert response.status == status
            assert response.content_type == ("text/html" if fault == "html" else "application/json")


async def test_the_url_can_be_null_and_the_socket_can_be_refused(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with calling() as caller:
        await caller.control("script", {"register": "nowhere"})
        assert (await register(caller))["wss_url"] is None
        assert (await ask(caller, ""))["wss_url"] is None
        await caller.control("script", {"socket": "refuse"})
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            async with connected(caller, reliable=False):
                pass
        assert caught.value.status == 401


async def test_closing_a_socket_does_not_end_its_answer_but_stopping_does(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with calling() as caller:
        async with connected(caller, reliable=False) as socket:
            answer = await ask(caller, "fault=silence at_word=1")
            await socket.receive()
        assert (await caller.stats())["active"] == 1
        async with caller.say("hi") as response:
            assert response.status == 429
        url = f"{caller.url}/backend-api/stop_conversation"
        stop = {"conversation_id": answer["conversation_id"]}
        for bearer, status in (("bob", 404), ("alice", 200), ("alice", 404)):
            headers = {"Authorization": f"Bearer {bearer}"}
            async with caller.http.post(url, json=stop, headers=headers) as response:
                assert response.status == status
        stats = await caller.stats()
        assert (stats["active"], stats["aborted"], stats["stopped"]) == (0, 1, 1)


async def test_a_client_that_never_acknowledges_is_cut_off(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with calling() as caller, connected(caller, reliable=True) as socket:
        answer = await ask(caller, "words=1100")
        body, seen = await read(socket, answer["response_id"])
        assert 900 < len(seen) <= 1000
        assert b"[DONE]" not in body
        await caller.until(lambda stats: stats["finished"] == 1)


async def test_a_client_that_breaks_the_subprotocol_is_closed(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with calling() as caller, connected(caller, reliable=True) as socket:
        await socket.receive()
        await socket.send_str("hello?")
        await socket.receive()
        assert socket.close_code == 1008


async def test_a_confirmed_action_goes_on_over_the_same_socket(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with calling() as caller, connected(caller, reliable=False) as socket:
        said = f"[[sim tool=action account=websocket words=2 {FAST}]]"
        async with caller.say(said, **gizmo_mode()) as response:
            answer = await response.json()
        body, _ = await read(socket, answer["response_id"])
        async with confirm(caller, events(body)[-2], "allow") as response:
            going_on = await response.json()
        assert set(going_on) == {"conversation_id", "response_id"}
        body, _ = await read(socket, going_on["response_id"])
        assert [text(m) for m in finals(body)] == ['{"ok": true}', "w0 w1"]
