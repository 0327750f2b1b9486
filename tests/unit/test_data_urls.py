"""Files that are written into a request."""

from __future__ import annotations

import base64
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.files.data_urls import DataUrlError, read_data_url
from app.openai.file_text import FileText

BIG = bytes(range(256)) * 3000


def read(url: str) -> tuple[str, bytes]:
    found = read_data_url(FileText(url))
    return found.type, b"".join(found.pieces())


@settings(deadline=None)
@given(st.binary(max_size=300))
@example(BIG)
@example(BIG + b"x")
@example(BIG[: 192 * 1024])
def test_decoded_bytes_equal_the_encoded_ones(content: bytes) -> None:
    data = base64.b64encode(content).decode()
    assert read(f"data:image/png;base64,{data}") == ("image/png", content)
    lines = base64.encodebytes(content).decode()
    assert read(f"data:image/png;base64,{lines}")[1] == content
    assert read(f"data:image/png;base64,{data.rstrip('=')}")[1] == content
    assert (
        read(f"data:image/png;base64,{data.replace('=', '%3D').replace('+', '%2B')}")[1] == content
    )


@pytest.mark.parametrize("shift", range(3))
def test_percent_escapes_are_decoded_anywhere(shift: int) -> None:
    before, after = "a" * shift, "%41" * 200_000
    assert read(f"data:,{before}{after}%zz%")[1] == b"a" * shift + b"A" * 200_000 + b"%zz%"
    encoded = base64.b64encode(BIG + b"x" * shift)
    escaped = "".join(f"%{byte:02x}" for byte in encoded)
    assert read(f"data:;base64,{escaped}")[1] == BIG + b"x" * shift


@pytest.mark.parametrize("kind", ["", ";base64"])
def test_percent_escapes_are_decoded_in_little_memory(kind: str) -> None:
    """A body of 150 MB, nothing but escapes, took a front end 11 GB."""
    url = f"data:{kind}," + "%41" * 1_000_000
    tracemalloc.start()
    try:
        for _ in read_data_url(FileText(url)).pieces():
            pass
        assert tracemalloc.get_traced_memory()[1] < 10 * len(url)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("url", "kind", "content"),
    [
        ("data:,a%20b", "text/plain", b"a b"),
        ("data:text/plain;charset=utf-8,%E4%BD%A0", "text/plain", "你".encode()),
        ("DATA:Text/HTML;charset=utf-8;base64,PGI+", "text/html", b"<b>"),
        ("data:application/pdf;name=a.pdf;BASE64,JVBERg==", "application/pdf", b"%PDF"),
        ("data:;base64,", "text/plain", b""),
    ],
)
def test_types_and_parameters_are_told_apart(url: str, kind: str, content: bytes) -> None:
    assert read(url) == (kind, content)


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64",
        "data:",
        "nodata:,x",
        "data:image/png;base64,a",
        "data:image/png;base64,abc$",
        "data:image/png;base64,你好你好",
        "data:image/png;base64,ab==cdef",
        "data:image/png;base64," + "A" * 262_140 + "AA==" + "AAAA",
        "data:" + "x" * 2000 + ";base64,AAAA",
    ],
)
def test_an_invalid_data_url_or_base64_is_refused(url: str) -> None:
    with pytest.raises(DataUrlError):
        read(url)
