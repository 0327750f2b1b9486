"""The v1 delta encoding, alone and through the translation."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.turns import FINISHED, RUNNING, Record, code, message, shown, text, translate
from wire.events import Done, Failed
from workers.http.sse import ServerSentEvent
from workers.pandora.translate.delta_encoding import DeltaError, Documents
from workers.pandora.translate.records import Envelope, Mark, Operation, read_record

Step = dict[str, object]


def stream(*operations: object, done: bool = True) -> bytes:
    lines = ['event: delta_encoding\ndata: "v1"\n\n']
    lines += [f"event: delta\ndata: {json.dumps(one)}   \n\n" for one in operations]
    return ("".join(lines) + ("data: \n\ndata: [DONE]\n\n" if done else "")).encode()


def root(record: Record, count: int | None = None, **more: object) -> Step:
    return {**more, "v": record, **({} if count is None else {"c": count})}


FINISH: list[Step] = [
    {"p": "/message/status", "o": "replace", "v": FINISHED},
    {"p": "/message/end_turn", "o": "replace", "v": True},
    {"p": "/message/metadata", "o": "append", "v": {"is_complete": True}},
]
PARTS = "/message/content/parts/0"


def test_the_example_of_the_protocol_is_decoded() -> None:
    said = translate(
        stream(
            root(text("", status=RUNNING), 0, p="", o="add"),
            {"p": PARTS, "o": "append", "v": "Hel"},
            {"v": "lo"},
            {"p": "", "o": "patch", "v": [{"p": PARTS, "o": "append", "v": "!"}, *FINISH]},
            done=False,
        )
    )
    assert shown(said) == "Hello!"
    assert said[-1] == Done("stop")


def test_each_message_has_its_own_count() -> None:
    said = translate(
        stream(
            root(code("", status=RUNNING), 0, p="", o="add"),
            {"p": "/message/content/text", "o": "append", "v": "print("},
            {"v": "1)"},
            {"p": "", "o": "patch", "v": FINISH[:1]},
            root(text("", status=RUNNING), 1),
            {"p": PARTS, "o": "append", "v": "On"},
            {"v": "late", "p": "/message/metadata/pad", "o": "add", "c": 0},
            {"v": "e.", "p": PARTS, "o": "append", "c": 1},
        )
    )
    assert shown(said) == "\n```\nprint(1)\n```\nOne."


def test_citations_may_come_by_operations() -> None:
    source = {"start_ix": 1, "metadata": {"url": "https://U", "extra": {"cited_message_idx": 6}}}
    said = translate(
        stream(
            root(text("", status=RUNNING, citations=[]), 0, p="", o="add"),
            {"p": PARTS, "o": "append", "v": "A【6†sou"},
            {"v": "rce】 b"},
            {"p": "/message/metadata/citations/-", "o": "add", "v": source},
            {"p": PARTS, "o": "append", "v": "."},
        )
    )
    assert shown(said) == "A[[6](https://U)] b."


@pytest.mark.parametrize(
    ("path", "name", "value", "expected"),
    [
        ("/a", "add", 1, {"a": 1, "l": ["x", "y"], "d": {"k~/": "v"}}),
        ("/a", "replace", 1, {"a": 1, "l": ["x", "y"], "d": {"k~/": "v"}}),
        ("/a", "append", "z", {"a": "stz", "l": ["x", "y"], "d": {"k~/": "v"}}),
        ("/a", "truncate", 1, {"a": "s", "l": ["x", "y"], "d": {"k~/": "v"}}),
        ("/a", "remove", None, {"l": ["x", "y"], "d": {"k~/": "v"}}),
        ("/b", "append", "z", {"a": "st", "b": "z", "l": ["x", "y"], "d": {"k~/": "v"}}),
        ("/l", "append", ["z"], {"a": "st", "l": ["x", "y", "z"], "d": {"k~/": "v"}}),
        ("/l", "append", "z", {"a": "st", "l": ["x", "y", "z"], "d": {"k~/": "v"}}),
        ("/l/-", "add", "z", {"a": "st", "l": ["x", "y", "z"], "d": {"k~/": "v"}}),
        ("/l/0", "add", "z", {"a": "st", "l": ["z", "x", "y"], "d": {"k~/": "v"}}),
        ("/l/0", "replace", "z", {"a": "st", "l": ["z", "y"], "d": {"k~/": "v"}}),
        ("/l/0", "remove", None, {"a": "st", "l": ["y"], "d": {"k~/": "v"}}),
        ("/l", "truncate", 1, {"a": "st", "l": ["x"], "d": {"k~/": "v"}}),
        ("/d", "append", {"n": 1}, {"a": "st", "l": ["x", "y"], "d": {"k~/": "v", "n": 1}}),
        ("/d/k~0~1", "append", "w", {"a": "st", "l": ["x", "y"], "d": {"k~/": "vw"}}),
    ],
)
def test_each_operation_is_applied(path: str, name: str, value: object, expected: Step) -> None:
    documents = Documents()
    holder: dict[str, Any] = {"a": "st", "l": ["x", "y"], "d": {"k~/": "v"}}
    envelope: Record = {"message": {"id": "m"}, "error": holder}
    documents.apply(Operation(envelope, p="", o="add", c=0))
    assert documents.apply(Operation(value, p=f"/error{path}", o=name)).error == expected


@pytest.mark.parametrize(
    "nonsense",
    [
        {"p": "/no/such/place", "o": "append", "v": "x"},
        {"p": PARTS, "o": "append", "v": 7},
        {"p": PARTS, "o": "truncate", "v": "x"},
        {"p": "/message/content/parts/9", "o": "replace", "v": "x"},
        {"p": "/message/content/parts/x", "o": "replace", "v": "x"},
        {"p": f"/message/content/parts/{10**30}", "o": "add", "v": "x"},
        {"p": PARTS, "o": "brand_new", "v": "x"},
        {"p": "", "o": "patch", "v": 7},
        {"p": "", "o": "patch", "v": [7, {"p": 7}, {"p": "/no/such", "o": "append", "v": "x"}]},
        {"p": "", "o": "remove", "v": None},
        {"p": "", "v": "x", "c": 99},
        [],
        "text",
        {"p": PARTS},
    ],
)
def test_an_operation_that_makes_no_sense_changes_nothing(nonsense: object) -> None:
    begin = root(text("", status=RUNNING), 0, p="", o="add")
    say = {"p": PARTS, "o": "append", "v": "Hel", "c": 0}
    more = {"p": PARTS, "o": "append", "v": "lo", "c": 0}
    assert shown(translate(stream(begin, say, nonsense, more))) == "Hello"


def test_a_stream_that_breaks_off_fails() -> None:
    said = translate(
        stream(
            root(text("", status=RUNNING), 0, p="", o="add"),
            {"p": PARTS, "o": "append", "v": "Hel"},
            done=False,
        )
    )
    assert isinstance(said[-1], Failed)


def test_messages_without_number_do_not_fill_the_memory() -> None:
    documents = Documents()
    record = message("m", {"content_type": "text"})
    for count in range(1000):
        assert isinstance(documents.apply(Operation(record, c=count)), Envelope)
    with pytest.raises(DeltaError):
        documents.apply(Operation(record, c=1000))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["p", "o", "v", "c", "message", "x"]), inner)
        ),
        max_leaves=20,
    )
)
def test_any_operation_either_applies_or_raises_the_declared_error(value: object) -> None:
    record = read_record(ServerSentEvent("delta", json.dumps(value).encode()))
    assert isinstance(record, Operation) or record is Mark.UNKNOWN
    documents = Documents()
    if isinstance(record, Operation):
        for _ in range(2):
            try:
                documents.apply(record)
            except DeltaError:
                pass
