"""Pandora's answers: records and operations of any shape, translated into events."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from app.openai.answers import Usage
from app.openai.chunks import ChatAnswer
from app.openai.reading import AnswerReader
from settings import Bot
from tests.support.fuzzing import ODD_TEXTS, PLACES, Json, bodies, cut, fuzzed
from tests.support.turns import (
    RUNNING,
    browsed,
    cited,
    code,
    download,
    drawn,
    output,
    system_error,
    text,
    tool,
)
from tests.support.work import lines_of_code
from wire.events import Batch, Delta, Done, Failed, Started, decode_frame, encode_frame
from workers.pandora.translate.exchange import LONGEST_DELTA, STEP_OUTPUTS, Exchange
from workers.pandora.translate.links import link_target, web_url
from workers.pandora.translate.message import Output
from workers.pandora.translate.placeholders import PermissionRequest

PARTS = "/message/content/parts/0"
_ASKS = {
    "type": "confirm_action",
    "body": {
        "domain": "example.com",
        "operation": "get",
        "actions": [
            {"type": "allow", "allow": {"target_message_id": "t", "operation_hash": "h"}},
            {"type": "deny", "deny": {"target_message_id": "t"}},
        ],
    },
}
MARKS = "a【1†source】b【2:0†f】c (sandbox:/mnt/data/a.csv) \ue200cite\ue202turn0search1\ue201 d"
RECORDS: list[Json] = [
    text("Hel", status=RUNNING),
    text("Hello", status=RUNNING),
    text("Hello world"),
    text(MARKS, "marks", citations=[cited(1, "https://example.com"), cited(2, None, 20, 0)]),
    text(MARKS, "marks", content_references=[{"matched_text": MARKS[-40:], "items": [{}]}]),
    text("half \ufffd", "half", status=RUNNING),
    code("print(1)"),
    code("search", "query", "browser", RUNNING),
    output("1\n<<ImageDisplayed>>", "file-a"),
    output("1\n<<Image", id="out", status=RUNNING),
    system_error("boom"),
    tool("dalle.text2im", "refused"),
    tool("plugin", "asks", jit_plugin_data={"from_server": _ASKS}),
    browsed(),
    drawn("file-a", "file-gone"),
    {"error": {"message": "too many", "code": "model_cap_exceeded", "clears_in": 9}},
    {"detail": [{"loc": ["body", "a"], "msg": "bad", "type": "value"}]},
    {"type": "moderation", "moderation_response": {"blocked": True}, "conversation_id": "c"},
]
OPERATIONS: list[Json] = [
    {"p": "", "o": "add", "v": text("", status=RUNNING), "c": 0},
    {"v": text("", "other", status=RUNNING), "c": 1},
    {"p": PARTS, "o": "append", "v": "more "},
    {"v": "again"},
    {"p": PARTS, "o": "truncate", "v": 3},
    {"p": "/message/status", "o": "replace", "v": "finished_successfully"},
    {"p": "/message/content/parts/-", "o": "add", "v": "part"},
    {"p": "/message/metadata", "o": "append", "v": {"citations": [cited(1, "https://a")]}},
    {"p": "/message/end_turn", "o": "remove", "v": None},
    {"o": "patch", "p": "", "v": [{"p": PARTS, "o": "append", "v": "x"}, {"v": "y"}]},
]


def _event(name: bytes, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name, data.replace(b"\n", b" ").replace(b"\r", b" "))


_EVENTS = st.one_of(
    bodies(RECORDS).map(lambda data: _event(b"message", data)),
    st.sampled_from(RECORDS[:3]).map(lambda one: _event(b"", json.dumps(one).encode())),
    bodies(OPERATIONS).map(lambda data: _event(b"delta", data)),
    st.sampled_from(OPERATIONS).map(lambda one: _event(b"delta", json.dumps(one).encode())),
    st.sampled_from([_event(b"ping", b"2024"), b"data: [DONE]\n\n", b"data:\n\n", b": c\n\n"]),
)
STREAMS = st.lists(_EVENTS, max_size=10).map(b"".join)


def translated(reads: list[bytes]) -> tuple[list[Output], Exchange]:
    """The outputs of a stream, and the exchange at its end."""
    exchange = Exchange("model", "allow")
    outputs: list[Output] = []
    for read in [*reads, b""]:
        if exchange.ending is not None or exchange.granted is not None:
            break
        for step, _ in exchange.feed(read):
            assert len(step) <= STEP_OUTPUTS
            outputs += step
    return outputs, exchange


def joined(outputs: list[Output]) -> list[Output]:
    """The same outputs, with adjacent texts of a kind as one."""
    whole: list[Output] = []
    for one in outputs:
        last = whole[-1] if whole else None
        if isinstance(one, Delta) and isinstance(last, Delta) and one.kind == last.kind:
            whole[-1] = Delta(last.text + one.text, one.kind)
        else:
            whole.append(one)
    return whole


@fuzzed(STREAMS, PLACES)
def test_an_answer_is_translated_the_same_however_it_is_cut(
    stream: bytes, places: list[int]
) -> None:
    outputs, exchange = translated([stream])
    in_pieces, again = translated(cut(stream, places))
    assert joined(in_pieces) == joined(outputs)
    assert (again.ending, again.granted) == (exchange.ending, exchange.granted)


@fuzzed(STREAMS)
def test_an_answer_has_one_ending_and_nothing_after_it(stream: bytes) -> None:
    outputs, exchange = translated([stream])
    endings = [one for one in outputs if isinstance(one, Done | Failed)]
    assert endings == [exchange.ending] * (exchange.granted is None)
    assert exchange.granted is not None or outputs[-1] == exchange.ending
    assert [isinstance(one, Started) for one in outputs].count(True) <= 1
    assert all(0 < len(one.text) <= LONGEST_DELTA for one in outputs if isinstance(one, Delta))
    assert not any(isinstance(one, PermissionRequest) for one in outputs)
    for one in endings:
        assert isinstance(one, Done) or 0 < len(one.message) <= 600


@fuzzed(STREAMS)
def test_a_client_gets_the_same_text_streamed_and_whole(stream: bytes) -> None:
    outputs, _ = translated([stream])
    events = [download(one) for one in outputs]
    frame = encode_frame([Batch("id", 1, 0, events)])
    (batch,) = decode_frame(frame)
    assert batch.events == events
    streamed, whole = (ChatAnswer("id", "m", 0, AnswerReader(Bot())) for _ in range(2))
    whole.add(batch.events)
    chunks = b"".join(streamed.add([event]) for event in batch.events)
    assert streamed.failure is None or streamed.failure.http_status >= 400
    if whole.finish is not None:
        said = json.loads(whole.whole(Usage(0, 0, 0)))["choices"][0]["message"]["content"]
        deltas = [json.loads(line[6:]) for line in chunks.split(b"\n\n") if line]
        texts = [delta["choices"][0]["delta"].get("content", "") for delta in deltas]
        assert "".join(texts) == said


@fuzzed(STREAMS)
def test_the_work_is_in_proportion_to_the_answer(stream: bytes) -> None:
    steps = lines_of_code(lambda: translated([stream]))
    assert steps < 20_000 + 40 * len(stream)


@fuzzed(ODD_TEXTS | st.from_regex(r"https?://[ -~]{0,40}", fullmatch=True))
def test_a_link_cannot_leave_its_parentheses(url: str) -> None:
    if (found := web_url(url)) is not None:
        target = link_target(found)
        assert target.lower().startswith(("http://", "https://"))
        depth = 0
        for letter in target:
            depth += (letter == "(") - (letter == ")")
            assert depth >= 0
        assert depth == 0
        assert not any(letter.isspace() or letter in "<>" for letter in target)
