"""Relayed answers: a whole answer says the same as a streamed one, whatever its pieces are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

from hypothesis import strategies as st

from app.openai.dialect import RenderOptions
from app.openai.errors import JobFailed
from app.relayed.folding import UnreadableAnswer
from app.relayed.form import Head
from app.relayed.forms import FORMS
from app.relayed.rendering import RelayedRendering
from tests.support.fuzzing import Json, bodies, encoded, fuzzed
from tests.support.work import lines_of_code
from wire.events import Complete, Event, Failed, Piece
from wire.jobs import ApiPath

_TEXT = st.text(max_size=6) | st.sampled_from(["", "\ud83d", "\udca1", "\u2028", "a\nb", "{", '"'])
_HEAD = Head("chatcmpl-0123456789abcdef", 1, "asked")


def _chunk(*choices: Json, **more: Json) -> Json:
    return {"object": "chat.completion.chunk", "choices": list(choices), **more}


_SHAPES: dict[ApiPath, list[Json]] = {
    "chat/completions": [
        _chunk({"index": 0, "delta": {"role": "assistant", "content": "a"}, "finish_reason": None}),
        _chunk({"index": 1, "delta": {"content": None, "tool_calls": [{"index": 0, "id": "a"}]}}),
        _chunk({"index": 0, "delta": {}, "finish_reason": "stop", "logprobs": {"content": [{}]}}),
        _chunk({"delta": {"function_call": {"name": "f", "arguments": "{"}}}, usage={"n": 1}),
        _chunk(usage=None, system_fingerprint="fp"),
    ],
    "completions": [
        _chunk({"index": 0, "text": "a", "logprobs": {"tokens": ["a"], "offset": [0]}}),
        _chunk({"index": 1, "text": "b", "finish_reason": "stop", "token_ids": [1, 2]}),
    ],
    "responses": [
        {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}},
        {"type": "response.output_text.delta", "delta": "a"},
        {"type": "response.completed", "response": {"id": "r", "output": [{"a": [1]}]}},
    ],
    "messages": [
        {"type": "message_start", "message": {"id": "m", "content": [], "usage": {"in": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}},
        {"type": "content_block_delta", "index": 1, "delta": {"partial_json": '{"a":'}},
        {"type": "content_block_delta", "index": 0, "delta": {"citation": {"url": "u"}}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"out": 2}},
    ],
    "embeddings": [{"data": [{"embedding": [0.5], "index": 0}]}],
}
_PATHS = st.sampled_from(list(_SHAPES))


def _named(data: bytes) -> Piece:
    for shapes in _SHAPES.values():
        for shape in shapes:
            kind = shape.get("type", "")
            if kind and kind.encode() in data:
                return Piece(data, kind)
    return Piece(data)


@st.composite
def answers(draw: st.DrawFn, path: ApiPath) -> list[Event]:
    """The events of a relayed answer, some of them damaged."""
    whole = st.sampled_from(_SHAPES[path]).map(lambda one: _named(encoded(one)))
    piece = whole | bodies(_SHAPES[path]).map(_named)
    ending: st.SearchStrategy[Event] = st.sampled_from(
        [Complete(), Complete(b'{"choices":[],"usage":{"n":2}}'), Failed("upstream_error", "no")]
    )
    events: list[Event] = list(draw(st.lists(piece, max_size=10)))
    events.append(draw(ending))
    return events


async def rendered(
    path: ApiPath, batches: list[list[Event]], options: RenderOptions, *, streamed: bool
) -> tuple[bytes, RelayedRendering]:
    """An answer as a client gets it."""
    form = FORMS[path](_HEAD)
    shown = RelayedRendering(form, options, None if streamed else form.fold())
    said = b""
    for batch in batches:
        said += await shown.add(batch)
        if shown.failure or shown.is_complete:
            break
    if shown.is_complete and not shown.failure:
        try:
            said += await (shown.ending() if streamed else shown.whole())
        except JobFailed as failure:
            shown.failure = failure
    return said, shown


@fuzzed(_PATHS, st.data())
def test_a_whole_answer_is_json_or_an_error_of_the_upstream(
    path: ApiPath, data: st.DataObject
) -> None:
    events = data.draw(answers(path))
    body, shown = asyncio.run(rendered(path, [events], RenderOptions(), streamed=False))
    one_by_one = asyncio.run(
        rendered(path, [[event] for event in events], RenderOptions(), streamed=False)
    )
    assert (one_by_one[0], str(one_by_one[1].failure)) == (body, str(shown.failure))
    if shown.failure is not None:
        assert shown.failure.http_status == 502
    elif path != "embeddings":
        assert isinstance(json.loads(body), dict)


@fuzzed(_PATHS, st.data(), st.integers(0, 12))
def test_a_stream_that_is_resumed_goes_on_where_it_was_left(
    path: ApiPath, data: st.DataObject, after: int
) -> None:
    batches = [[event] for event in data.draw(answers(path))]
    numbered = RenderOptions(numbered=True, include_usage=True)
    whole, _ = asyncio.run(rendered(path, batches, numbered, streamed=True))
    resumed = RenderOptions(numbered=True, include_usage=True, resume_after=after)
    rest, _ = asyncio.run(rendered(path, batches, resumed, streamed=True))
    assert whole.endswith(rest)
    assert rest == whole or after


def said(batches: list[Json]) -> dict[tuple[int, str], str]:
    """The texts of all choices, by the choice and the field."""
    texts: dict[tuple[int, str], str] = {}
    for chunk in batches:
        for choice in chunk["choices"]:
            for field, text in choice["delta"].items():
                key = choice["index"], field
                texts[key] = texts.get(key, "") + text
    return texts


_FIELDS = st.sampled_from(["content", "reasoning_content", "refusal"])
_DELTAS = st.dictionaries(_FIELDS, _TEXT, max_size=2)
_CHUNKS = st.lists(st.tuples(st.integers(0, 2), _DELTAS), max_size=15)


def _sent(chunks: list[tuple[int, dict[str, str]]]) -> Iterator[Json]:
    for index, delta in chunks:
        yield _chunk({"index": index, "delta": delta, "finish_reason": None})


@fuzzed(_CHUNKS)
def test_the_folded_texts_are_the_streamed_ones(chunks: list[tuple[int, dict[str, str]]]) -> None:
    sent = list(_sent(chunks))
    events: list[Event] = [*(Piece(encoded(one)) for one in sent), Complete()]
    body, shown = asyncio.run(
        rendered("chat/completions", [events], RenderOptions(), streamed=False)
    )
    assert shown.failure is None
    folded = {choice["index"]: choice["message"] for choice in json.loads(body)["choices"]}
    for (index, field), text in said(sent).items():
        whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        assert (folded[index].get(field) or "") == whole
    assert folded.keys() == {index for index, _ in chunks}


@fuzzed(st.lists(_TEXT, min_size=1, max_size=10))
def test_the_folded_input_of_a_tool_is_the_streamed_one(texts: list[str]) -> None:
    value = encoded({"a": texts}).decode()
    cuts = [value[at : at + 7] for at in range(0, len(value), 7)]
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use"}}
    sent = [
        {"type": "message_start", "message": {"id": "m", "content": []}},
        start,
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"partial_json": piece}}
            for piece in cuts
        ),
    ]
    fold = FORMS["messages"](_HEAD).fold()
    for one in sent:
        fold.add(_named(encoded(one)))
    try:
        body = json.loads(fold.body())
    except UnreadableAnswer:
        raise AssertionError("a tool's input that a client sent is unreadable") from None
    halves = any("\ud800" <= letter <= "\udfff" for text in texts for letter in text)
    assert halves or body["content"][0]["input"] == {"a": texts}


@fuzzed(_PATHS, st.data())
def test_the_work_is_in_proportion_to_the_answer(path: ApiPath, data: st.DataObject) -> None:
    events = data.draw(answers(path))
    size = sum(len(event.data) for event in events if isinstance(event, Piece))
    fold = FORMS[path](_HEAD).fold()

    def work() -> None:
        try:
            for event in events:
                if isinstance(event, Piece):
                    fold.add(event)
            fold.body()
        except UnreadableAnswer:
            pass

    assert lines_of_code(work) < 10_000 + 40 * size
