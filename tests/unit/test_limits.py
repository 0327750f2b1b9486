"""Cutting a text in pieces has the same result as cutting the whole."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.openai import limits
from app.openai.limits import AnswerLimits
from wire.events import Finish
from wire.tokens.text import count, encoding

# Few letters, so that stop sequences do occur, overlap and begin without ending.
LETTERS = st.text("abc\n", max_size=40)
STOPS = st.lists(st.text("abc\n", min_size=1, max_size=5), max_size=4)
SAMPLES = [
    "hello",
    "world",
    "'s",
    "'LL",
    "12345",
    "```",
    "print(",
    ")",
    "=",
    "。",
    "，",
    "你好世界",
    "👩\u200d👩\u200d👧\u200d👦",
    "é",
    "हिन्दी",
    "ไทย",
    "—",
    "ÿ",
    "antidisestablishmentarianism",
]
ODD = [
    " ",
    "  ",
    " a",
    "\n",
    "\n\n",
    "\t",
    "e\u0301",
    "\x1c",
    "\u2028",
    "\u017f",
    "\ua7dc",
    "\U00020000",
]
WORDS = st.lists(st.sampled_from(SAMPLES + ODD) | st.text(max_size=6), max_size=40).map("".join)
PLACES = st.lists(st.integers(0, 200), max_size=30)


def pieces(text: str, places: list[int]) -> list[str]:
    at = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[a:b] for a, b in pairwise(at)]


def run(parts: list[str], stop: list[str], limit: int | None) -> tuple[str, Finish | None]:
    limited = AnswerLimits(stop, limit, encoding())
    said = ""
    for part in parts:
        said += limited.add(part)
        if limited.finish:
            return said, limited.finish
    said += limited.flush()
    return said, limited.finish


def whole(text: str, stop: list[str], limit: int | None) -> tuple[str, Finish | None]:
    """The reference: character by character for the stop, all tokens at once for the limit."""
    finish: Finish | None = None
    for end in range(len(text) + 1):
        if met := [s for s in stop if text[:end].endswith(s)]:
            text, finish = text[: end - len(max(met, key=len))], "stop"
            break
    tokens = encoding().encode_ordinary(text)
    if limit is not None and len(tokens) > limit:
        text = encoding().decode_bytes(tokens[:limit]).decode(errors="ignore")
        while count(text) > limit:
            text = text[:-1]
        return text, "length"
    return text, finish


@given(LETTERS, STOPS, PLACES)
def test_stop_sequences_cut_however_the_text_is_split(
    text: str, stop: list[str], places: list[int]
) -> None:
    assert run(pieces(text, places), stop, None) == whole(text, stop, None)
    assert run(list(text), stop, None) == whole(text, stop, None)


@settings(max_examples=500)
@given(WORDS, st.integers(1, 40), PLACES)
def test_max_tokens_cuts_after_exactly_that_many_tokens_however_the_text_is_split(
    text: str, limit: int, places: list[int]
) -> None:
    said, finish = expected = whole(text, [], limit)
    assert count(said) <= limit
    assert (finish == "length") == (count(text) > limit)
    assert run(pieces(text, places), [], limit) == expected
    assert run(list(text), [], limit) == expected


@given(WORDS, STOPS, st.integers(1, 30), PLACES)
def test_a_stop_sequence_and_a_limit_cut_where_the_first_of_them_does(
    text: str, stop: list[str], limit: int, places: list[int]
) -> None:
    assert run(pieces(text, places), stop, limit) == whole(text, stop, limit)


@given(WORDS | LETTERS, STOPS, PLACES)
def test_nothing_that_was_held_back_is_lost(text: str, stop: list[str], places: list[int]) -> None:
    stop = [s + "\x00" for s in stop]  # begins everywhere and is never whole
    said, finish = run(pieces(text.replace("\x00", ""), places), stop, 10_000)
    assert (said, finish) == (text.replace("\x00", ""), None)


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("one END two", ["END"], "one "),
        ("abcd", ["abcd", "bc"], "a"),  # complete first
        ("xabc", ["bc", "abc"], "x"),  # complete together: the longer
        ("aab", ["ab"], "a"),
        ("END", ["END"], ""),
        ("text", ["", "x"], "te"),
    ],
)
def test_a_stop_sequence_cuts_before_its_first_occurrence(
    text: str, stop: list[str], expected: str
) -> None:
    assert run([text], stop, None) == run(list(text), stop, None) == (expected, "stop")


def test_text_that_cannot_begin_a_stop_sequence_is_not_held_back() -> None:
    limited = AnswerLimits(["\n\nUser:"], None, encoding())
    assert [limited.add(p) for p in ("Hello", "\n", "world", "\n\nUse", "d")] == [
        "Hello", "", "\nworld", "", "\n\nUsed"
    ]  # fmt: skip


def test_far_from_the_limit_nothing_is_held_back_and_little_is_encoded() -> None:
    encoded = 0
    real = encoding()

    class Counting:
        decode_bytes = real.decode_bytes

        def encode_ordinary(self, text: str) -> list[int]:
            nonlocal encoded
            encoded += len(text)
            return real.encode_ordinary(text)

    limited = AnswerLimits([], 60_000, Counting())  # type: ignore[arg-type]  # all of it that is used
    for n in range(40_000):
        assert limited.add(f" w{n}") == f" w{n}" or n > 15_000
        if limited.finish:
            break
    assert limited.finish == "length"
    assert encoded < 200_000


@pytest.mark.parametrize("unit", ["a", "你", " ", "=", "7", "\n", "👍", "xyzzy"])
def test_a_text_that_never_divides_is_cut_within_the_limit_and_soon(unit: str) -> None:
    text = unit * (30_000 // len(unit))
    limit = 500
    said, finish = run([text[at : at + 3] for at in range(0, len(text), 3)], [], limit)
    assert finish == ("length" if count(text) > limit else None)
    assert text.startswith(said)
    assert count(said) <= limit
    if finish:
        assert count(said) > limit * 0.95 - 1
    assert limits._STEP < 3000  # so a run of 30,000 has been divided where nothing divides
