"""The dialect of `/v1/responses`: its requests as chats, its answers as numbered events."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

import settings
from app.openai.answers import QueuePlace, Usage
from app.openai.chunks import CHATS
from app.openai.dialect import Answer, RenderOptions
from app.openai.emulation import emulate
from app.openai.errors import BadRequest, ItemNotFound
from app.openai.messages import given_files, to_messages
from app.openai.reading import AnswerReader
from app.openai.requests import AssistantCall, ChatMessage, ChatRequest, FunctionCall
from app.openai.responses.answers import LONGEST_ECHO
from app.openai.responses.rendering import RESPONSES
from app.openai.tool_calls import CallRules
from settings import Bot
from wire.events import Delta, Done, Event, Failed, Finish, Started
from wire.jobs import Attachment, Message

CALL = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
STRICT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def chat(input: object = "hi", **fields: Any) -> ChatRequest:
    return RESPONSES.decode(json.dumps({"model": "m", "input": input, **fields}).encode()).chat({})


def answer(
    *, numbered: bool = False, after: int = 0, as_text: bool = False, **fields: object
) -> Answer:
    body = json.dumps({"model": "m", "input": "hi", **fields}).encode()
    options = RenderOptions(numbered=numbered, resume_after=after, errors_as_text=as_text)
    reader = AnswerReader(Bot(), rules=CallRules(frozenset("f")))
    return RESPONSES.decode(body).answer("resp_0123456789abcdef", "m", 0, reader, options)


def events(stream: bytes) -> list[Any]:
    found = []
    for block in stream.decode().split("\n\n")[:-1]:
        kind, data, *_ = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert kind == f"event: {event['type']}"
        if event["type"] not in ("error", "response.failed"):
            STRICT.validate_python(event)
        found.append(event)
    return found


def test_items_are_messages_in_the_order_of_the_input() -> None:
    asked = chat(
        [
            {"role": "developer", "content": "a"},
            {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text"}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "b"}]},
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}", "id": "x"},
            {"type": "function_call_output", "call_id": "1", "output": "c"},
            {"role": "assistant", "content": [{"type": "output_text", "text": "d"}]},
        ],
        instructions="Be brief.",
    )
    turns = to_messages(asked.messages, {})
    assert [turn.role for turn in turns] == [
        *("system", "system", "user", "assistant", "user", "assistant")
    ]
    assert '"name": "f"' in turns[3].text
    assert turns[4] == Message("user", '<tool_result name="f">\nc\n</tool_result>')


def test_adjacent_calls_are_one_message_of_the_assistant() -> None:
    def call(name: str) -> dict[str, str]:
        return {"type": "function_call", "call_id": name, "name": name, "arguments": "{}"}

    output = {"type": "function_call_output", "call_id": "g", "output": "c"}
    said = {"role": "assistant", "content": "b"}
    reasoning = {"type": "reasoning"}
    asked = chat([said, reasoning, call("f"), call("g"), output, call("h"), said])
    turns = to_messages(asked.messages, {})
    assert [turn.role for turn in turns] == ["assistant", "user", "assistant", "assistant"]
    assert turns[0].text.startswith("b\n\n<tool_call>")
    assert [turn.text.count("<tool_call>") for turn in turns] == [2, 0, 1, 0]
    assert '"name": "g"' in turns[0].text
    assert turns[1].text.startswith('<tool_result name="g">')


def test_files_are_named_by_their_path_in_the_input() -> None:
    parts = [
        {"type": "input_image", "image_url": "https://ex.org/a"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:;base64," + "JQ" * 70_000},
        {"type": "input_file", "file_url": "https://ex.org/b"},
    ]
    output = {"type": "function_call_output", "call_id": "1", "output": parts[:1]}
    asked = chat([{"role": "user", "content": parts}, output])
    files = given_files(asked.messages)
    assert [RESPONSES.field(file.param) for file in files] == [
        *("input[0].content[0].image_url", "input[0].content[1]", "input[0].content[2]"),
        "input[1].output[0].image_url",
    ]
    assert CHATS.field(files[3].param) == "messages[2].content[0].image_url.url"
    assert sum(map(len, files[1].source.slices())) == 140_013
    taken = Attachment("a", "", 1, "")
    assert len(to_messages(asked.messages, dict.fromkeys([f.param for f in files], taken))) == 2


def test_tools_and_formats_are_those_of_a_chat() -> None:
    function = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    choice = {"type": "function", "name": "f"}
    asked = chat(tools=[function], tool_choice=choice, text={"format": schema, "verbosity": "low"})
    made = emulate(asked, settings.Compat())
    assert made.tools is not None
    assert made.format is not None
    assert (made.tools.functions[0].name, made.tools.required) == ("f", True)
    assert (made.format.schema, made.format.name) == (b'{"type":"object"}', "n")
    ignoring = settings.Compat(tools="ignore", json="ignore", ignore_unsupported=True)
    ignored = emulate(chat(tools=[function], text={"format": schema}, top_logprobs=2), ignoring)
    assert ignored.headers(RESPONSES.field) == {
        "x-ignored-parameters": "top_logprobs, tools, text.format"
    }


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference"}]}, "input[0].id"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}] * 2}, "input[1]"),
        ({"input": [{"type": "computer_call"}]}, "input[0]"),
        (
            {"input": [{"content": [{"type": "input_image", "file_id": "f"}]}]},
            "input[0].content[0]",
        ),
        ({"input": [{"content": [{"type": "odd"}]}]}, "input[0].content[0]"),
        ({"input": [{"role": "robot"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input"),
        ({"tools": [{"type": "web_search"}, {"type": "custom"}]}, "tools[1].name"),
        ({"tools": [{"type": "namespace", "tools": [{}]}]}, "tools[0].tools[0].name"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"text": {"format": {"type": "odd"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "schema": []}}}, "text.format.schema"),
    ],
)
def test_an_invalid_field_is_named(fields: dict[str, object], param: str) -> None:
    def read() -> None:
        asked = chat(**{"input": "hi", **fields})
        to_messages(asked.messages, {})
        emulate(asked, settings.Compat())

    with pytest.raises(BadRequest) as caught:
        read()
    assert RESPONSES.renamed(caught.value).param == param
    assert "messages" not in str(caught.value).split(" must ")[0]


def test_a_reference_is_replaced_by_the_item_that_is_stored() -> None:
    body = {"model": "m", "input": [{"role": "user", "content": "a"}, *REFERENCES]}
    asked = RESPONSES.decode(json.dumps(body).encode())
    assert asked.references == {"msg_1": "input[1]", "fc_2": "input[2]"}
    call = AssistantCall("call_1", FunctionCall("f", "{}"))
    stored = {
        "msg_1": ChatMessage("assistant", "b"),
        "fc_2": ChatMessage("assistant", tool_calls=[call]),
    }
    turns = to_messages(asked.chat(stored).messages, {})
    assert [(turn.role, turn.text[:2]) for turn in turns] == [("user", "a"), ("assistant", "b\n")]
    del stored["fc_2"]
    with pytest.raises(ItemNotFound, match=r"Item with id 'fc_2' not found\.") as missing:
        asked.chat(stored)
    assert (missing.value.param, missing.value.http_status) == ("input[2]", 404)


REFERENCES = [{"type": "item_reference", "id": id} for id in ("msg_1", "fc_2")]


@pytest.mark.parametrize(
    ("store", "wanted", "kept"), [(None, True, 2), (False, True, 0), (None, False, 0)]
)
def test_items_are_stored_once_if_the_client_and_the_operator_want_it(
    store: bool | None, wanted: bool, kept: int
) -> None:
    body = json.dumps({"model": "m", "input": "hi", "store": store}).encode()
    reader = AnswerReader(Bot(), rules=CallRules(frozenset("f")))
    options = RenderOptions(stores_items=wanted)
    one = RESPONSES.decode(body).answer("resp_1", "m", 0, reader, options)
    one.add(SAID[:2])
    assert one.ended_items() == {}
    one.add(SAID[2:])
    ended = one.ended_items()
    assert len(ended) == kept
    assert one.ended_items() == {}
    whole = json.loads(one.whole(Usage(1, 2, 3)))
    assert whole["store"] is bool(kept)
    if kept:
        assert list(ended) == [item["id"] for item in whole["output"]]
        assert [message.content for message in ended.values()] == ["ab", None]


def test_null_and_harmless_fields_ask_for_nothing() -> None:
    asked = chat(
        previous_response_id=None,
        background=False,
        conversation=None,
        store=True,
        include=["reasoning.encrypted_content"],
        reasoning={"effort": "low"},
        truncation="auto",
        text={"format": {"type": "text"}},
        tool_choice=None,
    )
    assert emulate(asked, settings.Compat()).headers() == {}


SAID: list[Event] = [Started("m"), Delta("a"), Delta("b " + CALL), Done("stop")]


def test_the_events_are_those_of_openai() -> None:
    one = answer(tools=[{"type": "function", "name": "f"}])
    stream = events(one.add(SAID) + one.ending(Usage(1, 2, 3)))
    assert [event["type"].removeprefix("response.") for event in stream] == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *("output_text.delta", "output_text.delta", "output_text.done", "content_part.done"),
        *("output_item.done", "output_item.added", "function_call_arguments.delta"),
        *("function_call_arguments.done", "output_item.done", "completed"),
    ]
    assert [event["sequence_number"] for event in stream] == list(range(len(stream)))
    message, call = stream[-1]["response"]["output"]
    assert (message["content"][0]["text"], message["status"]) == ("ab", "completed")
    assert (call["name"], call["arguments"]) == ("f", '{"a": 1}')
    assert stream[-1]["response"]["usage"]["total_tokens"] == 3
    assert json.loads(one.whole(Usage(1, 2, 3))) == stream[-1]["response"]


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        ("stop", "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", {"reason": "content_filter"}),
    ],
)
def test_the_status_says_how_the_answer_ended(finish: Finish, status: str, reason: object) -> None:
    one = answer()
    last = events(one.add([Started("m"), Done(finish)]) + one.ending(None))[-1]
    assert last["type"] == f"response.{status}"
    assert last["response"]["incomplete_details"] == reason
    assert last["response"]["output"][0]["status"] == status


def test_a_failure_is_an_error_and_a_failed_response() -> None:
    one = answer()
    error, failed = events(one.add([Delta("a"), Failed("too_long", "x")]))[-2:]
    assert error["error"]["code"] == error["code"] == "context_length_exceeded"
    assert error["param"] == "input"
    assert failed["response"]["error"]["code"] == "context_length_exceeded"
    assert failed["response"]["output"][0]["content"][0]["text"] == "a"
    for fault, code in (("rate_limited", "rate_limit_exceeded"), ("upstream_down", "server_error")):
        failed = events(answer().add([Failed(fault, "x")]))[-1]  # type: ignore[arg-type]
        assert failed["response"]["error"]["code"] == code


def test_a_keep_alive_repeats_the_beginning_without_a_number() -> None:
    one = answer(numbered=True)
    stream = one.empty_delta(QueuePlace(3, 12)) + one.add([Started("m"), Delta("a")])
    stream += one.empty_delta(None) + one.add([Done("stop")]) + one.ending(None)
    kinds = [(event["type"], event["sequence_number"]) for event in events(stream)]
    assert kinds[:3] == [
        ("response.created", 0),
        ("response.in_progress", 1),
        ("response.in_progress", 1),
    ]
    assert events(stream)[2]["queue"] == {"position": 3, "eta": 12}
    ids = [line for line in stream.decode().splitlines() if line.startswith("id: ")]
    assert ids == [f"id: 01234567-{number}" for number in range(1, 10)]
    again = answer(numbered=True, after=4)
    rest = again.add([Started("m"), Delta("a"), Done("stop")]) + again.ending(None)
    assert stream.endswith(rest[rest.index(b"event: response.output_text.done") :])
    assert rest.startswith(b"event: response.output_text.delta")


def test_long_fields_are_not_repeated() -> None:
    for length, repeated in ((10, True), (LONGEST_ECHO + 1, False)):
        one = answer(instructions="a" * length, metadata={"a": "b" * length})
        (created, *_) = events(one.add([Started("m")]))
        assert (created["response"]["instructions"] is not None) == repeated
        assert bool(created["response"]["metadata"]) == repeated


def test_the_fields_that_are_repeated_count_as_memory() -> None:
    def kept(**fields: Any) -> int:
        body = json.dumps({"model": "m", "input": "hi", **fields}).encode()
        return RESPONSES.decode(body).memory

    long = "a" * 4000
    for field in ({"instructions": long}, {"metadata": {"a": long}}, {"tools": [{"type": long}]}):
        assert kept(**field) > kept() + 3900


@pytest.mark.parametrize(
    ("before", "shown", "item"),
    [
        ([Delta("a")], "a\n\nError: Oops.", 0),
        ([], "Error: Oops.", 0),
        ([Delta("a " + CALL)], "a\n\nError: Oops.", 2),
        ([Delta(CALL)], "Error: Oops.", 1),
    ],
)
def test_an_error_is_also_text_for_clients_that_show_nothing_else(
    before: list[Event], shown: str, item: int
) -> None:
    one = answer(as_text=True, tools=[{"type": "function", "name": "f"}])
    stream = events(one.add([Started("m"), *before, Failed("upstream_error", "Oops.")]))
    *told, error, failed = stream
    deltas = [e for e in told if e["type"] == "response.output_text.delta"]
    assert "".join(e["delta"] for e in deltas) == shown
    assert deltas[-1]["output_index"] == item
    added = [e["item"]["id"] for e in told if e["type"] == "response.output_item.added"]
    assert added.index(deltas[-1]["item_id"]) == item
    assert (error["type"], failed["type"]) == ("error", "response.failed")
    assert [e["sequence_number"] for e in stream] == list(range(len(stream)))
    assert told[-1] == deltas[-1]  # nothing says that the message is finished


NAMESPACE = {
    "type": "namespace",
    "name": "files",
    "description": "Files.",
    "tools": [
        {"type": "function", "name": "read", "parameters": {"type": "object"}, "strict": False},
        {"type": "custom", "name": "patch", "format": {"type": "text"}},
        {"type": "odd", "name": "x"},
    ],
}
CODEX = [
    {"type": "function", "name": "run", "parameters": {"type": "object"}},
    {"type": "custom", "name": "patch", "format": {"type": "text"}},
    {"type": "web_search", "external_web_access": False},
    {"type": "local_shell"},
    NAMESPACE,
]
CODEX_RULES = CallRules(
    frozenset({"run", "patch", "files.read", "files.patch"}),
    custom=frozenset({"patch", "files.patch"}),
    namespaces={"files.read": "files", "files.patch": "files"},
)


def test_the_tools_of_codex_are_emulated_or_left_out_by_name() -> None:
    made = emulate(chat(tools=CODEX, tool_choice="auto"), settings.Compat())
    assert made.call_rules == CODEX_RULES
    assert made.headers(RESPONSES.field) == {
        "x-ignored-parameters": "tools (web_search), tools (local_shell), tools (odd)"
    }


def test_tools_may_be_added_within_the_input() -> None:
    added = {"type": "additional_tools", "role": "developer", "tools": CODEX[1:]}
    asked = chat([added, {"role": "user", "content": "a"}], tools=CODEX[:1])
    assert emulate(asked, settings.Compat()).call_rules == CODEX_RULES
    assert to_messages(asked.messages, {}) == [Message("user", "a")]
    with pytest.raises(BadRequest) as refused:
        chat([{"type": "additional_tools", "tools": [{"type": 1}]}])
    assert refused.value.param == "input[0].tools[0].type"


@pytest.mark.parametrize(
    ("choice", "rules"),
    [
        (
            {"type": "custom", "name": "patch"},
            CallRules(frozenset({"patch"}), custom=CODEX_RULES.custom),
        ),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "x"}, {"name": "run"}]},
            CallRules(frozenset({"run"}), custom=CODEX_RULES.custom),
        ),
    ],
)
def test_a_choice_names_a_tool_of_any_kind(choice: object, rules: CallRules) -> None:
    made = emulate(chat(tools=CODEX[:2], tool_choice=choice), settings.Compat()).call_rules
    assert made is not None
    assert made.names == rules.names


def test_calls_of_codex_are_items_of_their_kind_and_come_back() -> None:
    reader = AnswerReader(Bot(), rules=CODEX_RULES)
    body = json.dumps({"model": "m", "input": "hi"}).encode()
    options = RenderOptions(stores_items=True)
    one = RESPONSES.decode(body).answer("resp_1", "m", 0, reader, options)
    blocks = [
        '{"name": "files.read", "arguments": {"path": "a"}}',
        '{"name": "patch", "arguments": {"input": "line 1\nline 2"}}',
        '{"name": "files.patch", "arguments": "free text"}',
    ]
    text = "".join(f"<tool_call>{block}</tool_call>" for block in blocks)
    stream = events(one.add([Started("m"), Delta(text), Done("stop")]) + one.ending(None))
    output = stream[-1]["response"]["output"]
    assert [(i["type"], i["name"], i.get("namespace")) for i in output] == [
        ("function_call", "read", "files"),
        ("custom_tool_call", "patch", None),
        ("custom_tool_call", "patch", "files"),
    ]
    given = ['{"path": "a"}', "line 1\nline 2", "free text"]
    assert [i.get("arguments", i.get("input")) for i in output] == given
    assert [e["input"] for e in stream if e["type"].endswith("input.done")] == given[1:]
    results = [
        {"type": i["type"] + "_output", "call_id": i["call_id"], "output": "c"} for i in output
    ]
    sent = to_messages(chat([*output, *results]).messages, {})
    assert [turn.role for turn in sent] == ["assistant", "user", "user", "user"]
    assert [turn.text.partition(">")[0] for turn in sent[1:]] == [
        f'<tool_result name="{name}"' for name in ("files.read", "patch", "files.patch")
    ]
    assert sent[0].text.count('"arguments": {"input":') == 2
    said = [{"type": "item_reference", "id": item["id"]} for item in output]
    again = json.dumps({"model": "m", "input": [*said, *results]}).encode()
    referred = RESPONSES.decode(again).chat(one.ended_items())
    assert to_messages(referred.messages, {}) == sent
