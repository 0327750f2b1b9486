"""Work on answers that were made to be slow: twice the input takes about twice the steps."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.turns import RUNNING, cited, output, text, tool, wire
from tests.support.work import Searched, lines_of_code
from wire.events import Delta, Failed
from workers.http.sse import EventParser
from workers.pandora.translate.exchange import (
    LONGEST_DELTA,
    MAX_VALUES,
    STEP_CHARACTERS,
    STEP_OUTPUTS,
    Exchange,
    Step,
)
from workers.pandora.translate.markers import Markers
from workers.pandora.translate.turn import MAX_MESSAGES

PARTS = "/message/content/parts/0"


def mark(number: int) -> str:
    return f"【{number % 9999}†s】"


def later(number: int) -> str:
    return f"\ue200cite\ue202turn0search{number}\ue201"


def marks(number: int) -> str:
    return "".join(map(mark, range(number)))


def references(number: int) -> list[dict[str, object]]:
    return [{"matched_text": later(n), "items": [{}] * 30} for n in range(number)]


def operations(number: int) -> bytes:
    begin = {"p": "", "o": "add", "v": text("", status=RUNNING, citations=[cited(1, "u")])}
    steps = [{"p": PARTS, "o": "append", "v": mark(n)} for n in range(number)]
    return b"".join(
        b"event: delta\ndata: " + json.dumps(step).encode() + b"\n\n" for step in [begin, *steps]
    )


def long_text(length: int, operation: dict[str, object], number: int) -> bytes:
    """Operations on a text that is long."""
    begin = {"p": "", "o": "add", "v": text("", status=RUNNING)}
    first = {"p": PARTS, "o": "append", "v": "x" * length}
    return b"".join(
        b"event: delta\ndata: " + json.dumps(each).encode() + b"\n\n"
        for each in [begin, first, *[operation] * number]
    )


HOSTILE: dict[str, Callable[[int], bytes]] = {
    "marks": lambda n: wire([text(marks(n))]),
    "marks of a running message": lambda n: wire([text(marks(n), status=RUNNING)]),
    "marks and sources": lambda n: wire(
        [text(marks(n), citations=[cited(i, "https://a") for i in range(n, 2 * n)])]
    ),
    "marks at odd places": lambda n: wire(
        [text(marks(n), citations=[cited(1, "https://a", i) for i in range(n)])]
    ),
    "later marks and references": lambda n: wire(
        [text("".join(map(later, range(n))), content_references=references(n))]
    ),
    "one late source": lambda n: wire(
        [text(mark(1) + "." * i, status=RUNNING, citations=[cited(2, None)] * 9) for i in range(n)]
    ),
    "parentheses": lambda n: wire([text("(" * n)]),
    "pairs of parentheses": lambda n: wire([text("(sandbox:/" + "()" * n)]),
    "nested links": lambda n: wire([text("(sandbox:/a(" * n)]),
    "links in a link": lambda n: wire([text("(sandbox:/a" + "(sandbox:/b)" * n)]),
    "openings of images": lambda n: wire([output("<<ImageDisplayed" * n)]),
    "angle brackets": lambda n: wire([output("<" * n)]),
    "images": lambda n: wire([output("<<ImageDisplayed>>" * n)]),
    "messages": lambda n: wire([text("a", f"m{i}") for i in range(n)]),
    "messages of tools": lambda n: wire([tool("browser", "a", f"m{i}") for i in range(n)]),
    "operations": operations,
    "empty events": lambda n: b"data:\n\n" * n,
    "lines": lambda n: b"data: a\n" * n + b"\n",
}


def feed(data: bytes) -> list[Step]:
    exchange = Exchange("model", "no")
    return [*exchange.feed(data), *([] if exchange.ending else exchange.feed(b""))]


def work(data: bytes) -> int:
    """The lines of code that translating an answer executes."""
    return lines_of_code(lambda: feed(data))


@pytest.mark.parametrize("name", HOSTILE)
def test_twice_the_input_is_about_twice_the_work(name: str) -> None:
    make = HOSTILE[name]
    assert work(make(800)) < 2.2 * work(make(400)) + 1000


def test_an_event_in_reads_of_32_kb_is_searched_once() -> None:
    def searched(size: int) -> int:
        parser = EventParser()
        held = parser._held = Searched()
        stream = b"data: " + b"x" * size + b"\n\n"
        events = []
        for at in range(0, len(stream), 32_768):
            events += parser.feed(stream[at : at + 32_768])
        assert [len(event.data) for event in events] == [size]
        return held.searched

    assert 900_000 < searched(1_000_000) < 1_010_000
    assert searched(2_000_000) < 2.1 * searched(1_000_000)


FRAGMENTS = ("(", ")", "(sandbox:/", "【", "†", "】", "1", ":", "\n", "\ue200", "\ue201", "x" * 50)


@given(st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=8).map("".join))
def test_no_repeated_text_takes_more_work_than_in_proportion(fragment: str) -> None:
    once, twice = (work(wire([text(fragment * n, citations=[cited(1, "u")])])) for n in (100, 200))
    assert twice < 2.2 * once + 1000


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=400))
def test_no_marker_is_looked_for_in_more_text_than_the_longest_takes(fragments: list[str]) -> None:
    """The work of the patterns themselves, which no trace of Python shows."""
    markers = Markers("text")
    for fragment in fragments:
        markers.feed(fragment)
        assert len(markers.held) <= 1000


@pytest.mark.parametrize("name", HOSTILE)
def test_the_outputs_come_in_portions(name: str) -> None:
    assert max(len(outputs) for outputs, _ in feed(HOSTILE[name](2000))) <= STEP_OUTPUTS


def test_a_long_text_comes_in_pieces_that_a_front_end_can_work_on() -> None:
    whole = "".join(f"{n} " for n in range(50_000))
    steps = feed(wire([text(whole)]))
    deltas = [output for outputs, _ in steps for output in outputs if isinstance(output, Delta)]
    assert "".join(delta.text for delta in deltas) == whole
    assert max(len(delta.text) for delta in deltas) <= LONGEST_DELTA
    longest = max(sum(len(o.text) for o in said if isinstance(o, Delta)) for said, _ in steps)
    assert longest <= STEP_CHARACTERS + LONGEST_DELTA


@pytest.mark.parametrize(
    "data",
    [
        wire([text("a", f"m{i}") for i in range(MAX_MESSAGES + 2)]),
        b"data: [" + b"[]," * (MAX_VALUES + 1) + b"\n\n",
        operations(1) * 20_000,
        b"data: " + b"x" * 4_300_000 + b"\n\n",
        long_text(1_000_000, {"v": "x"}, 12_000),
        long_text(10, {"p": "/message/content/parts", "o": "append", "v": ""}, 3000),
        long_text(
            1_000_000,
            {"v": [{"p": PARTS, "o": "append", "v": "x"}] * 200, "o": "patch", "p": ""},
            1,
        ),
    ],
    ids=["messages", "values", "operations", "bytes", "copies", "parts", "copies of a patch"],
)
def test_an_answer_beyond_every_measure_is_an_error(data: bytes) -> None:
    steps = feed(data)
    outputs, _ = steps[-1]
    assert isinstance(outputs[-1], Failed)
    assert "too many" in outputs[-1].message or "too large" in outputs[-1].message


def test_events_without_outputs_come_in_steps_that_show_life() -> None:
    steps = feed(wire([tool("browser", "page", f"m{n}") for n in range(100)]))
    assert len(steps) > 10
    assert all(alive for outputs, alive in steps[:10] if not outputs)
