"""Made-up input: a few fixed values in `make test`, new ones for as long as `make fuzz` lasts.

Each file of `tests/fuzz` is about one surface. `make fuzz` gives each FUZZ_SECONDS, divided among
its tests, and keeps the values that failed in `.hypothesis`, to be tried first the next time.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import wraps
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SECONDS = float(os.environ.get("FUZZ_SECONDS") or 0)
"""Seconds for each surface; 0 for the few fixed values."""

LONGEST = 20
"""Seconds of one value, after which it counts as one that hangs."""

_ANY = settings(suppress_health_check=list(HealthCheck))
_FEW = settings(_ANY, max_examples=25, derandomize=True, database=None)
_MANY = settings(_ANY, max_examples=500)

_tests: Counter[str] = Counter()

Test = Callable[..., None]
Json = Any
"""A decoded JSON value."""


def fuzzed(*values: st.SearchStrategy[Any]) -> Callable[[Test], Test]:
    """Give a test made-up values for its arguments."""

    def decorate(test: Test) -> Test:
        _tests[test.__module__] += 1
        tried: Test = given(*values)(_guarded(test))
        return _repeated(_MANY(tried)) if SECONDS else _FEW(tried)

    return decorate


def _guarded(test: Test) -> Test:
    @wraps(test)
    def guarded(**values: object) -> None:
        try:
            with _alarm():
                test(**values)
        except Exception as error:
            error.add_note(f"with {values!r}"[:5000])
            raise

    return guarded


@contextmanager
def _alarm() -> Iterator[None]:
    former = signal.signal(signal.SIGALRM, _ring)
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def _ring(*_: object) -> None:
    pytest.fail(f"this value takes longer than {LONGEST} s")


def _repeated(test: Test) -> Test:
    """Try rounds of new values until the time of a test has passed."""

    def repeated() -> None:
        end = time.monotonic() + SECONDS / _tests[test.__module__]
        while time.monotonic() < end:
            test()

    repeated.__name__, repeated.__doc__ = test.__name__, test.__doc__
    repeated.__module__, repeated.__qualname__ = test.__module__, test.__qualname__
    return repeated


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """Cut bytes at some places, each counted from the beginning modulo their length."""
    edges = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[begin:end] for begin, end in pairwise(edges)]


PLACES = st.lists(st.integers(0, 1 << 16), max_size=8)
"""Places for `cut`."""

ODD_TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", " ", "\0", "\u2028", "\x85", "\ud83d", "\udc00", "\ufffd", "🙂", "null", "x" * 600]
    ),
)
ODD_NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.integers(),
    st.floats(),
    st.sampled_from([2**31, 2**53, 2**63, 2**64, -(2**63) - 1, 10**300, 10**400, 1e308, 5e-324]),
)
ODD: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | ODD_NUMBERS | ODD_TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ODD_TEXTS, inner, max_size=4),
    max_leaves=6,
)
"""Values of JSON, some of which are not JSON at all."""

_TOKENS = (
    *(b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"\0", b"\r", b"\n"),
    *(b'"', b"\\", b"\\u", b"\\ud83d", b"\\u0000", b"{", b"}", b"[", b"]", b",", b":", b"{},"),
    *(
        b"[" * 1200,
        b'{"a":' * 1200,
        b"1e999",
        b"-",
        b"9" * 400,
        b"9" * 5000,
        b"NaN",
        b"tru",
        b'{"":[]}',
    ),
)


@st.composite
def documents(draw: st.DrawFn, samples: Sequence[Json]) -> Json:
    """JSON values that are made of parts of the samples, some of them replaced by odd values."""
    document = deepcopy(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(0, 4))):
        document = _changed(draw, document, samples)
    return document


@st.composite
def bodies(draw: st.DrawFn, samples: Sequence[Json]) -> bytes:
    """JSON as `documents` makes it, with damage to its bytes."""
    body = encoded(draw(documents(samples)), ascii=draw(st.booleans()))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2, 3]))):
        at = draw(st.integers(0, len(body)))
        until = at + draw(st.sampled_from([0, 0, 0, 1, 2, 5, 50]))
        body = body[:at] + draw(st.sampled_from(_TOKENS) | st.binary(max_size=3)) + body[until:]
    return body


def encoded(value: Json, *, ascii: bool = True) -> bytes:
    """Encode a value as some servers do, even if JSON has no form for it."""
    return json.dumps(value, ensure_ascii=ascii).encode(errors="surrogatepass")


def _changed(draw: st.DrawFn, document: Json, samples: Sequence[Json]) -> Json:
    """Change one place of a document."""
    places = list(_places(document))
    if not places:
        return draw(ODD)
    holder, key = draw(st.sampled_from(places))
    match draw(st.sampled_from(["replace", "replace", "splice", "splice", "delete", "repeat"])):
        case "replace":
            holder[key] = draw(ODD)
        case "splice":
            donor = draw(st.sampled_from(samples))
            inner, at = draw(st.sampled_from(list(_places(donor)) or [([donor], 0)]))
            holder[key] = deepcopy(inner[at])
        case "delete":
            del holder[key]
        case "repeat" if isinstance(holder, list):
            holder[key:key] = [deepcopy(holder[key])] * draw(st.sampled_from([1, 2, 130]))
        case "repeat":
            holder[draw(ODD_TEXTS)] = holder[key]
    return document


def _places(value: Json) -> Iterator[tuple[Json, Json]]:
    """Yield every place in a value, as what holds it and its key or index there."""
    match value:
        case dict():
            inner = list(value)
        case list():
            inner = list(range(min(len(value), 20)))
        case _:
            return
    for key in inner:
        yield value, key
        yield from _places(value[key])
