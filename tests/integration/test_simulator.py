"""The simulator over real sockets: it must be as awkward as the real server, and as exact."""

from __future__ import annotations

import asyncio
import errno
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from simulator.accounts import Limits
from tests.support.simulator import FAST, RECORDED, Caller, blocks, calling, events, shape, texts


async def test_a_stream_has_the_shape_of_the_recorded_one_event_for_event(
    loop: asyncio.AbstractEventLoop,
) -> None:
    if not RECORDED.exists():
        pytest.skip(f"the recording is not here: {RECORDED}")
    recorded = RECORDED.read_bytes()
    answer = texts(recorded, "finished_successfully")[-1]
    async with calling() as caller:
        await caller.control("script", {"text": answer, "step": 5, "interval": 0, "delay": 0})
        ours = await caller.read("go")
    theirs_shapes = [shape(event) for event in events(recorded)]
    our_shapes = [shape(event) for event in events(ours)]
    # Ours grows by five characters, theirs by tokens: the middle differs in number only.
    steps = -(-len(answer) // 5)
    assert our_shapes[:3] == theirs_shapes[:3]
    assert our_shapes[2:-4] == [theirs_shapes[2]] * steps
    assert all(theirs == theirs_shapes[2] for theirs in theirs_shapes[2:-4])
    assert our_shapes[-4:] == theirs_shapes[-4:]
    assert texts(ours, "finished_successfully") == [answer] * 3
    assert texts(ours)[-1] == answer
    for body in (ours, recorded):
        assert body.endswith(b"\n\ndata: [DONE]\n\n")
        assert body.isascii()
        assert [json.dumps(event) for event in events(body)] == blocks(body)[:-1]


async def test_numbered_words_arrive_cumulatively_and_in_order(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with calling() as caller:
        body = await caller.read(f"please [[sim words=4 {FAST}]] now")
    assert texts(body) == ["", "w0", "w0 w1", "w0 w1 w2", "w0 w1 w2 w3"]


async def test_echo_returns_the_prompt_without_its_directive(
    loop: asyncio.AbstractEventLoop,
) -> None:
    said = '  你好 "quoted" \\ 😀\n【1†source】 '
    async with calling() as caller:
        for extra in ("", "raw=1"):
            body = await caller.read(f"{said}[[sim echo=1 {FAST} {extra}]]")
            assert texts(body)[-1] == said.strip()
            assert body.isascii() is (extra == "")


async def test_without_a_script_a_sample_comes_in_the_language_of_the_prompt(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with calling() as caller:
        english, chinese = await asyncio.gather(
            caller.read("Who are you?", "alice"), caller.read("你是谁?", "bob")
        )
    assert "waiting line" in texts(english)[-1]
    assert "no real model" in texts(english)[-1]
    assert "模拟器" in texts(chinese)[-1]


async def test_optional_events_are_sent_when_the_directive_asks_for_them(
    loop: asyncio.AbstractEventLoop,
) -> None:
    keys = "words=3 echoes=1 title=1 empty_at=2 pad=40 burst=2 block=completion finish=max_tokens"
    async with calling() as caller:
        body = await caller.read(f"[[sim {keys} {FAST}]]")
    messages = [e["message"] for e in events(body) if e.get("message")]
    assert [m["author"]["role"] for m in messages[:3]] == ["system", "user", "assistant"]
    assert events(body)[-1]["type"] == "title_generation"
    running = [m["content"]["parts"] for m in messages if m["status"] == "in_progress"]
    assert running == [[""], ["w0"], ["w0 w1"], [""], [], ["w0 w1 w2"]]
    pads = {m["metadata"]["pad"] for m in messages if m["status"] == "in_progress"}
    assert len(pads) > 1
    assert max(map(len, pads)) == 40
    assert messages[-1]["metadata"]["finish_details"] == {"type": "max_tokens"}
    verdicts = [e["moderation_response"] for e in events(body) if "is_completion" in e]
    assert [v["blocked"] for v in verdicts] == [False, True]


async def test_crlf_ends_every_line(loop: asyncio.AbstractEventLoop) -> None:
    async with calling() as caller:
        body = await caller.read(f"[[sim crlf=1 {FAST}]]")
    assert body.count(b"\n") == body.count(b"\r\n")
    assert body.endswith(b"data: [DONE]\r\n\r\n")


async def test_pings_of_both_shapes_fill_a_pause(loop: asyncio.AbstractEventLoop) -> None:
    async with calling() as caller:
        body = await caller.read("[[sim words=1 delay=0.05 ping=0.01 interval=0]]")
    assert body.startswith(b"event: ping\r\ndata: 2")
    assert b"\r\n\r\n: ping - 2" in body
    assert texts(body[body.index(b'data: {"message"') :])[-1] == "w0"


async def test_an_account_has_one_conversation_at_a_time(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with calling() as caller:
        async with caller.say("[[sim fault=silence]]", "bob"):
            async with caller.say("hi", "bob") as second:
                assert second.status == 429
                assert (await second.json())["detail"].startswith("Only one message at a time.")
            await caller.read(f"[[sim {FAST}]]", "carol")
        stats = await caller.until(lambda stats: stats["active"] == 0)
    assert (
        stats
        | {
            "active": 0,
            "peak": 2,
            "peak_per_account": 1,
            "started": 2,
            "finished": 1,
            "aborted": 1,
            "refused": 1,
            "errors": 0,
            "accounts": 2,
        }
        == stats
    )


async def test_a_pool_has_several_conversations_and_the_server_has_a_total_cap(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with calling(Limits(total=3, per_pool=2)) as caller:
        silent = "[[sim fault=silence]]"
        async with caller.say(silent, "pk-1"), caller.say(silent, "pk-1"):
            async with caller.say(silent, "pk-1") as third:
                assert third.status == 429
                assert "Only one message" in await third.text()
            async with caller.say(silent, "dave"), caller.say(silent, "erin") as fourth:
                assert fourth.status == 429
                detail = (await fourth.json())["detail"]
                assert detail == "Too many requests in 1 hour. Try again later."
        assert (await caller.stats())["peak_per_account"] == 2


async def test_a_client_that_has_read_the_end_can_start_the_next_conversation_at_once(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with calling() as caller:
        for _ in range(50):
            await caller.read(f"[[sim words=1 {FAST}]]")
        stats = await caller.stats()
    assert (stats["finished"], stats["refused"]) == (50, 0)


@pytest.mark.parametrize(
    "script", ["fault=silence", "fault=silence at_word=2", "delay=60", "interval=60", "words=9999"]
)
async def test_a_client_that_disconnects_frees_its_account_and_counts_as_aborted(
    loop: asyncio.AbstractEventLoop, script: str
) -> None:
    padding = "x" * 200_000  # a body this long pauses reading, which must not hide the end
    async with calling() as caller:
        async with caller.say(f"{padding}[[sim {script}]]") as response:
            assert response.status == 200
            response.close()
        stats = await caller.until(lambda stats: stats["active"] == 0)
        assert (stats["aborted"], stats["finished"]) == (1, 0)
        await caller.read(f"[[sim {FAST}]]")


async def test_a_turn_may_outlive_its_client_and_is_counted_apart(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with calling() as caller:
        async with caller.say("[[sim fault=silence linger=0.3]]") as response:
            response.close()
        await caller.until(lambda stats: stats["active"] == 0)
        refused = 0
        async with asyncio.timeout(30):
            while True:
                async with caller.say(f"[[sim {FAST}]]") as again:
                    if again.status == 200:
                        break
                    assert "Only one message" in await again.text()
                    refused += 1
        stats = await caller.stats()
    assert (stats["orphans"], stats["refused_for_orphans"], stats["refused"]) == (1, refused, 0)
    assert refused
    assert stats["peak"] == 1


async def test_hang_accepts_and_never_answers(loop: asyncio.AbstractEventLoop) -> None:
    async with calling() as caller:
        asking = asyncio.ensure_future(caller.read("[[sim fault=hang]]"))
        await caller.until(lambda stats: stats["active"] == 1)
        assert not asking.done()
        asking.cancel()
        await asyncio.wait([asking])
        stats = await caller.until(lambda stats: stats["active"] == 0)
    assert stats["aborted"] == 1


async def test_reset_closes_without_an_answer(loop: asyncio.AbstractEventLoop) -> None:
    async with calling() as caller:
        with pytest.raises(aiohttp.ClientOSError) as caught:
            await caller.read("[[sim fault=reset]]")
        assert caught.value.errno == errno.ECONNRESET
        assert (await caller.stats())["finished"] == 1


@pytest.mark.parametrize("at", [0, 1, 700, 2000])
async def test_cut_ends_the_connection_after_exactly_the_given_number_of_bytes(
    loop: asyncio.AbstractEventLoop, at: int
) -> None:
    async with calling() as caller:
        async with caller.say(f"[[sim fault=cut at={at} {FAST}]]") as response:
            got = await response.content.readexactly(at)
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.content.read()
        assert len(got) == at
        stats = await caller.stats()
        assert (stats["active"], stats["finished"]) == (0, 1)


def _no_done(body: bytes) -> bool:
    return b"[DONE]" not in body and len(texts(body, "finished_successfully")) == 3


def _done_unfinished(body: bytes) -> bool:
    return body.endswith(b"[DONE]\n\n") and not texts(body, "finished_successfully")


def _unfinished_eof(body: bytes) -> bool:
    return b"[DONE]" not in body and texts(body)[-1] == "w0 w1 w2 w3" and b"finished" not in body


def _only_finished(body: bytes) -> bool:
    return texts(body) == [""] and texts(body, "finished_successfully") == ["w0 w1 w2 w3"] * 3


def _error_before(body: bytes) -> bool:
    (event,) = events(body)
    return event["message"] is None and "unusual" in event["error"] and body.endswith(b"E]\n\n")


def _error_after(body: bytes) -> bool:
    return texts(body) == ["", "w0", "w0 w1"] and events(body)[-1]["message"] is None


@pytest.mark.parametrize(
    "shows",
    [_no_done, _done_unfinished, _unfinished_eof, _only_finished, _error_before, _error_after],
)
async def test_each_content_fault_ends_the_stream_cleanly_with_its_content(
    loop: asyncio.AbstractEventLoop, shows: Callable[[bytes], bool]
) -> None:
    async with calling() as caller:
        body = await caller.read(f"[[sim words=4 fault={shows.__name__[1:]} {FAST}]]")
        assert shows(body), body
        assert (await caller.stats())["finished"] == 1


@pytest.mark.parametrize(
    ("name", "status", "says"),
    [
        ("token_expired", 401, '"code":"token_expired"'),
        ("invalid_jwt", 401, '"code":"invalid_jwt"'),
        ("deactivated", 401, '"code":"account_deactivated"'),
        ("no_token", 401, "Access token is missing"),
        ("unusual_activity", 403, "unusual activity"),
        ("cloudflare", 403, "cf-please-wait"),
        ("too_long", 413, "message_length_exceeds_limit"),
        ("validation", 422, "value_error.missing"),
        ("cap clears_in=7", 429, '"clears_in":7}'),
        ("busy", 429, "Only one message"),
        ("rate", 429, "Too many requests"),
        ("upgrade", 429, "latest PandoraNext"),
        ("oops", 500, "gone wrong"),
        ("bad_gateway", 502, "502: Bad gateway"),
        ("unavailable", 503, "<html>"),
    ],
)
async def test_each_error_is_sent_when_a_directive_names_it(
    loop: asyncio.AbstractEventLoop, name: str, status: int, says: str
) -> None:
    async with calling() as caller:
        async with caller.say(f"[[sim error={name}]]") as response:
            assert response.status == status
            assert says in await response.text()
            assert response.headers.get("Retry-After") == ("60" if name == "rate" else None)
        stats = await caller.stats()
    assert (stats["errors"], stats["started"], stats["refused"]) == (1, 0, 0)


@pytest.mark.parametrize(
    ("directive", "named"),
    [
        ("wrods=3", '"wrods"'),
        ("words=many", '"words"'),
        ("interval=-1", '"interval"'),
        ("delay=nan", '"delay"'),
        ("fault=fire", '"fault"'),
        ("error=fire", '"error"'),
        ("text=hi", '"text"'),
        ("echo", '"echo"'),
    ],
)
async def test_an_invalid_directive_is_refused_with_its_name(
    loop: asyncio.AbstractEventLoop, directive: str, named: str
) -> None:
    async with calling() as caller:
        async with caller.say(f"[[sim {directive}]]") as response:
            assert response.status == 400
            assert named in (await response.json())["detail"]
        key, _, value = directive.partition("=")
        if key not in ("text", "echo"):
            status, body = await caller.control("script", {key: value})
            assert status == 400
            assert named in body["detail"]


async def test_posted_scripts_serve_their_bearer_their_times_and_then_the_rest(
    loop: asyncio.AbstractEventLoop,
) -> None:
    fast = {"interval": 0, "delay": 0}
    async with calling() as caller:
        await caller.control("script", {"text": "all", **fast})
        await caller.control("script", {"text": "hers", "bearer": "alice", "times": 2, **fast})
        answers = [texts(await caller.read("hi", bearer))[-1] for bearer in ["alice"] * 3 + ["bob"]]
        assert answers == ["hers", "hers", "all", "all"]
        assert texts(await caller.read(f"[[sim words=1 {FAST}]]"))[-1] == "w0"


async def test_reset_forgets_counters_and_scripts_but_not_open_conversations(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with calling() as caller:
        await caller.control("script", {"error": "oops"})
        async with caller.say("[[sim fault=silence]]", "bob"):
            await caller.control("reset", {})
            stats = await caller.stats()
            assert (stats["active"], stats["peak"], stats["started"]) == (1, 1, 0)
        await caller.until(lambda stats: stats["active"] == 0)
        assert (await caller.stats())["aborted"] == 0
        assert b"[DONE]" in await caller.read("hi")


async def test_an_answer_waits_at_its_gate_until_the_gate_is_opened(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with calling() as caller:
        async with caller.say(f"[[sim words=5 gate=2 {FAST}]]") as response:
            read = b""
            while b"w0 w1" not in read:
                read += await response.content.readany()
            more = asyncio.create_task(response.content.read())
            assert not (await asyncio.wait([more], timeout=0.2))[0]
            await caller.control("gate", {})
            read += await more
        assert b"w0 w1 w2 w3 w4" in read
        assert b"[DONE]" in read


async def test_bad_requests_get_the_recorded_bodies(loop: asyncio.AbstractEventLoop) -> None:
    async with calling() as caller:
        async with caller.say("hi", bearer=None) as response:
            assert response.status == 401
            assert (await response.json())["message"] == "Unauthorized - Access token is missing"
        url = f"{caller.url}/backend-api/conversation"
        headers = {"Authorization": "Bearer alice"}
        async with caller.http.post(url, data=b"action=next", headers=headers) as response:
            assert response.status == 422
            (item,) = (await response.json())["detail"]
            assert item["type"] == "value_error.jsondecode"
            assert item["msg"] == "Expecting value: line 1 column 1 (char 0)"
            assert item["ctx"]["doc"] == "action=next"
        async with caller.http.post(url, json={"action": "next"}, headers=headers) as response:
            assert response.status == 422
            missing = {"loc": ["body", "model"], "msg": "field required"}
            expected = {"detail": [missing | {"type": "value_error.missing"}]}
            assert await response.json() == expected


async def test_an_account_can_patch_only_its_own_conversations(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with calling(prefix="secret-1") as caller:
        known = events(await caller.read(f"[[sim {FAST}]]"))[0]["conversation_id"]

        async def patch(conversation_id: str, bearer: str) -> tuple[int, Any]:
            url = f"{caller.url}/backend-api/conversation/{conversation_id}"
            headers = {"Authorization": f"Bearer {bearer}"}
            body = {"is_visible": False}
            async with caller.http.patch(url, json=body, headers=headers) as response:
                return response.status, await response.json()

        assert await patch(known, "alice") == (200, {"success": True})
        for answer in (await patch(known, "bob"), await patch("unknown", "alice")):
            assert answer[0] == 404
            assert answer[1]["detail"]["code"] == "conversation_not_found"


async def test_every_other_path_is_not_found(loop: asyncio.AbstractEventLoop) -> None:
    async with calling() as caller:
        asks: list[Callable[[str], Awaitable[aiohttp.ClientResponse]]] = [
            caller.http.get,
            caller.http.post,
        ]
        for ask in asks:
            response = await ask(f"{caller.url}/wrong/backend-api/conversation")
            assert response.status == 404
            assert await response.json() == {"detail": "Not Found"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_command_says_where_it_listens_and_ends_quickly_with_open_streams(
    loop: asyncio.AbstractEventLoop, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "simulator", "--port", "0"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30), aiohttp.ClientSession() as http:
            line = (await process.stdout.readline()).decode()
            assert line.startswith("simulator ready on http://127.0.0.1:")
            caller = Caller(http, line.split()[-1])
            async with caller.say("[[sim fault=silence]]") as response:
                assert response.status == 200
                process.send_signal(number)
                async with asyncio.timeout(30):
                    assert await process.wait() == 0
            assert await process.stdout.read() == b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
