"""Texts of models, read as tool calls and as JSON, and their answers in every dialect."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise

import msgspec
from hypothesis import strategies as st
from msgspec.structs import replace

from app.anthropic.rendering import MESSAGES
from app.openai.answers import Usage
from app.openai.chunks import CHATS
from app.openai.completions import COMPLETIONS
from app.openai.dialect import Answer, RenderOptions
from app.openai.reading import AnswerReader
from app.openai.responses.rendering import RESPONSES
from app.openai.tool_calls import LONGEST_BLOCK, MOST_BLOCKS, CallRules, ToolCall, ToolCallReader
from settings import Bot
from tests.support.fuzzing import ODD, PLACES, Json, bodies, encoded, fuzzed
from tests.support.work import lines_of_code
from wire.events import (
    Asked,
    Break,
    Citation,
    Delta,
    Done,
    Drawing,
    Event,
    Failed,
    File,
    FormatMissed,
    Image,
    Refusal,
    Started,
)
from workers.json_check import check_json

_CALLS: list[Json] = [
    {"name": "f", "arguments": {"a": "b"}},
    {"name": "f", "arguments": '{"a": "b"}'},
    {"name": "n.g", "arguments": {"input": "free\ntext"}},
    {"name": "g", "arguments": "free"},
    [{"name": "f", "arguments": {}}, {"name": "f"}],
    {"name": "unknown", "arguments": {}},
]
_WORDS = st.one_of(
    st.sampled_from(["<tool_call>", "</tool_call>", "<tool_call", "<", "</", "```json\n", "```"]),
    st.sampled_from(["\n", " ", " " * 120, "text", "`", '{"name": "f"', '"', "\u2028", "x" * 300]),
    st.sampled_from(_CALLS).map(lambda one: f"<tool_call>\n{json.dumps(one)}\n</tool_call>"),
    bodies(_CALLS).map(lambda body: f"<tool_call>{body.decode(errors='replace')}</tool_call>"),
    st.text(max_size=5),
)
TEXTS = st.lists(_WORDS, max_size=12).map("".join)
RULES = st.builds(
    CallRules,
    st.just(frozenset({"f", "g", "n.g"})),
    single=st.booleans(),
    custom=st.sampled_from([frozenset(), frozenset({"g", "n.g"})]),
    namespaces=st.sampled_from([{}, {"n.g": "n"}]),
)
_OTHERS: st.SearchStrategy[Event] = st.sampled_from(
    [
        Break(),
        Citation("1", "https://example.com"),
        Citation("2", None),
        Drawing(),
        Image("dalle", "https://img/a", prompt="p"),
        Image("python", None, error="gone"),
        File("https://files/a"),
        Refusal("no"),
        Asked("example.com", "get"),
        FormatMissed("invalid_json", "why"),
        Delta("code", "code"),
        Delta("out", "output"),
    ]
)
_ENDINGS: st.SearchStrategy[Event] = st.sampled_from(
    [
        Done("stop"),
        Done("length"),
        Done("content_filter"),
        Failed("upstream_error", "no"),
        Failed("reply_abandoned", "late"),
    ]
)


def pieces(text: str, places: list[int]) -> list[str]:
    """Cut a text at some places."""
    edges = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    return [text[begin:end] for begin, end in pairwise(edges)]


def read(texts: list[str], rules: CallRules) -> list[str | ToolCall]:
    """All that is read of an answer, with adjacent texts joined."""
    reader = ToolCallReader(rules)
    found = [piece for text in texts for piece in reader.add(text)] + reader.flush()
    assert "" not in found
    joined: list[str | ToolCall] = []
    for piece in found:
        if isinstance(piece, str) and joined and isinstance(joined[-1], str):
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


@fuzzed(TEXTS, RULES, PLACES)
def test_calls_are_read_the_same_however_the_text_is_cut(
    text: str, rules: CallRules, places: list[int]
) -> None:
    whole = read([text], rules)
    assert read(pieces(text, places), rules) == whole
    assert read(list(text), rules) == whole
    calls = [piece for piece in whole if isinstance(piece, ToolCall)]
    assert len(calls) <= MOST_BLOCKS * 100
    for call in calls:
        assert call.full_name in rules.names
        assert len(call.arguments) <= LONGEST_BLOCK * 6
        assert call.custom or isinstance(json.loads(call.arguments), dict)
    if not calls:
        assert "".join(map(str, whole)) == text


@fuzzed(TEXTS, RULES)
def test_the_work_is_in_proportion_to_the_text(text: str, rules: CallRules) -> None:
    assert lines_of_code(lambda: read([text], rules)) < 5_000 + 30 * len(text)


@fuzzed(st.sampled_from(["<tool_call>{", "<", "`", " ", "</tool_call>", "<tool_call>[]\n"]), RULES)
def test_no_repeated_text_takes_more_work_than_in_proportion(part: str, rules: CallRules) -> None:
    once = lines_of_code(lambda: read([part * 200], rules))
    twice = lines_of_code(lambda: read([part * 400], rules))
    assert twice < 2.2 * once + 1_000


_SCHEMAS: list[Json] = [
    {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}},
    {"type": "array", "items": {"enum": [1, "a", None]}, "uniqueItems": True, "minItems": 1},
    {"anyOf": [{"$ref": "#/$defs/a"}, {"const": 1}], "$defs": {"a": {"$ref": "#/$defs/a"}}},
    {"additionalProperties": False, "required": ["a"], "patternProperties": {"(a+)+$": {}}},
    {"$ref": "https://example.com/schema.json"},
    {},
]


@fuzzed(TEXTS | st.builds(json.dumps, ODD), bodies(_SCHEMAS) | st.just(b""))
def test_a_text_is_checked_against_any_schema(text: str, schema: bytes) -> None:
    if schema:  # the front end lets objects pass, as it has read them
        try:
            schema = msgspec.json.encode(msgspec.json.decode(schema, type=dict[str, object]))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
    checked = check_json(text, schema, 0.05)
    assert checked.text in text
    assert len(checked.reason) <= 300
    assert (checked.problem is None) == (checked.reason == "")


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    """The events of an answer."""
    texts = pieces(draw(TEXTS), draw(PLACES))
    said: Iterator[Event] = (Delta(text) for text in texts if text)
    events: list[Event] = [Started("gpt-4")]
    for one in said:
        events += (one, *draw(st.lists(_OTHERS, max_size=1)))
    events.append(draw(_ENDINGS))
    return events


_CHAT = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"a"}]}'
MAKERS = {
    "chat": CHATS.decode(_CHAT).answer,
    "completion": COMPLETIONS.decode(b'{"model":"m","prompt":"a"}').answer,
    "message": MESSAGES.decode(_CHAT).answer,
    "response": RESPONSES.decode(b'{"model":"m","input":"a"}').answer,
}
_STOPS = st.lists(st.sampled_from(["text", "</", "x" * 9, "\n"]), max_size=2)


def rendered(
    name: str, batches: list[list[Event]], reader: AnswerReader, options: RenderOptions
) -> tuple[bytes, Answer]:
    """An answer, and its stream."""
    answer = MAKERS[name]("chatcmpl-0123456789abcdef65799e70", "m", 1, reader, options)
    stream = b""
    for batch in batches:
        stream += answer.add(batch)
        if answer.finish or answer.failure:
            break
    if answer.finish:
        stream += answer.ending(Usage(1, 2, 3) if options.include_usage else None)
    return stream, answer


@fuzzed(
    st.sampled_from(list(MAKERS)),
    answers(),
    st.none() | RULES,
    _STOPS,
    st.none() | st.integers(1, 30),
)
def test_an_answer_is_the_same_however_its_events_arrive(
    name: str,
    events: list[Event],
    rules: CallRules | None,
    stops: list[str],
    tokens: int | None,
) -> None:
    if rules is not None:  # those that a request in this dialect can have
        rules = None if name == "completion" else rules
        rules = replace(rules, custom=frozenset()) if rules and name == "message" else rules
    options = RenderOptions(numbered=True, include_usage=True)

    def reader() -> AnswerReader:
        return AnswerReader(Bot(), stops, tokens, rules)

    stream, answer = rendered(name, [[event] for event in events], reader(), options)
    batched, again = rendered(name, [events], reader(), options)
    assert (batched, again.finish, again.text) == (stream, answer.finish, answer.text)
    assert (answer.finish is None) == (answer.failure is not None)
    for message in stream.decode().split("\n\n"):
        for line in message.split("\n"):
            if line.startswith("data: ") and line != "data: [DONE]":
                json.loads(line[6:])
    for after in (1, 3):
        resumed = RenderOptions(numbered=True, include_usage=True, resume_after=after)
        rest, _ = rendered(name, [events], reader(), resumed)
        assert stream.endswith(rest)
    if answer.finish:
        whole = json.loads(answer.whole(Usage(1, 2, 3)))
        assert encoded(whole)
