"""The simulator's tool turns, event by event, and the later encoding of any answer."""

from __future__ import annotations

import asyncio
import copy
import json
import re
from typing import Any

import pytest

from tests.support.simulator import (
    FAST,
    RECORDED,
    Caller,
    calling,
    confirm,
    events,
    finals,
    gizmo_mode,
    messages,
    settled,
    shape,
    text,
)

EVENTS = RECORDED.parent / "maxai-events.jsonl"


def ordered(message: dict[str, Any]) -> Any:
    """The shape of a message, whatever the order of its keys."""
    return shape(json.loads(json.dumps(message, sort_keys=True)))


def kinds(body: bytes) -> list[tuple[str | None, str, str]]:
    return [
        (message["author"]["name"], message["content"]["content_type"], message["recipient"])
        for message in finals(body)
    ]


async def turn(directive: str) -> bytes:
    async with calling() as caller:
        return await caller.read(f"[[sim {directive} words=2 {FAST}]]")


async def steps(*composed: dict[str, Any], **keys: object) -> bytes:
    async with calling() as caller:
        script = {"steps": composed, "interval": 0, "delay": 0} | keys
        status, answer = await caller.control("script", script)
        assert status == 200, answer
        return await caller.read("go")


async def test_code_grows_then_runs_then_has_an_output_then_a_text(
    loop: asyncio.AbstractEventLoop,
) -> None:
    body = await turn("tool=python")
    assert kinds(body) == [
        (None, "code", "python"),
        ("python", "execution_output", "all"),
        (None, "text", "all"),
    ]
    code = [m for m in messages(body) if m["content"]["content_type"] == "code"]
    assert [text(m) for m in code] == ["", "prin", "print(1 ", "print(1 + 1)", "print(1 + 1)"]
    assert [m["status"] for m in code][-2:] == ["in_progress", "finished_successfully"]
    assert code[-1]["end_turn"] is False
    running, ended = [m for m in messages(body) if m["author"]["name"] == "python"]
    assert running["status"] == "in_progress"
    assert running["metadata"]["aggregate_result"]["status"] == "running"
    assert (text(ended), ended["metadata"]["aggregate_result"]["status"]) == ("2", "success")
    assert ended["metadata"]["aggregate_result"]["messages"][0]["stream_name"] == "stdout"
    assert body.endswith(b"data: [DONE]\n\n")


async def test_each_image_of_python_has_its_line_and_its_two_entries(
    loop: asyncio.AbstractEventLoop,
) -> None:
    body = await turn("tool=python images=2")
    output = finals(body)[1]
    assert text(output) == "\n<<ImageDisplayed>>\n<<ImageDisplayed>>"
    result = output["metadata"]["aggregate_result"]
    images = [m["image_url"] for m in result["messages"] if m["message_type"] == "image"]
    assert len(set(images)) == 2
    shown = [m["content"]["data"] for m in result["jupyter_messages"] if "display" in str(m)]
    assert [data["image/vnd.openai.fileservice.png"] for data in shown] == images


@pytest.mark.parametrize("tool", ["python images=1 code=x output=", "dalle"])
async def test_images_have_the_shape_of_the_recorded_events(
    loop: asyncio.AbstractEventLoop, tool: str
) -> None:
    if not EVENTS.exists():
        pytest.skip(f"the recording is not here: {EVENTS}")
    python, dalle, _ = map(json.loads, EVENTS.read_text().splitlines())
    theirs = python if tool.startswith("python") else dalle
    body = await turn(f"tool={tool}")
    name = theirs["message"]["author"]["name"]
    ours = next(
        event
        for event in events(body)
        if (event.get("message") or {}).get("author", {}).get("name") == name
        and event["message"]["status"] == "finished_successfully"
    )
    if theirs is python:
        # New in 2024: entries have sizes.
        (image,) = ours["message"]["metadata"]["aggregate_result"]["messages"]
        assert (image.pop("width"), image.pop("height")) == (640, 480)
        # In the recording of 2023 tool messages had no parent yet.
        del ours["message"]["metadata"]["parent_id"]
    assert shape(ours) == shape(theirs)


@pytest.mark.parametrize(
    ("crash", "shows"),
    [
        ("exception", "ZeroDivisionError: division by zero"),
        ("timeout", "timeout_interrupt"),
        ("system", "AceInternalException"),
    ],
)
async def test_code_can_fail_in_each_way(
    loop: asyncio.AbstractEventLoop, crash: str, shows: str
) -> None:
    body = await turn(f"tool=python crash={crash} output=3")
    output = finals(body)[1]
    assert shows in json.dumps(output)
    assert output["content"]["content_type"] == (
        "system_error" if crash == "system" else "execution_output"
    )
    if crash == "exception":
        exception = output["metadata"]["aggregate_result"]["in_kernel_exception"]
        assert exception["name"] == "ZeroDivisionError"


async def test_browsing_searches_opens_pages_and_cites_them(
    loop: asyncio.AbstractEventLoop,
) -> None:
    body = await turn("tool=browser citations=3 step=1")
    quote = ("browser", "tether_quote", "all")
    assert kinds(body) == [
        (None, "code", "browser"),
        ("browser", "tether_browsing_display", "all"),
        (None, "code", "browser"),
        *[quote] * 3,
        (None, "text", "all"),
    ]
    displays = [m for m in messages(body) if m["content"]["content_type"].startswith("tether_b")]
    assert [m["metadata"]["status"] for m in displays] == ["running", "finished"]
    for message in messages(body):
        if message["content"]["content_type"] == "text":
            said = text(message)
            markers = re.findall(r"【\d†source】", said)
            cited = message["metadata"].get("citations", [])
            assert [said[c["start_ix"] : c["end_ix"]] for c in cited] == markers
    last = finals(body)[-1]
    addresses = [c["metadata"]["url"] for c in last["metadata"]["citations"]]
    assert addresses == [f"https://example.org/{n}" for n in (6, 7, 8)]
    assert addresses == [m["content"]["url"] for m in finals(body)[3:6]]


@pytest.mark.parametrize("cite", ["late", "never", "no_extra", "invalid"])
async def test_citations_can_be_as_incomplete_as_those_of_the_upstream(
    loop: asyncio.AbstractEventLoop, cite: str
) -> None:
    body = await turn(f"tool=browser citations=1 marker=来源 cite={cite}")
    assert "【6†来源】" in text(finals(body)[-1])
    texts = [m for m in messages(body) if m["content"]["content_type"] == "text"]
    running = [m for m in texts if "【6†来源】" in text(m) and m["end_turn"] is None]
    last = finals(body)[-1]["metadata"].get("citations")
    match cite:
        case "late":
            assert last
            assert not any(m["metadata"].get("citations") for m in running)
        case "never":
            assert last is None
        case "no_extra":
            assert last[0]["metadata"]["extra"] is None
        case _:
            assert set(last[0]) >= {"invalid_reason"}
            assert "metadata" not in last[0]


@pytest.mark.parametrize("shape_", ["code", "text"])
async def test_a_drawing_is_requested_as_code_or_as_text(
    loop: asyncio.AbstractEventLoop, shape_: str
) -> None:
    body = await turn(f"tool=dalle as={shape_} images=3")
    assert kinds(body) == [
        (None, shape_, "dalle.text2im"),
        ("dalle.text2im", "multimodal_text", "all"),
        ("dalle.text2im", "text", "all"),
        (None, "text", "all"),
    ]
    parts = finals(body)[1]["content"]["parts"]
    assert len({part["asset_pointer"] for part in parts}) == 3
    assert parts[0]["metadata"]["dalle"]["prompt"] == "A cat"
    assert text(finals(body)[2]).startswith("DALL·E displayed 3 images.")


async def test_images_can_come_in_several_calls_and_be_refused(
    loop: asyncio.AbstractEventLoop,
) -> None:
    body = await turn("tool=dalle images=3 calls=2")
    shown = [m for m in finals(body) if m["content"]["content_type"] == "multimodal_text"]
    assert [len(m["content"]["parts"]) for m in shown] == [2, 1]
    refused = await turn("tool=dalle policy=1")
    assert "multimodal_text" not in str(kinds(refused))
    assert "content policy" in text(finals(refused)[1])


async def test_documents_are_opened_and_searched_under_their_id(
    loop: asyncio.AbstractEventLoop,
) -> None:
    body = await turn("tool=files citations=1")
    assert [text(m) for m in finals(body) if m["recipient"] == "myfiles_browser"] == [
        'open_url("file-0")',
        'msearch(["what", "where"])',
    ]
    last = finals(body)[-1]
    assert "【6:0†source】" in text(last)
    assert last["metadata"]["citations"][0]["metadata"]["type"] == "file"


async def test_several_texts_come_as_several_messages(loop: asyncio.AbstractEventLoop) -> None:
    body = await turn("opening=1 messages=3 early=1")
    assert [text(m) for m in finals(body)] == ["Let me see.", *["w0 w1"] * 3]
    assert [m["end_turn"] for m in finals(body)] == [None, True, True, True]


async def test_a_posted_script_composes_a_turn_of_steps(loop: asyncio.AbstractEventLoop) -> None:
    raw = {"message": None, "strange": [1, {"new": "event"}]}
    body = await steps(
        {"step": "text", "text": "First."},
        {"step": "code", "text": "x", "to": "python"},
        {"step": "output", "text": "1", "images": 1},
        {"step": "raw", "event": raw},
        {"step": "text", "pieces": ["A", "【", "6†source", "】"], "cite": "now"},
    )
    assert raw in events(body)
    assert [text(m) for m in finals(body)] == [
        "First.",
        "x",
        "1\n<<ImageDisplayed>>",
        "A【6†source】",
    ]
    async with calling() as caller:
        status, answer = await caller.control("script", {"steps": [{"step": "dance"}]})
        assert status == 400
        assert "dance" in answer["detail"]


async def test_only_pings_are_sent_while_a_tool_works(
    loop: asyncio.AbstractEventLoop,
) -> None:
    body = await turn("tool=dalle work=0.05 ping=0.01")
    before, after = body.split(b'"multimodal_text"')
    assert before.count(b"ping") >= 3
    assert b"ping" not in after


@pytest.mark.parametrize(
    "fault", ["no_done", "done_unfinished", "unfinished_eof", "error_after", "only_finished"]
)
async def test_faults_of_content_fit_tool_turns_too(
    loop: asyncio.AbstractEventLoop, fault: str
) -> None:
    body = await turn(f"tool=python fault={fault}")
    assert (b"[DONE]" in body) is (fault not in ("no_done", "unfinished_eof"))
    ended = any(m["end_turn"] for m in messages(body))
    assert ended is (fault in ("no_done", "only_finished"))
    assert (events(body)[-1].get("error") is not None) is (fault == "error_after")


class Reader:
    """Applies v1 as its rules say, with what is left out kept from the event before."""

    def __init__(self) -> None:
        self.state: Any = None
        self.path = ""
        self.operation = ""
        self.shown: list[dict[str, Any]] = []

    def take(self, delta: dict[str, Any]) -> None:
        if "o" not in delta and "c" in delta:
            self.state = delta["v"]
        else:
            self.path = delta.get("p", self.path)
            self.operation = delta.get("o", self.operation)
            self.apply(self.path, self.operation, delta["v"])
        self.shown.append(copy.deepcopy(self.state))

    def apply(self, path: str, operation: str, value: Any) -> None:
        if operation == "patch":
            for one in value:
                self.apply(one["p"], one["o"], one.get("v"))
            return
        if not path:
            self.state = value
            return
        *way, key = [int(k) if k.isdigit() else k for k in path[1:].split("/")]
        inside: Any = self.state
        for step in way:
            inside = inside[step]
        match operation, inside[key] if operation == "append" else None:
            case "replace" | "add", _:
                inside[key] = value
            case "remove", _:
                del inside[key]
            case "append", dict() as old:
                old.update(value)
            case "append", old:
                inside[key] = old + value
            case _:
                raise AssertionError(operation)


def read_v1(body: bytes) -> list[dict[str, Any]]:
    reader = Reader()
    for block in body.decode().split("\n\n"):
        if block.startswith("event: delta\n"):
            reader.take(json.loads(block.removeprefix("event: delta\ndata: ")))
    return reader.shown


@pytest.mark.parametrize(
    "directive",
    ["", "echoes=1 empty_at=1 pad=20", "tool=python images=2", "tool=browser citations=2", "raw=1"],
)
async def test_the_v1_encoding_carries_the_same_messages_as_whole_events(
    loop: asyncio.AbstractEventLoop, directive: str
) -> None:
    v1 = await turn(f"{directive} v1=1")
    whole = messages(await turn(directive))
    assert len(whole) > 4
    assert v1.startswith(b'event: delta_encoding\ndata: "v1"\n\nevent: delta\ndata: {"p": "", "o"')
    assert v1.endswith(b"data: \n\ndata: [DONE]\n\n")
    read = [event["message"] for event in read_v1(v1)]
    assert [ordered(m) for m in settled(read)] == [ordered(m) for m in settled(whole)]
    if "images" not in directive:  # whose ids differ each time
        contents, theirs = (
            [str(m["content"]) for m in said if m["author"]["role"] != "user"]
            for said in (read, whole)
        )
        assert list(dict.fromkeys(contents)) == list(dict.fromkeys(theirs))
    assert b'"type": "moderation"' in v1


def test_the_reader_of_these_tests_reads_the_recorded_v1_stream() -> None:
    recording = RECORDED.parent / "mldemo-20241016-v1delta.sse"
    if not recording.exists():
        pytest.skip(f"the recording is not here: {recording}")
    (message,) = settled([event["message"] for event in read_v1(recording.read_bytes())])
    assert message["status"] == "finished_successfully"
    assert message["metadata"]["is_complete"]
    assert len(text(message)) > 500


async def test_the_v1_encoding_omits_unchanged_fields(loop: asyncio.AbstractEventLoop) -> None:
    async with calling() as caller:
        body = await caller.read(f"[[sim v1=1 words=3 {FAST}]]")
    lines = [json.loads(b.split("data: ")[1]) for b in body.decode().split("\n\n")[2:5] if "{" in b]
    assert lines == [
        {"type": "moderation"} | events_of_moderation(body),
        {"p": "/message/content/parts/0", "o": "append", "v": "w0"},
        {"v": " w1"},
    ]


def events_of_moderation(body: bytes) -> dict[str, Any]:
    found = re.search(rb'data: (\{"type": "moderation".*\})', body)
    assert found
    moderation: dict[str, Any] = json.loads(found[1])
    return moderation


async def ask(caller: Caller, directive: str) -> dict[str, Any]:
    async with caller.say(f"[[sim {directive} words=2 {FAST}]]", **gizmo_mode()) as response:
        assert response.status == 200
        body = await response.read()
    assert body.endswith(b"[DONE]\n\n")
    asked = [e for e in events(body) if "from_server" in json.dumps(e)]
    return asked[-1]


@pytest.mark.parametrize("choice", ["allow", "always_allow", "deny"])
async def test_an_action_goes_on_as_it_was_confirmed(
    loop: asyncio.AbstractEventLoop, choice: str
) -> None:
    async with calling() as caller:
        asked = await ask(caller, "tool=action calls=2")
        async with confirm(caller, asked, choice) as response:
            assert response.status == 200
            body = await response.read()
        said = [text(m) for m in finals(body)]
        match choice:
            case "allow":  # the second call asks again
                assert said == ['{"ok": true}', '{"id": 2}', ""]
                again = events(body)[-2]
                async with confirm(caller, again, "allow") as response:
                    body = await response.read()
                assert [text(m) for m in finals(body)] == ['{"ok": true}', "w0 w1"]
            case "always_allow":
                assert said == ['{"ok": true}', '{"id": 2}', '{"ok": true}', "w0 w1"]
            case _:
                assert said == ["The action was denied, so nothing was done."]
        invoked = {
            m["metadata"]["invoked_plugin"]["namespace"] for m in finals(body) if "ok" in text(m)
        }
        assert invoked == (set() if choice == "deny" else {"example_com__jit_plugin"})
        assert (await caller.stats())["confirmations"] == (2 if choice == "allow" else 1)


async def test_a_wrong_confirmation_is_refused_and_the_question_stays_open(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with calling() as caller:
        asked = await ask(caller, "tool=action")
        for choice, wrong in (
            ("allow", {"target_message_id": "another"}),
            ("always_allow", {"operation_hash": "0" * 40}),
            ("always_allow", {"operation_hash": None}),
        ):
            async with confirm(caller, asked, choice, **wrong) as response:
                assert response.status == 422
                assert (await response.json())["detail"][0]["loc"][0] == "body"
        async with confirm(caller, asked, "allow") as response:
            assert response.status == 200
            await response.read()
        async with confirm(caller, asked, "allow") as response:
            assert response.status == 422
            assert "waits" in await response.text()
        consequential = await ask(caller, "tool=action consequential=1")
        assert "always_allow" not in json.dumps(consequential)
        assert (await caller.stats())["invalid"] == 4


async def test_an_action_without_confirmation_runs_at_once(loop: asyncio.AbstractEventLoop) -> None:
    body = await turn("tool=action confirm=0 output=42")
    assert [text(m) for m in finals(body)] == ['{"id": 1}', "42", "w0 w1"]


@pytest.mark.parametrize(
    ("mode", "where"),
    [
        ({"conversation_mode": {"kind": "primary_assistant"}}, "kind"),
        ({"conversation_mode": None}, "kind"),
        (gizmo_mode("abc"), "gizmo_id"),
        (gizmo_mode(gizmo={"gizmo": {"id": "g-other"}}), "gizmo"),
        (gizmo_mode(gizmo={}), "gizmo"),
    ],
)
async def test_the_model_for_gpts_requires_a_gpt(
    loop: asyncio.AbstractEventLoop, mode: dict[str, Any], where: str
) -> None:
    async with calling() as caller:
        async with caller.say("hi", **{"model": "gpt-4-gizmo"} | mode) as response:
            assert response.status == 422
            (item,) = (await response.json())["detail"]
            assert item["loc"] == ["body", "conversation_mode", where]
        assert (await caller.stats())["invalid"] == 1


async def test_a_gpt_s_info_can_be_sent_back_whole(loop: asyncio.AbstractEventLoop) -> None:
    headers = {"Authorization": "Bearer alice"}
    async with calling() as caller:
        url = f"{caller.url}/backend-api/gizmos/g-abc"
        async with caller.http.get(url, headers=headers) as response:
            info = await response.json()
        assert info["gizmo"]["display"]["name"] == "GPT abc"
        mode = gizmo_mode(gizmo=info)
        async with caller.say(f"[[sim {FAST}]]", **mode) as response:
            assert response.status == 200
        for fault, status in (("404", 404), ("html", 403)):
            await caller.control("script", {"gizmo": fault, "bearer": "alice"})
            async with caller.http.get(url, headers=headers) as response:
                assert response.status == status
        assert (await caller.stats())["gizmos"] == 1


async def test_an_arkose_token_is_valid_once_and_only_in_both_body_and_header(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with calling(prefix="secret-1") as caller:
        url = f"{caller.url}/api/arkose/token"
        async with caller.http.post(url, data={"type": "gpt-4"}) as response:
            token = (await response.json())["token"]

        async def status(body: str | None, header: str | None) -> int:
            message = {
                "id": "user-1",
                "author": {"role": "user"},
                "content": {"content_type": "text", "parts": [f"[[sim arkose=1 {FAST}]]"]},
            }
            headers = {"Authorization": "Bearer alice"}
            if header:
                headers["Openai-Sentinel-Arkose-Token"] = header
            payload = {"messages": [message], "model": "gpt-4", "arkose_token": body}
            conversation = f"{caller.url}/backend-api/conversation"
            async with caller.http.post(conversation, json=payload, headers=headers) as response:
                await response.read()
                return response.status

        assert await status(None, None) == 403
        assert await status(token, None) == 403
        assert await status("made-up", "made-up") == 403
        assert await status(token, token) == 200
        assert await status(token, token) == 403
        async with caller.http.post(url, data={"type": "gpt-3"}) as response:
            assert response.status == 422
    async with calling() as caller:
        url = f"{caller.url}/api/arkose/token"
        await caller.control("script", {"token": "empty"})
        async with caller.http.post(url, data={"type": "gpt-4"}) as response:
            assert await response.json() == {"token": ""}
        assert (await caller.stats())["arkose"] == 0
