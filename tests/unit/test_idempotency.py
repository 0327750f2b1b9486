"""Idempotency keys, digests of requests, and ids of messages."""

from __future__ import annotations

import json
import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.idempotency import read_idempotency, request_digest
from app.openai.errors import AnswerLost, ApiError, BadRequest, IdempotencyMismatch
from app.openai.sse import message_id_prefix, resume_after
from wire.seal import Seal

SEAL = Seal(b"a secret of the tests")
JOB = "chatcmpl-0123456789abcdef0123456789abcdef"
PATH = "/v1/chat/completions"


async def test_a_request_without_a_key_is_not_idempotent() -> None:
    assert await read_idempotency({}, PATH, b"{}", SEAL) is None


@pytest.mark.parametrize("key", ["a", "x" * 255, "a key: 'with' \"all\" {kinds}", " "])
async def test_a_key_is_used_unchanged(key: str) -> None:
    named = await read_idempotency({"idempotency-key": key}, PATH, b"{}", SEAL)
    assert named is not None
    assert named.key == key
    assert [named.turn(n).key for n in (0, 1)] == [key, f"{key}\n1"]
    assert named.turn(1).digest == named.digest


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "a\x7f", "钥匙", "a\udcff"])
async def test_an_invalid_key_is_refused(key: str) -> None:
    with pytest.raises(BadRequest) as refused:
        await read_idempotency({"idempotency-key": key}, PATH, b"{}", SEAL)
    assert refused.value.param == "Idempotency-Key"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    # Half a surrogate pair has no UTF-8.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=12,
)  # fmt: skip
bodies = st.dictionaries(st.text(st.characters(codec="utf-8")), values)


def shuffled(value: object, rng: random.Random) -> object:
    match value:
        case dict():
            items = [(name, shuffled(inner, rng)) for name, inner in value.items()]
            rng.shuffle(items)
            return dict(items)
        case list():
            return [shuffled(inner, rng) for inner in value]
        case _:
            return value


@given(bodies, st.randoms(use_true_random=False), st.booleans(), st.booleans())
def test_the_same_request_written_otherwise_has_the_same_digest(
    body: dict[str, object], rng: random.Random, ascii: bool, spaced: bool
) -> None:
    again = json.dumps(
        shuffled(body, rng), ensure_ascii=ascii, separators=(" , ", " : ") if spaced else None
    )
    assert request_digest(SEAL, PATH, json.dumps(body).encode()) == request_digest(
        SEAL, PATH, again.encode()
    )


def test_another_request_has_another_digest_that_reveals_nothing() -> None:
    body = b'{"model":"m","n":[1,2]}'
    others = [
        (SEAL, PATH, b'{"model":"m","n":[2,1]}'),
        (SEAL, PATH, b'{"model":"m"}'),
        (SEAL, "/v1/images/generations", body),
        (Seal(b"another secret"), PATH, body),
    ]
    digests = {request_digest(SEAL, PATH, body), *(request_digest(*other) for other in others)}
    assert len(digests) == 1 + len(others)
    assert all(len(found) == 32 for found in digests)


@pytest.mark.parametrize("odd", [b'{"a":1e400}', b'{"a":"\\ud800"}', b"[" * 5000 + b"]" * 5000])
def test_a_body_with_odd_unread_parts_is_compared_byte_by_byte(odd: bytes) -> None:
    assert request_digest(SEAL, PATH, odd) == request_digest(SEAL, PATH, odd)
    assert request_digest(SEAL, PATH, odd) != request_digest(SEAL, PATH, odd + b" ")


def test_a_long_body_is_compared_byte_by_byte_and_not_decoded_again() -> None:
    long = b'{"a":"' + b"x" * 70_000 + b'"}'
    assert request_digest(SEAL, PATH, long) == request_digest(SEAL, PATH, bytearray(long))
    assert request_digest(SEAL, PATH, long) != request_digest(SEAL, PATH, long.replace(b":", b": "))


@pytest.mark.parametrize(("size", "blocks"), [(1_000, True), (1_000_000, False)])
async def test_the_digest_of_a_long_body_does_not_block_the_event_loop(
    size: int, blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def note(*_: object) -> str:
        threads.append(threading.current_thread())
        return "digest"

    monkeypatch.setattr("app.idempotency.request_digest", note)
    await read_idempotency({"idempotency-key": "a"}, PATH, b"1" * size, SEAL)
    assert (threads == [threading.main_thread()]) is blocks


@pytest.mark.parametrize(
    ("given", "number"),
    [(None, 0), ("", 0), ("01234567-1", 1), ("01234567-0", 0), ("01234567-123456789", 123456789)],
)
def test_the_last_event_id_is_decoded(given: str | None, number: int) -> None:
    assert message_id_prefix(JOB) == "01234567"
    assert resume_after(given, JOB) == number


@pytest.mark.parametrize(
    "given",
    [
        "7",
        "-7",
        "01234567",
        "01234567-",
        "01234568-7",
        "01234567--7",
        "01234567-x",
        "01234567-٣",
        "01234567-²",
        "01234567-1234567890",
        " 01234567-7",
        "01234567-7 ",
        "01234567-7\n",
    ],
)
def test_a_last_event_id_of_another_or_no_answer_is_refused(given: str) -> None:
    with pytest.raises(AnswerLost):
        resume_after(given, JOB)


@given(st.text())
def test_any_last_event_id_is_accepted_or_refused(given: str) -> None:
    try:
        assert resume_after(given, JOB) >= 0
    except AnswerLost:
        pass


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(AnswerLost(), 409, "answer_lost"), (IdempotencyMismatch(), 422, "idempotency_key_reused")],
)
def test_an_error_that_a_retry_cannot_fix_says_so(error: ApiError, status: int, code: str) -> None:
    assert error.http_status == status
    assert error.object.error.code == code
    assert error.headers == {"x-should-retry": "false"}
