"""Long files are cut out of a body, read slice by slice, and are the same as in a short one."""

from __future__ import annotations

import base64
import json
import random
import tracemalloc

import pytest

from app.files.attachments import read_inline
from app.files.data_urls import DataUrlError
from app.openai.bounds import MOST_BYTES
from app.openai.errors import BadRequest, BodyTooLarge
from app.openai.file_text import cut_files
from app.openai.messages import given_files
from app.openai.requests import decode_chat

CONTENT = random.Random(7).randbytes(400_000)
DATA = base64.b64encode(CONTENT).decode()
FILLING = {"type": "text", "text": "words, and {braces} " * 1000}
LONG = {"type": "text", "text": DATA[:300_000]}


def image(url: str) -> dict[str, object]:
    return {"type": "image_url", "image_url": {"url": url, "detail": "high"}}


def file(data: str, name: str = "a.pdf") -> dict[str, object]:
    return {"type": "file", "file": {"filename": name, "file_data": data}}


def body(*parts: object, **fields: object) -> str:
    messages = [{"role": "user", "content": list(parts)}]
    return json.dumps({"model": "gpt-4", "messages": messages, **fields}, separators=(",", ":"))


@pytest.fixture(autouse=True)
def cut_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.openai.requests.MOST_BYTES", 0)


def contents(text: str) -> list[bytes]:
    found = []
    for given in given_files(decode_chat(text.encode()).messages):
        inline = read_inline(given)
        assert inline is not None
        found.append(b"".join(inline.pieces()))
    return found


@pytest.mark.parametrize(
    "escape",
    [
        lambda text: text,
        lambda text: text.replace("/", r"\/"),
        lambda text: text.replace("+", r"\u002b").replace("=", r"\u003D"),
        lambda text: text.replace("/", "%2F").replace("+", "%2b"),
        lambda text: text.replace("A", "A\\r\\n").replace("B", " B\\t"),
        lambda text: "".join(rf"\u{ord(char):04x}" for char in text),
    ],
    ids=["plain", "slashes", "as .NET does", "in URLs", "lines", "all"],
)
@pytest.mark.parametrize("shift", range(6))
def test_the_content_of_a_long_file_is_complete_however_it_is_escaped(
    escape: object, shift: int
) -> None:
    assert callable(escape)
    data = base64.b64encode(CONTENT[shift:]).decode()
    text = body(image("data:image/png;base64,#"), file("#"), file("data:a/b;c=d;BASE64,#"))
    text = text.replace("#", escape(data))
    rest, files = cut_files(text.encode())
    assert len(files) == 3
    assert len(rest) < 1000
    assert contents(text) == [CONTENT[shift:]] * 3


def test_files_keep_their_order_among_texts_short_files_and_urls() -> None:
    short = base64.b64encode(b"short").decode()
    text = body(
        FILLING,
        image(f"data:image/png;base64,{DATA}"),
        {"type": "text", "text": f'{{"url": "data:a/b;base64,{DATA}"}}'},
        file(short),
        FILLING,
        file(DATA),
        image(f"data:,{'%41' * 100_000}"),
        stop='"url": "',
    )
    rest, files = cut_files(text.encode())
    assert len(files) == 2
    assert len(rest) == len(text) - len(f'"data:image/png;base64,{DATA}""{DATA}"') + len("01")
    assert contents(text) == [CONTENT, b"short", CONTENT, b"A" * 100_000]


def test_only_the_files_of_a_body_are_cut_out() -> None:
    """A text may have the same JSON in it, and unknown fields may be as long."""
    text = body(
        {"type": "text", "text": json.dumps(image(f"data:image/png;base64,{DATA}"))},
        {"type": "text", "text": DATA},
        image(f"https://example.com/{DATA}"),
        file(f"https://example.com/{DATA}"),
        user=DATA,
    )
    assert cut_files(text.encode()) == (text.encode(), [])


@pytest.mark.parametrize("number", ["0", "1", "-1", "true"])
def test_a_number_is_not_a_url(number: str) -> None:
    text = body(image("#")).replace('"#"', number)
    with pytest.raises(BadRequest) as caught:
        decode_chat(text.encode())
    assert caught.value.param == "messages[0].content[0].image_url.url"


@pytest.mark.parametrize("end", ["é", "\\\\x", "\\ud83d", "\\q", "\\u00e9", "$"])
def test_a_long_file_that_is_not_base64_is_refused(end: str) -> None:
    text = body(file("#")).replace("#", DATA + end)
    (given,) = given_files(decode_chat(text.encode()).messages)
    inline = read_inline(given)
    assert inline is not None
    with pytest.raises(DataUrlError):
        list(inline.pieces())


@pytest.mark.parametrize(
    "text",
    [
        body(image(f"data:image/png;base64,{DATA}"), user="u" * MOST_BYTES),
        body(user="u" * MOST_BYTES),
        body({"type": "text", "text": "word " * (MOST_BYTES // 5)}),
        "[" * (MOST_BYTES + 1),
        '"' * (MOST_BYTES + 1),
    ],
    ids=["file and user", "user", "text", "brackets", "quotes"],
)
def test_a_body_that_is_large_without_its_files_is_refused(text: str) -> None:
    with pytest.raises(BodyTooLarge, match=rf"apart from .* {MOST_BYTES} bytes"):
        cut_files(text.encode())


class Searched(bytes):
    """Counts the bytes that are searched."""

    searched = 0

    def find(self, wanted: bytes, start: int, /) -> int:  # type: ignore[override]
        at = super().find(wanted, start)
        self.searched += (at if at >= 0 else len(self)) - start + 1
        return at

    def rfind(self, wanted: bytes, start: int, end: int, /) -> int:  # type: ignore[override]
        at = super().rfind(wanted, start, end)
        self.searched += end - (at if at >= 0 else start) + 1
        return at


@pytest.mark.parametrize(
    "part",
    [image(f"data:image/png;base64,{DATA}"), file(DATA), FILLING, LONG],
    ids=["data URL", "base64", "short text", "long text"],
)
def test_twice_the_body_takes_twice_the_search(part: dict[str, object]) -> None:
    def searched(count: int) -> int:
        text = Searched(body(*[part] * count).encode())
        cut_files(text)
        return text.searched

    assert searched(10) <= 2.1 * searched(5)
    assert searched(10) <= 2 * len(body(*[part] * 10))


def test_a_long_file_is_never_copied_as_a_whole() -> None:
    data = "JQAA" * 5_000_000
    text = body(image(f"data:application/pdf;base64,{data}"), file(data)).encode()
    tracemalloc.start()
    try:
        sizes = []
        for given in given_files(decode_chat(text).messages):
            inline = read_inline(given)
            assert inline is not None
            sizes.append(sum(map(len, inline.pieces())))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sizes == [15_000_000] * 2
    assert peak < 3_000_000
