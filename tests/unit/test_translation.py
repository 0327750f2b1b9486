"""The upstream's records turned into our events."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.events import Delta, Done, Failed, Fault, Finish, Started
from workers.http.sse import EventParser, ServerSentEvent
from workers.pandora.translate.message import Output
from workers.pandora.translate.records import Envelope, Mark, read_record
from workers.pandora.translate.turn import Translator
from workers.upstream import BROKEN_OFF, NO_ANSWER

RUNNING = "in_progress"
FINISHED = "finished_successfully"
PARTIAL = "finished_partial_completion"
DONE = "[DONE]"
CUT = None  # the stream ends here without [DONE]

Line = dict[str, object] | str | None
Script = list[Line]


def message(
    *parts: object,
    id: str = "m1",
    status: str = RUNNING,
    end_turn: bool | None = None,
    role: str = "assistant",
    recipient: str | None = "all",
    content_type: str = "text",
    error: object = None,
    **metadata: object,
) -> dict[str, object]:
    return {
        "message": {
            "id": id,
            "author": {"role": role, "name": None, "metadata": {}},
            "content": {"content_type": content_type, "parts": list(parts)},
            "status": status,
            "end_turn": end_turn,
            "weight": 1.0,
            "metadata": {"model_slug": "slug", **metadata},
            "recipient": recipient,
        },
        "conversation_id": "c",
        "error": error,
    }


def finished(text: str, id: str = "m1", **more: object) -> dict[str, object]:
    return message(text, id=id, status=FINISHED, end_turn=True, **more)  # type: ignore[arg-type]


def code(text: str, id: str = "code", **metadata: object) -> dict[str, object]:
    return {
        "message": {
            "id": id,
            "author": {"role": "assistant"},
            "content": {"content_type": "code", "language": "unknown", "text": text},
            "status": FINISHED,
            "end_turn": False,
            "metadata": metadata,
            "recipient": "python",
        }
    }


def moderation(*, blocked: bool) -> dict[str, object]:
    verdict = {"flagged": blocked, "blocked": blocked, "moderation_id": "modr-1"}
    return {"conversation_id": "c", "message_id": "m", "moderation_response": verdict}


def play(translator: Translator, script: Script) -> list[Output]:
    events: list[Output] = []
    for line in script:
        if line is None:
            events += translator.end_of_stream()
        else:
            data = line if isinstance(line, str) else json.dumps(line)
            events += translator.feed(read_record(ServerSentEvent("message", data.encode())))
    return events


def translate(*script: Line) -> list[Output]:
    return play(Translator("requested"), list(script))


def said(events: list[Output]) -> str:
    """The prose alone."""
    prose = (event for event in events if isinstance(event, Delta) and event.kind == "text")
    return "".join(event.text for event in prose)


def answer(*texts: str, finish: Finish = "stop") -> list[Output]:
    return [Started("slug"), *map(Delta, texts), Done(finish)]


# ----- text


def test_cumulative_texts_are_turned_into_deltas() -> None:
    events = translate(
        message(""),
        moderation(blocked=False),
        message("Hel"),
        message("Hello"),
        finished("Hello"),
        finished("Hello", is_complete=True),
        finished("Hello", timestamp_="absolute"),
        moderation(blocked=False),
        DONE,
    )
    assert events == answer("Hel", "lo")


def test_started_precedes_the_first_text_and_not_an_empty_message() -> None:
    translator = Translator("requested")
    assert play(translator, [message("")]) == []
    assert play(translator, [message("a")]) == [Started("slug"), Delta("a")]


def test_without_a_model_slug_the_requested_model_has_answered() -> None:
    assert translate(message("a", model_slug=None), DONE)[0] == Started("requested")


def test_an_answer_that_comes_only_in_the_finished_message_is_not_lost() -> None:
    assert translate(message(""), finished("All of it."), DONE) == answer("All of it.")
    assert translate(message("All"), finished("All of it."), DONE) == answer("All", " of it.")


def test_an_empty_message_in_mid_text_does_not_repeat_the_text() -> None:
    gaps: Script = [message(""), message(), {"message": None}, {}, {"message": {"id": "m1"}}]
    assert translate(message("Hel"), *gaps, finished("Hello"), DONE) == answer("Hel", "lo")


def test_several_messages_of_one_turn_are_joined_without_a_separator() -> None:
    events = translate(
        message("Hello, world!", id="a", status=FINISHED),
        message("S", id="b"),
        finished("Second answer.", id="b"),
        DONE,
    )
    assert events == answer("Hello, world!", "S", "econd answer.")


def test_messages_may_be_interleaved() -> None:
    events = translate(
        message("a", id="1"), message("x", id="2"), finished("ab", id="1"), finished("xy", id="2")
    )
    assert said(events) == "axby"


def test_messages_not_meant_for_the_user_yield_nothing() -> None:
    events = translate(
        message("system", role="system", status=FINISHED, end_turn=True),
        message("echo", id="u", role="user"),
        message("DALL-E displayed 1 images.", id="t", role="tool"),
        message("secret thought", id="th", content_type="thoughts"),
        finished("It is 1.", id="m2"),
        DONE,
    )
    assert events == answer("It is 1.")


def test_parts_without_text_are_ignored() -> None:
    picture = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://x"}
    mixed = finished("a")
    mixed["message"]["content"] = {  # type: ignore[index]
        "content_type": "multimodal_text",
        "parts": ["See ", picture, None, "this."],
    }
    assert translate(mixed, DONE) == answer("See this.")


def test_a_text_that_changes_midway_yields_the_part_beyond_and_is_counted() -> None:
    translator = Translator("requested")
    events = play(translator, [message("Helo"), message("Hello"), finished("Hello you"), DONE])
    assert said(events) == "Heloo you"
    assert translator.rewritten


def test_a_text_that_shrinks_and_grows_again_is_neither_doubled_nor_counted() -> None:
    translator = Translator("requested")
    events = play(
        translator, [message("Hello, wo"), message("Hello"), finished("Hello, world"), DONE]
    )
    assert said(events) == "Hello, world"
    assert not translator.rewritten


def test_half_a_character_is_held_back_until_it_is_whole() -> None:
    translator = Translator("requested")
    events = play(translator, [message("a\ufffd"), message("a\ufffd\ufffd"), finished("a😀"), DONE])
    assert events == answer("a", "😀")
    assert not translator.rewritten


def test_a_replacement_character_that_belongs_to_the_text_is_not_lost() -> None:
    assert said(translate(message("a\ufffd"), message("a\ufffdb"), DONE)) == "a\ufffdb"
    assert said(translate(message("a\ufffd"), finished("a\ufffd"), DONE)) == "a\ufffd"
    assert said(translate(message("a\ufffd"), message(""), DONE)) == "a\ufffd"


# ----- endings


def test_done_is_an_end_without_a_finished_message_and_counted() -> None:
    translator = Translator("requested")
    assert play(translator, [message("Hel"), DONE]) == answer("Hel")
    assert translator.unfinished
    assert translator.ended


@pytest.mark.parametrize(
    "script",
    [
        [],
        [message("")],
        [message("sys", role="system", status=FINISHED, end_turn=True)],
        [moderation(blocked=False)],
        ["garbage"],
        [{"object": "chat.completion.chunk", "choices": [{"delta": {"content": "Hello"}}]}],
    ],
)
def test_done_without_any_answer_is_a_failure(script: Script) -> None:
    assert translate(*script, DONE) == [NO_ANSWER]


def test_an_empty_answer_that_the_model_finished_is_an_answer() -> None:
    assert translate(finished(""), DONE) == answer()


def test_done_after_a_finished_message_is_not_counted() -> None:
    translator = Translator("requested")
    play(translator, [finished("Hello"), DONE])
    assert not translator.unfinished


def test_a_stream_that_ends_after_the_turn_ends_with_stop() -> None:
    assert translate(finished("Hello"), CUT) == answer("Hello")
    assert translate(finished("Hello"), moderation(blocked=False), message(""), CUT) == answer(
        "Hello"
    )


@pytest.mark.parametrize(
    "script",
    [
        [],
        [message("Hel")],
        [message("Hel", end_turn=True)],
        [message("Hello", status=FINISHED)],
        [message("Hello", status=FINISHED, end_turn=False)],
        [finished("One"), message("Tw", id="m2")],
        [finished("Let me see."), code("print(1)")],
        [message("sys", role="system", status=FINISHED, end_turn=True)],
        [moderation(blocked=False)],
    ],
)
def test_a_stream_that_ends_anywhere_else_is_a_failure(script: Script) -> None:
    translator = Translator("requested")
    *before, last = play(translator, [*script, CUT])
    assert isinstance(last, Failed)
    assert last.fault == "upstream_error"
    assert not any(isinstance(event, Done | Failed) for event in before)
    assert translator.ended


def test_end_turn_alone_does_not_end_the_answer() -> None:
    events = translate(finished("One. ", id="a"), finished("Two.", id="b"), DONE)
    assert events == answer("One. ", "Two.")


@pytest.mark.parametrize(
    ("last", "finish"),
    [
        (finished("x", finish_details={"type": "stop", "stop_tokens": [1]}), "stop"),
        (finished("x", finish_details={"type": "max_tokens"}), "length"),
        (finished("x", finish_details={"type": "interrupted"}), "length"),
        (finished("x", finish_details={"type": "new kind"}), "stop"),
        (finished("x", finish_details=None), "stop"),
        (message("x", status=PARTIAL), "length"),
        (message("x", status=PARTIAL, end_turn=True, finish_details={"type": "stop"}), "length"),
    ],
)
def test_the_last_message_says_how_the_answer_finished(
    last: dict[str, object], finish: Finish
) -> None:
    assert translate(last, DONE) == answer("x", finish=finish)


def test_an_earlier_cut_message_does_not_make_the_answer_incomplete() -> None:
    cut = finished("a", id="1", finish_details={"type": "max_tokens"})
    assert translate(cut, finished("b", id="2"), DONE)[-1] == Done("stop")


def test_a_call_of_a_tool_that_was_cut_off_makes_the_answer_incomplete() -> None:
    """With its code hidden, as in bot mode, nothing else showed it."""
    cut = code("print(1", finish_details={"type": "max_tokens"})
    assert translate(finished("Let me see.", id="1"), cut, DONE)[-1] == Done("length")
    again = finished("Let me see.", id="2"), cut, code("print(2)", id="3"), DONE
    assert translate(*again)[-1] == Done("stop")
    output = message("2", id="4", role="tool", content_type="text", status=FINISHED)
    assert translate(cut, output, DONE)[-1] == Done("stop")


@pytest.mark.parametrize(
    "blocked",
    [
        moderation(blocked=True),
        {"type": "moderation", "conversation_id": "c", "message_id": "m"},
    ],
)
def test_a_blocked_answer_says_nothing_more(blocked: dict[str, object]) -> None:
    assert translate(message("Hel"), blocked, finished("Hello"), DONE) == answer(
        "Hel", finish="content_filter"
    )
    assert translate(blocked, finished("Hello"), CUT) == answer(finish="content_filter")


def test_a_moderation_event_that_blocks_nothing_does_not_end_the_answer() -> None:
    event = {"type": "moderation", **moderation(blocked=False)}
    assert translate(event, finished("Hello"), DONE) == answer("Hello")


def test_no_event_follows_the_end() -> None:
    endings: Script = [DONE, CUT, {"error": "no"}]
    for ending in endings:
        translator = Translator("requested")
        play(translator, [message("a"), ending])
        assert play(translator, [finished("abc"), {"error": "x"}, DONE, CUT]) == []


# ----- errors in the stream


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        ("Our systems have detected unusual activity from your system.", "forbidden"),
        ("Too many requests in 1 hour. Try again later.", "rate_limited"),
        ("Rate limit reached.", "rate_limited"),
        ("Something went wrong while generating the response.", "upstream_error"),
        ({"message": "The server had an error", "code": "server_error"}, "upstream_error"),
        ({"message": "Cap.", "code": "model_cap_exceeded", "clears_in": 5}, "rate_limited"),
        ({"message": "Too long.", "code": "message_length_exceeds_limit"}, "too_long"),
        ({"any": "thing"}, "upstream_error"),
        (True, "upstream_error"),
        (["a", "b"], "upstream_error"),
    ],
)
def test_an_error_event_is_an_error_whatever_follows(error: object, fault: Fault) -> None:
    (failed,) = translate({"message": None, "conversation_id": "c", "error": error}, DONE)
    assert isinstance(failed, Failed)
    assert failed.fault == fault
    assert failed.message
    if isinstance(error, str):
        assert failed.message == error
    if isinstance(error, dict):
        assert failed.code == error.get("code")
        assert failed.retry_after == error.get("clears_in")


def test_an_error_after_text_or_beside_a_message_is_an_error() -> None:
    assert translate(message("Hel"), {"error": "no"}, finished("Hello"), DONE) == [
        Started("slug"),
        Delta("Hel"),
        Failed("upstream_error", "no"),
    ]
    assert translate(finished("Hello", error="no"), DONE) == [Failed("upstream_error", "no")]
    assert translate({"detail": "no"}, DONE) == [Failed("upstream_error", "no")]


def test_an_empty_error_is_no_error() -> None:
    nothing: list[object] = [None, "", {}, [], False]
    for empty in nothing:
        assert translate(finished("Hello", error=empty), DONE) == answer("Hello")


# ----- records


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'"v1"',
        b"7",
        b"{not json}",
        b'{"message": "text"}',
        b'{"message": {"content": {"parts": [7]}}}',
        b'{"message": {"id": 7}}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xff",
        b'{"message": \xff}',
    ],
)
def test_an_undecodable_event_is_unknown_and_changes_nothing(data: bytes) -> None:
    record = read_record(ServerSentEvent("message", data))
    assert record is Mark.UNKNOWN
    translator = Translator("requested")
    play(translator, [message("Hel")])
    assert translator.feed(record) == []
    assert translator.unknown == 1
    assert play(translator, [finished("Hello"), DONE]) == [Delta("lo"), Done("stop")]


@pytest.mark.parametrize(
    "event",
    [
        {"type": "title_generation", "title": "New chat", "conversation_id": "c"},
        {"type": "message_stream_complete", "conversation_id": "c"},
        {"message": None},
        {"message": {}},
        {"message": {"author": None, "content": None, "metadata": None, "recipient": None}},
        {"message": {"author": {"role": "assistant"}, "content": {"parts": None}}},
    ],
)
def test_side_events_change_nothing(event: dict[str, object]) -> None:
    assert isinstance(read_record(ServerSentEvent("", json.dumps(event).encode())), Envelope)
    assert translate(message("Hel"), event, finished("Hello"), DONE) == answer("Hel", "lo")


def test_pings_are_recognized_by_name_or_timestamp() -> None:
    stamp = b"2023-12-15 08:18:09.331532"
    assert read_record(ServerSentEvent("ping", b"")) is Mark.PING
    assert read_record(ServerSentEvent("ping", stamp)) is Mark.PING
    assert read_record(ServerSentEvent("message", stamp)) is Mark.PING


def test_lines_may_be_padded_with_blanks() -> None:
    assert read_record(ServerSentEvent("message", b"[DONE]    ")) is Mark.DONE
    padded = b"  " + json.dumps(finished("Hello")).encode() + b"    "
    assert isinstance(read_record(ServerSentEvent("message", padded)), Envelope)


@pytest.mark.parametrize("half", [b"\xff", b"\xe4\xbd", b"\\ud83d", b"\\ude00", b"\xed\xa0\xbd"])
def test_an_invalid_character_does_not_damage_the_rest_of_the_answer(half: bytes) -> None:
    data = json.dumps(finished("HERE|after 然", is_complete=True), ensure_ascii=False).encode()
    record = read_record(ServerSentEvent("message", data.replace(b"HERE", b"before " + half)))
    assert isinstance(record, Envelope)
    assert record.message is not None
    text = record.message.text
    assert text.startswith("before \ufffd")
    assert text.endswith("\ufffd|after 然")
    text.encode()  # no half of a surrogate pair is left, which could not cross Redis


# ----- properties


@st.composite
def turns(draw: st.DrawFn) -> tuple[str, Script]:
    """Several messages one after the other, each growing to its text, with noise between."""
    texts = draw(st.lists(st.text(max_size=12), min_size=1, max_size=4))
    noise: Script = [
        moderation(blocked=False),
        {"type": "title_generation"},
        code("print(1)"),
        message("echo", id="u", role="user"),
        message("shown", id="t", role="tool"),
        "2023-12-15 08:18:09.331532",
        "garbage",
    ]
    script: Script = []
    for number, text in enumerate(texts):
        name = f"m{number}"
        for length in sorted(draw(st.lists(st.integers(0, len(text)), max_size=5))):
            script.append(message(text[:length], id=name))
            if draw(st.booleans()):
                script.append(message(*draw(st.sampled_from([[], [""]])), id=name))
            if draw(st.booleans()):
                script.append(draw(st.sampled_from(noise)))
        script += [finished(text, id=name)] * draw(st.integers(1, 3))
    return "".join(texts), script


@given(turns(), st.booleans())
def test_any_turn_yields_exactly_its_joined_texts(turn: tuple[str, Script], done: bool) -> None:
    text, script = turn
    events = translate(*script, DONE if done else CUT)
    assert said(events) == text
    assert events[0] == Started("slug")
    assert events[-1] == Done("stop")
    assert sum(isinstance(event, Started) for event in events) == 1
    assert Delta("") not in events


@given(turns(), st.integers(0, 60))
def test_a_turn_cut_anywhere_yields_a_prefix_of_its_text_and_one_ending(
    turn: tuple[str, Script], keep: int
) -> None:
    text, script = turn
    events = translate(*script[:keep], CUT)
    assert text.startswith(said(events))
    assert [isinstance(event, Done | Failed) for event in events].count(True) == 1
    assert isinstance(events[-1], Done | Failed)
    if isinstance(events[-1], Done):
        # Between two messages of this turn every ending looks like the last one.
        assert len(said(events)) <= len(text)


@given(
    st.lists(
        st.binary(max_size=60)
        .filter(lambda noise: b"[DONE]" not in noise)
        .map(lambda noise: b"data: " + noise + b"\n\n")
    )
)
def test_noise_never_raises_and_never_ends_as_a_complete_answer(noise: list[bytes]) -> None:
    translator = Translator("requested")
    events: list[Output] = []
    for block in noise:
        for event in EventParser().feed(block):
            events += translator.feed(read_record(event))
    assert [*events, *translator.end_of_stream()] == [BROKEN_OFF]
