"""Real answers of the real upstream, recorded by others, through the whole core."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from wire.events import Delta, Done, Drawing, Failed, Started
from workers.http.sse import EventParser, ServerSentEvent
from workers.pandora.refusals import judge
from workers.pandora.translate.message import Output
from workers.pandora.translate.placeholders import ImagePlaceholder
from workers.pandora.translate.records import Envelope, Mark, read_record
from workers.pandora.translate.turn import Translator
from workers.upstream import UpstreamBusy, UpstreamError

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "recorded"
MODEL = "text-davinci-002-render-sha"


def recorded(name: str) -> bytes:
    path = RECORDED / name
    if not path.is_file():
        pytest.skip(f"the recordings are not part of this repository, and {path} is not here")
    return path.read_bytes()


def translate(*reads: bytes) -> list[Output]:
    parser, translator = EventParser(), Translator("requested")
    events: list[Output] = []
    for read in reads:
        for event in parser.feed(read):
            events += translator.feed(read_record(event))
    return [*events, *translator.end_of_stream()]


def said(events: list[Output]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def final_text(stream: bytes) -> str:
    """The answer by simple means: the text of the last message in the stream."""
    messages = [
        json.loads(line.removeprefix(b"data: "))
        for line in stream.split(b"\n")
        if line.startswith(b'data: {"message"')
    ]
    text = messages[-1]["message"]["content"]["parts"][0]
    assert isinstance(text, str)
    return text


def test_a_recorded_stream_gives_exactly_its_final_text() -> None:
    stream = recorded("simatwa-20231215-resp.sse")
    text = final_text(stream)
    assert len(text) == 1399
    events = translate(stream)
    assert events[0] == Started(MODEL)
    assert events[-1] == Done("stop")
    assert said(events) == text
    assert len(events) > 200


def test_a_recorded_stream_gives_the_same_events_however_it_is_cut() -> None:
    stream = recorded("simatwa-20231215-resp.sse")
    whole = translate(stream)
    random = Random(20231215)
    for size in (17, 997, 1024, 1460, 65536):
        assert translate(*(stream[i : i + size] for i in range(0, len(stream), size))) == whole
    for _ in range(5):
        cuts = sorted(random.sample(range(len(stream)), 300))
        edges = [0, *cuts, len(stream)]
        assert translate(*(stream[a:b] for a, b in pairwise(edges))) == whole
    beginning = stream[:30_000]
    assert translate(*(beginning[i : i + 1] for i in range(len(beginning)))) == translate(beginning)


def test_a_recorded_stream_with_crlf_gives_the_same_events() -> None:
    stream = recorded("simatwa-20231215-resp.sse")
    crlf = stream.replace(b"\n", b"\r\n")
    for size in (1, 1023, len(crlf)):
        if size == 1:
            assert translate(*(bytes([b]) for b in crlf[-20_000:])) == translate(stream[-19_988:])
        else:
            assert translate(*(crlf[i : i + size] for i in range(0, len(crlf), size))) == translate(
                stream
            )


def test_a_recorded_stream_that_is_cut_ends_as_an_answer_only_after_its_turn() -> None:
    stream = recorded("simatwa-20231215-resp.sse")
    text = final_text(stream)
    done = stream.index(b"data: [DONE]")
    assert translate(stream[:done]) == translate(stream)
    turn_ends = stream.index(b"\n\n", stream.index(b'"status": "finished_successfully"')) + 2
    random = Random(1215)
    for end in [0, 1, turn_ends - 1, *random.sample(range(turn_ends), 40)]:
        events = translate(stream[:end])
        assert isinstance(events[-1], Failed)
        assert text.startswith(said(events))
    for end in [turn_ends, *random.sample(range(turn_ends, len(stream)), 40)]:
        assert translate(stream[:end]) == translate(stream)


def test_the_recorded_chinese_events_give_their_final_text() -> None:
    lines = recorded("bangbangde-20231206-events.jsonl").split(b"\n")
    stream = b"".join(b"data: " + line + b"\n\n" for line in lines if line)
    events = translate(stream, b"data: [DONE]\n\n")
    assert said(events) == final_text(stream)
    assert events[-1] == Done("stop")


def heard(name: str) -> list[list[Output]]:
    """Events from each event of a file on its own."""
    lines = [line for line in recorded(name).split(b"\n") if line]
    records = [read_record(ServerSentEvent("message", line)) for line in lines]
    assert all(isinstance(record, Envelope) for record in records)
    return [Translator("requested").feed(record) for record in records]


def test_the_recorded_tool_events_give_their_images_and_code() -> None:
    chart, drawing, search = heard("maxai-events.jsonl")
    assert chart == [
        Started("requested"),
        Delta("\n", "output"),
        Drawing(),
        ImagePlaceholder("python", "file-service://2073c3f9-f30e-4225-9728-6a3d2d7a41bd"),
    ]
    started, drawn = drawing
    assert started == Started("requested")
    assert isinstance(drawn, ImagePlaceholder)
    assert (drawn.tool, drawn.pointer) == ("dalle", "file-service://file-3lZoyavh3UZ9QJT5k1dJjk4J")
    assert drawn.prompt is not None
    assert drawn.prompt.startswith("A serene, luminous full moon")
    started, code = search
    assert isinstance(code, Delta)
    assert code.kind == "code"
    assert code.text.endswith('search("2023年5月16日')


def test_the_recorded_running_search_yields_no_text() -> None:
    assert heard("acheong08-1375-browsing-event.json") == [[]]


def test_the_recorded_error_event_is_forbidden() -> None:
    data = recorded("ptv1-issue53-error-event.json").strip()
    assert translate(b"data: " + data + b"\n\ndata: [DONE]\n\n") == [
        Failed("forbidden", json.loads(data)["error"])
    ]


def test_the_recorded_delta_stream_gives_exactly_its_text_however_it_is_cut() -> None:
    stream = recorded("mldemo-20241016-v1delta.sse")
    values = [
        json.loads(line.removeprefix(b"data: "))["v"]
        for line in stream.split(b"\n")
        if line.startswith((b'data: {"v": "', b'data: {"p": "/message/content'))
    ]
    whole = translate(stream)
    assert said(whole) == "".join(values)
    assert said(whole).startswith("好的，我明白你的要求。")
    assert said(whole).endswith("提出后续的建议。")
    assert whole[0] == Started("gpt-4o")
    assert whole[-1] == Done("stop")
    for size in (1, 7, 64, 1000):
        assert translate(*(stream[i : i + size] for i in range(0, len(stream), size))) == whole
    # Its turn is over when its last two operations say so, and not before.
    cut = translate(stream[: stream.index(b'"o": "patch"')])
    assert isinstance(cut[-1], Failed)
    assert translate(stream[: stream.index(b"data: [DONE]")])[-1] == Done("stop")


def test_the_recorded_websocket_answer_is_an_error_that_says_so() -> None:
    body = recorded("ninja-issue504-wss-conversation-response.json")
    judged = judge(200, "application/json", body)
    assert isinstance(judged, UpstreamError)
    assert "WebSocket" in judged.failed.message
    assert "wss:" not in judged.failed.message


def test_the_recorded_cloudflare_page_is_forbidden_with_our_own_message() -> None:
    judged = judge(
        403, "text/html", recorded("simatwa-20231213-403-cloudflare-challenge.html"), None
    )
    assert isinstance(judged, UpstreamError)
    assert judged.failed.fault == "forbidden"
    assert judged.failed.code == "cloudflare_challenge"
    assert "<" not in judged.failed.message


def test_a_recorded_validation_error_does_not_quote_the_request() -> None:
    judged = judge(422, "application/json", recorded("simatwa-20231214-422-jsondecode.json"))
    assert isinstance(judged, UpstreamError)
    assert judged.failed.message == "body.0: Expecting value: line 1 column 1 (char 0)"


FAULTS = {
    401: "unauthorized",
    403: "forbidden",
    404: "upstream_error",
    413: "too_long",
    422: "upstream_error",
    429: "rate_limited",
    500: "upstream_error",
}


def test_each_recorded_error_body_is_mapped() -> None:
    rows = json.loads(recorded("errors.json"))
    judged_rows = 0
    for row in rows:
        status = int(str(row["status"]).split()[0])
        if "where" in row:
            continue  # not an answer to the POST
        judged = judge(status, "application/json", json.dumps(row["body"]).encode())
        detail = row["body"].get("detail", row["body"])
        if "Only one message at a time" in str(detail):
            assert isinstance(judged, UpstreamBusy)
        else:
            assert isinstance(judged, UpstreamError)
            failed = judged.failed
            assert failed.fault == FAULTS[status]
            match detail:
                case {"message": sentence}:
                    assert failed.message == sentence
                    assert failed.code == detail.get("code")
                case [{"msg": sentence}]:
                    assert failed.message.endswith(sentence)
                case _:
                    assert failed.message == detail
            if status == 429:
                clears_in = detail.get("clears_in") if isinstance(detail, dict) else None
                assert failed.retry_after == (clears_in or 60)
        judged_rows += 1
    assert judged_rows == 15


def test_done_is_detected_in_each_recording() -> None:
    for name in ("simatwa-20231215-resp.sse", "mldemo-20241016-v1delta.sse"):
        last = EventParser().feed(recorded(name))[-1]
        assert read_record(last) is Mark.DONE
