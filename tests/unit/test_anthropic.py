"""The dialect of `/v1/messages`: its requests as chats, its answers as events of a message."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

import settings
from app.anthropic.rendering import MESSAGES
from app.files.attachments import read_inline
from app.openai.answers import QueuePlace, Usage
from app.openai.dialect import Answer, RenderOptions
from app.openai.emulation import Emulation, emulate
from app.openai.errors import BadRequest, UnsupportedParameter
from app.openai.messages import given_files, memory, to_messages
from app.openai.reading import AnswerReader
from app.openai.requests import ChatRequest
from app.openai.tool_calls import CallRules
from settings import Bot
from wire.events import Delta, Done, Event, Failed, Finish, FormatMissed, Started
from wire.jobs import Attachment, Message

CALL = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
PICTURE = base64.b64encode(b"\x89PNG" + bytes(70_000)).decode()
TOOL = {"name": "f", "description": "d", "input_schema": {"type": "object"}}


def chat(content: object = "hi", **fields: Any) -> ChatRequest:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": content}]}
    return MESSAGES.decode(json.dumps(body | fields).encode()).chat({})


def emulated(**fields: Any) -> Emulation:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    decoded = MESSAGES.decode(json.dumps(body | fields).encode())
    return emulate(decoded.chat({}), settings.Compat(), decoded.ignored)


def answer(*stops: str, tokens: int | None = None, **options: Any) -> Answer:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
    reader = AnswerReader(Bot(), stops, tokens, CallRules(frozenset("f")))
    rendering = RenderOptions(include_usage=True, prompt_tokens=7, **options)
    return MESSAGES.decode(body).answer("msg_0123456789abcdef", "m", 0, reader, rendering)


def events(stream: bytes) -> list[Any]:
    found = []
    for block in stream.decode().split("\n\n")[:-1]:
        kind, data, *_ = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert kind == f"event: {event['type']}"
        found.append(event)
    return found


CONVERSATION = [
    {"role": "user", "content": "a"},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "t", "signature": "s"},
            {"type": "text", "text": "b"},
            {"type": "tool_use", "id": "1", "name": "f", "input": {"x": [1]}},
            {"type": "tool_use", "id": "2", "name": "g", "input": {}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "1", "content": "c"},
            {
                "type": "tool_result",
                "tool_use_id": "2",
                "is_error": True,
                "content": [{"type": "text", "text": "d"}],
            },
            {"type": "text", "text": "e"},
        ],
    },
]


@pytest.mark.parametrize(
    "system", ["Be brief.", [{"type": "text", "text": "Be brief.", "cache_control": {}}]]
)
def test_each_message_is_one_message_of_a_chat_with_its_calls_and_results(system: object) -> None:
    turns = to_messages(chat(system=system, messages=CONVERSATION).messages, {})
    assert turns[:2] == [Message("system", "Be brief."), Message("user", "a")]
    assert turns[2].text.startswith('b\n\n<tool_call>\n{"name": "f", "arguments": {"x": [1]}}')
    assert turns[2].text.count("<tool_call>") == 2
    assert turns[3:] == [
        Message(
            "user",
            '<tool_result name="f">\nc\n</tool_result>\n'
            '<tool_result name="g" is_error="true">\nd\n</tool_result>\ne',
        )
    ]


def source(type: str, **fields: str) -> dict[str, object]:
    return {"type": type, **fields}


IMAGE = {"type": "image", "source": source("base64", media_type="image/png", data=PICTURE)}
LINKED = {"type": "image", "source": source("url", url="https://ex.org/a")}
PDF = {
    "type": "document",
    "title": "a.pdf",
    "source": source("base64", media_type="application/pdf", data="JVBERi0="),
}


@pytest.mark.parametrize("most", [0, 2**22])
def test_pictures_and_documents_are_files_also_those_in_results(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr("app.openai.requests.MOST_BYTES", most)
    result = {"type": "tool_result", "tool_use_id": "1", "content": [IMAGE, LINKED]}
    asked = chat([LINKED, IMAGE, PDF, result])
    files = given_files(asked.messages)
    assert [MESSAGES.field(file.param) for file in files] == [
        *("messages.0.content.0.source", "messages.0.content.1.source"),
        *("messages.0.content.2.source", "messages.0.content.3.content.0.source"),
        "messages.0.content.3.content.1.source",
    ]
    inline = read_inline(files[1])
    assert inline is not None
    assert (inline.type, b"".join(inline.pieces())) == ("image/png", base64.b64decode(PICTURE))
    assert (files[2].name, files[0].source.start) == ("a.pdf", "https://ex.org/a")
    taken = {file.param: Attachment(str(at), "", 1, "") for at, file in enumerate(files)}
    (turn,) = to_messages(asked.messages, taken)
    assert [part if isinstance(part, str) else part.name for part in turn.parts] == [
        *("0", "1", "2", "<tool_result>", "3", "4", "</tool_result>")
    ]
    assert memory(asked.messages) > 0


@pytest.mark.parametrize("text", ["A text", "文" * 20_000, "A long text. " * 3000])
@pytest.mark.parametrize("most", [0, 2**22])
def test_a_document_that_is_text_is_a_part_of_the_text(
    monkeypatch: pytest.MonkeyPatch, text: str, most: int
) -> None:
    monkeypatch.setattr("app.openai.requests.MOST_BYTES", most)
    monkeypatch.setattr("app.openai.bounds.MOST_BYTES", 2**22)
    plain = source("text", media_type="text/plain", data=text)
    blocks = {"type": "content", "content": [{"type": "text", "text": "y"}]}
    document = {"type": "document", "title": 'a "b"', "source": plain}
    asked = chat([document, {"type": "document", "source": blocks}, IMAGE])
    (image,) = given_files(asked.messages)
    (turn,) = to_messages(asked.messages, {image.param: Attachment("i", "", 1, "")})
    assert turn.parts[0] == (
        f'<document title="a \\"b\\"">\n{text}\n</document>\n<document>\ny\n</document>'
    )


@pytest.mark.parametrize(
    ("choice", "required", "single", "names"),
    [
        (None, False, False, ["f", "g"]),
        ({"type": "auto", "disable_parallel_tool_use": True}, False, True, ["f", "g"]),
        ({"type": "any"}, True, False, ["f", "g"]),
        ({"type": "tool", "name": "g"}, True, False, ["g"]),
    ],
)
def test_tools_and_the_choice_among_them_are_those_of_a_chat(
    choice: object, required: bool, single: bool, names: list[str]
) -> None:
    tools = [TOOL, {"type": "custom", "name": "g", "input_schema": {}}]
    use = emulated(tools=tools, tool_choice=choice).tools
    assert use is not None
    assert (use.required, use.single) == (required, single)
    assert [function.name for function in use.functions] == names
    if choice is None:
        assert use.functions[0].description == "d"
        assert use.functions[0].parameters == {"type": "object"}
    assert emulated(tools=tools, tool_choice={"type": "none"}).tools is None


def test_fields_without_an_effect_are_named() -> None:
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}
    made = emulated(
        tools=[TOOL, search],
        thinking={"type": "enabled", "budget_tokens": 1024},
        mcp_servers=[{"type": "url"}],
        temperature=1,
        top_k=5,
        context_management={"edits": []},
    )
    assert made.headers(MESSAGES.field) == {
        "x-ignored-parameters": "tools (web_search_20250305), thinking, mcp_servers"
    }
    assert made.tools is not None
    assert emulated(thinking={"type": "disabled"}, mcp_servers=[]).headers() == {}


def test_limits_the_user_and_the_format_are_those_of_a_chat() -> None:
    schema = {"type": "json_schema", "schema": {"type": "object"}}
    asked = chat(
        stop_sequences=["x", "y"],
        max_tokens=3,
        stream=True,
        metadata={"user_id": "u"},
        output_config={"effort": "low", "format": schema},
    )
    assert (asked.stops, asked.token_limit, asked.user) == (["x", "y"], 3, "u")
    assert asked.include_usage
    made = emulate(asked, settings.Compat())
    assert made.format is not None
    assert made.format.schema == b'{"type":"object"}'


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "assistant", "content": []}]}, "messages"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop_sequences": ["a" * 2000]}, "stop_sequences.0"),
        ({"system": [{"type": "image"}]}, "system.0.type"),
        ({"tools": [{"input_schema": {}}]}, "tools.0.name"),
        ({"tools": [{"name": 1}]}, "tools.0.name"),
        ({"tools": [{"name": "f", "input_schema": 1}]}, "tools.0.input_schema"),
        ({"tools": [1]}, "tools.0"),
        ({"tools": [{"name": "a" * 300_000}]}, "tools"),
        ({"tool_choice": {"type": "sometimes"}}, "tool_choice.type"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "g"}}, "tool_choice"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"output_config": {"format": {"type": "odd"}}}, "output_config.format.type"),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": 1}}},
            "output_config.format.schema",
        ),
    ],
)
def test_an_invalid_field_is_named(fields: dict[str, object], param: str) -> None:
    def read() -> None:
        asked = chat(**fields)
        to_messages(asked.messages, {})
        emulate(asked, settings.Compat())

    with pytest.raises(BadRequest) as caught:
        read()
    assert MESSAGES.renamed(caught.value).param == param
    assert "[0]" not in str(caught.value)


@pytest.mark.parametrize(
    ("block", "path"),
    [
        ({"type": "server_tool_use", "id": "1"}, ""),
        ({"type": "tool_use", "id": "1", "name": "f", "input": {}}, ""),
        ({"type": "image", "source": source("file", file_id="f")}, ".source"),
        ({"type": "image"}, ".source"),
        ({"type": "document", "source": source("file", file_id="f")}, ".source"),
    ],
)
def test_a_block_that_is_not_supported_is_named(block: dict[str, object], path: str) -> None:
    result = {"type": "tool_result", "tool_use_id": "1", "content": [block]}
    for content, place in ((block, ".1"), (result, ".1.content.0")):
        with pytest.raises(UnsupportedParameter) as caught:
            chat([{"type": "text", "text": "a"}, content])
        assert MESSAGES.renamed(caught.value).param == f"messages.0.content{place}{path}"


SAID: list[Event] = [Started("m"), Delta("a"), Delta("b " + CALL), Done("stop")]


def test_the_events_are_those_of_anthropic() -> None:
    one = answer()
    stream = events(one.add(SAID) + one.ending(Usage(7, 2, 9)))
    assert [event["type"] for event in stream] == [
        *("message_start", "content_block_start", "content_block_delta", "content_block_delta"),
        *("content_block_stop", "content_block_start", "content_block_delta"),
        *("content_block_stop", "message_delta", "message_stop"),
    ]
    start = stream[0]["message"]
    assert (start["id"], start["model"], start["content"]) == ("msg_0123456789abcdef", "m", [])
    assert start["usage"]["input_tokens"] == 7
    assert [event["index"] for event in stream[1:8]] == [0, 0, 0, 0, 1, 1, 1]
    assert stream[5]["content_block"]["input"] == {}
    assert json.loads(stream[6]["delta"]["partial_json"]) == {"a": 1}
    assert stream[8]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert stream[8]["usage"]["output_tokens"] == 2
    whole = json.loads(one.whole(Usage(7, 2, 9)))
    assert whole["content"] == [
        {"type": "text", "text": "ab"},
        {
            "type": "tool_use",
            "id": stream[5]["content_block"]["id"],
            "name": "f",
            "input": {"a": 1},
        },
    ]
    assert (whole["type"], whole["role"], whole["stop_reason"]) == (
        *("message", "assistant", "tool_use"),
    )
    assert (whole["usage"]["input_tokens"], whole["usage"]["output_tokens"]) == (7, 2)


@pytest.mark.parametrize(
    ("finish", "reason"),
    [("stop", "end_turn"), ("length", "max_tokens"), ("content_filter", "refusal")],
)
def test_the_reason_says_how_the_answer_ended(finish: Finish, reason: str) -> None:
    one = answer()
    *_, end, _ = events(one.add([Started("m"), Done(finish)]) + one.ending(Usage(1, 0, 1)))
    assert end["delta"] == {"stop_reason": reason, "stop_sequence": None}
    assert json.loads(one.whole(Usage(1, 0, 1)))["content"] == []


@pytest.mark.parametrize("rules", [None, CallRules(frozenset("f"))])
@pytest.mark.parametrize(
    ("stops", "tokens", "reason", "stop"),
    [
        (["zz", "lo"], None, "stop_sequence", "lo"),
        (["zz"], 1, "max_tokens", None),
        (["zz"], None, "end_turn", None),
    ],
)
def test_a_stop_sequence_is_named(
    rules: CallRules | None, stops: list[str], tokens: int | None, reason: str, stop: str | None
) -> None:
    reader = AnswerReader(Bot(), stops, tokens, rules)
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
    one = MESSAGES.decode(body).answer("msg_1", "m", 0, reader, RenderOptions())
    one.add([Started("m"), Delta("hel"), Delta("lo there"), Done("stop")])
    whole = json.loads(one.whole(Usage(1, 1, 2)))
    assert (whole["stop_reason"], whole["stop_sequence"]) == (reason, stop)


def test_a_failure_is_an_error_of_anthropic() -> None:
    one = answer()
    *_, error = events(one.add([Delta("a"), Failed("too_long", "x")]))
    assert error["error"]["type"] == "invalid_request_error"
    assert error["error"]["message"].startswith("prompt is too long: ")
    for fault, kind in (("rate_limited", "rate_limit_error"), ("upstream_down", "api_error")):
        *_, error = events(answer().add([Failed(fault, "x")]))  # type: ignore[arg-type]
        assert error["error"]["type"] == kind


@pytest.mark.parametrize(
    ("before", "shown", "index"),
    [
        ([Delta("a")], "a\n\nError: Oops.", 0),
        ([], "Error: Oops.", 0),
        ([Delta("a " + CALL)], "a\n\nError: Oops.", 2),
    ],
)
def test_an_error_is_also_text_for_clients_that_show_nothing_else(
    before: list[Event], shown: str, index: int
) -> None:
    one = answer(errors_as_text=True)
    stream = events(one.add([Started("m"), *before, Failed("upstream_error", "Oops.")]))
    texts = [e for e in stream if e.get("delta", {}).get("type") == "text_delta"]
    assert "".join(e["delta"]["text"] for e in texts) == shown
    assert texts[-1]["index"] == index
    assert stream[-2:] == [texts[-1], stream[-1]]
    assert stream[-1]["type"] == "error"
    starts = [e["index"] for e in stream if e["type"] == "content_block_start"]
    assert index in starts


def test_a_keep_alive_is_a_ping_without_a_number() -> None:
    one = answer(numbered=True)
    stream = one.empty_delta(QueuePlace(3, 12)) + one.add([Started("m"), Delta("a")])
    stream += one.empty_delta(None) + one.add([Done("stop")]) + one.ending(Usage(1, 1, 2))
    assert [event["type"] for event in events(stream)[:3]] == [
        *("message_start", "ping", "content_block_start"),
    ]
    assert events(stream)[1]["queue"] == {"position": 3, "eta": 12}
    ids = [line for line in stream.decode().splitlines() if line.startswith("id: ")]
    assert ids == [f"id: 01234567-{number}" for number in range(1, 7)]
    again = answer(numbered=True, resume_after=2)
    rest = again.add([Started("m"), Delta("a"), Done("stop")]) + again.ending(Usage(1, 1, 2))
    assert rest.startswith(b"event: content_block_delta")
    assert stream.endswith(rest[rest.index(b"event: content_block_stop") :])


def test_a_warning_about_the_format_is_in_the_last_event_and_in_a_whole_answer() -> None:
    one = answer()
    missed: list[Event] = [
        Started("m"),
        Delta("a"),
        FormatMissed("invalid_json", "x"),
        Done("stop"),
    ]
    *_, end, _ = events(one.add(missed) + one.ending(Usage(1, 1, 2)))
    assert end["warning"]["code"] == "invalid_json"
    assert json.loads(one.whole(Usage(1, 1, 2)))["warning"] == end["warning"]
