"""Both ends of the stream as pure values: events arrive in order, each once."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.events import (
    UNNUMBERED,
    Asked,
    Batch,
    Break,
    Citation,
    Delta,
    Done,
    Drawing,
    Event,
    Failed,
    File,
    Image,
    Refusal,
    Started,
    decode_frame,
)
from wire.events import encode_frame as encode
from wire.line.claims import Claim
from wire.stream.publication import Publication
from wire.stream.reply import Reply

CLAIM = Claim("main", "account", "chat", "job", 1, "key", "gpt_4_s", ["front"], b"")
BACKLOG = 1 << 20
texts = st.lists(st.text(min_size=1, max_size=5), max_size=30)


def heard(reply: Reply) -> list[Event]:
    async def take() -> list[Event]:
        return await asyncio.wait_for(reply.events(), 30)

    return asyncio.run(take()) if reply.begun else []


def said(events: list[Event]) -> str:
    return "".join(e.text for e in events if isinstance(e, Delta))


def batches(words: list[str], rng: random.Random) -> list[Batch]:
    """An answer, flushed at random times."""
    answer = Publication(CLAIM)
    taken = []
    answer.add([Started("m")])
    for word in words:
        answer.add([Delta(word)])
        if rng.random() < 0.4:
            taken.append(answer.take())
    answer.add([Done("stop")])
    return [*taken, answer.take()]


@given(texts, st.randoms(use_true_random=False))
def test_text_flushed_at_any_time_joins_to_the_whole(words: list[str], rng: random.Random) -> None:
    reply = Reply("job", BACKLOG)
    for batch in batches(words, rng):
        assert reply.accept(decode_frame(encode([batch]))[0])
    events = heard(reply)
    assert said(events) == "".join(words)
    assert events[-1] == Done("stop")
    assert reply.ended
    assert not reply.behind


@given(texts, st.randoms(use_true_random=False))
def test_lost_duplicate_and_reordered_frames_are_repaired_from_the_log(
    words: list[str], rng: random.Random
) -> None:
    all_batches = batches(words, rng)
    live = [b for b in all_batches if rng.random() < 0.6] * 2
    rng.shuffle(live)
    reply = Reply("job", BACKLOG)
    for batch in live:
        reply.accept(batch)
    log = all_batches + rng.sample(all_batches, len(all_batches) // 2)
    for batch in log:
        reply.accept(batch)
    assert said(heard(reply)) == "".join(words)
    assert reply.ended


@given(texts, st.integers(0, 30), st.randoms(use_true_random=False))
def test_the_log_may_be_split_into_other_batches_than_the_channel(
    words: list[str], seen: int, rng: random.Random
) -> None:
    answer = Publication(CLAIM)
    reply = Reply("job", BACKLOG)
    log: list[Batch] = []
    for number, word in enumerate(words):
        answer.add([Delta(word)])
        batch = answer.take()
        if number < seen:
            assert reply.accept(batch)
        if rng.random() < 0.3:
            entry = answer.unlogged()
            log.append(entry)
            if rng.random() < 0.8:  # otherwise its confirmation got lost: it is written again
                answer.mark_logged(entry, 0)
    answer.take()
    log.append(answer.unlogged(Done("stop")))
    for entry in log:
        assert reply.accept(entry)
    assert said(heard(reply)) == "".join(words)
    assert reply.ended


def test_nothing_after_a_gap_is_delivered() -> None:
    reply = Reply("job", BACKLOG)
    assert reply.accept(Batch("job", 1, 0, [Delta("a")]))
    assert not reply.accept(Batch("job", 1, 2, [Delta("c")]))
    behind = [reply.behind]
    assert reply.accept(Batch("job", 1, 1, [Delta("b"), Delta("c")]))
    assert [*behind, reply.behind] == [True, False]
    assert said(heard(reply)) == "abc"


def test_an_ending_without_a_number_ends_the_answer_at_once() -> None:
    reply = Reply("job", BACKLOG)
    reply.accept(Batch("job", 1, 0, [Delta("a")]))
    failed = Failed("gateway_error", "the worker died")
    assert reply.accept(Batch("job", 1, UNNUMBERED, [failed]))
    assert heard(reply) == [Delta("a"), failed]


def test_nothing_is_delivered_after_an_ending() -> None:
    reply = Reply("job", BACKLOG)
    reply.accept(Batch("job", 1, 0, [Done("stop")]))
    reply.accept(Batch("job", 1, 1, [Delta("late")]))
    reply.accept(Batch("job", 2, UNNUMBERED, [Failed("gateway_error", "late")]))
    assert heard(reply) == [Done("stop")]


def test_adjacent_text_becomes_one_piece() -> None:
    answer = Publication(CLAIM)
    answer.add([Started("m"), Delta("a"), Delta("b")])
    answer.add([Delta("c")])
    assert answer.take().events == [Started("m"), Delta("abc")]


def test_pieces_of_different_kinds_stay_apart() -> None:
    answer = Publication(CLAIM)
    said: list[Event] = [
        Delta("a"),
        Delta("b", "code"),
        Break(),
        Delta("c", "code"),
        Delta("d", "output"),
    ]
    answer.add(said)
    answer.add([Delta("e", "output")])
    assert answer.take().events == [*said[:-1], Delta("de", "output")]


@pytest.mark.parametrize(
    "event",
    [
        Started("m"),
        Delta("x"),
        Delta("x", "output"),
        Break(),
        Citation("6", None),
        Drawing(),
        Image("dalle", "https://ex.org/a", prompt="a cat"),
        Image("python", None, error="file_not_found"),
        File("https://ex.org/a", "a.csv"),
        Refusal("no"),
        Asked("ex.org", "get"),
        Done("length"),
        Failed("too_long", "m"),
    ],
)
def test_every_event_is_encoded_and_decoded_unchanged(event: Event) -> None:
    batch = Batch("job", 3, 7, [event])
    assert decode_frame(encode([batch])) == [batch]


# ----- a reader that does not read

TEN = Delta("x" * 10)


def piece(number: int, event: Event) -> Batch:
    return Batch("job", 1, number, [event])


def test_the_backlog_of_an_absent_reader_has_a_bound() -> None:
    reply = Reply("job", 25)
    told: list[str] = []
    reply.on_abandoned = lambda: told.append("at once")
    for number in range(3):
        assert reply.accept(piece(number, TEN))
    assert not told, "the first was in its hands"
    assert not reply.has_room(piece(3, TEN))
    assert reply.accept(piece(3, TEN))
    assert reply.ended
    assert reply.abandoned
    assert told == ["at once"]
    assert reply.accept(piece(4, TEN))
    *whole, failed = heard(reply)
    assert whole == [TEN] * 4
    assert isinstance(failed, Failed)
    assert (failed.fault, failed.code) == ("reply_abandoned", "slow_reader")


def test_a_single_batch_of_any_size_is_accepted() -> None:
    reply = Reply("job", 25)
    assert reply.has_room(piece(0, Delta("x" * 100)))
    assert reply.accept(piece(0, Delta("x" * 100)))
    assert not reply.ended


def test_an_answer_that_is_whole_does_not_fail_at_its_end() -> None:
    reply = Reply("job", 25)
    reply.accept(piece(0, TEN))
    reply.accept(Batch("job", 1, 1, [Delta("x" * 100), Done("stop")]))
    assert heard(reply)[-1] == Done("stop")
    assert not reply.abandoned


async def test_a_waiting_reader_that_was_not_scheduled_yet_is_not_slow() -> None:
    reply = Reply("job", 25)
    waiting = asyncio.create_task(reply.events())
    await asyncio.sleep(0)
    for number in range(10):
        reply.accept(piece(number, TEN))
    assert await waiting == [TEN] * 10
    assert not reply.ended


@given(st.lists(st.tuples(st.integers(1, 30), st.booleans()), max_size=50))
def test_the_backlog_never_exceeds_its_bound_by_more_than_two_batches(
    steps: list[tuple[int, bool]],
) -> None:
    reply = Reply("job", 40)
    for number, (size, reads) in enumerate(steps):
        reply.accept(piece(number, Delta("é" * size)))
        assert len(said(reply.unread.events)) * 2 <= 40 + 2 * 60
        if reads and not reply.ended:
            heard(reply)
