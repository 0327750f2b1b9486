"""Contents of messages, from a client's parts to what a job carries."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from app.files.attachments import read_inline
from app.openai.errors import BadRequest
from app.openai.messages import GivenFile, given_files, memory, to_messages
from app.openai.requests import decode_chat
from wire.jobs import Attachment, Message

URL = "https://example.com/a.pdf"
IMAGE = {"type": "image_url", "image_url": {"url": URL, "detail": "high"}}
DATA = {
    "type": "file",
    "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JQ=="},
}
TAKEN = Attachment("a.pdf", "application/pdf", 1, "0" * 64)


def text(said: str) -> dict[str, str]:
    return {"type": "text", "text": said}


def request(*parts: object) -> Any:
    messages = [{"role": "system", "content": "Hi"}, {"role": "user", "content": list(parts)}]
    return decode_chat(json.dumps({"model": "gpt-4", "messages": messages}).encode()).messages


def source(file: GivenFile) -> str:
    return "".join(file.source.slices())


def test_texts_and_files_stay_in_their_order() -> None:
    messages = request(text("a"), text("b"), IMAGE, text("c"), DATA)
    first, second = given_files(messages)
    assert (first.param, source(first)) == ("messages[1].content[2].image_url.url", URL)
    assert (second.param, second.name) == ("messages[1].content[4].file.file_data", "a.pdf")
    taken = {first.param: TAKEN, second.param: TAKEN}
    turns = to_messages(messages, taken)
    assert turns == [Message("system", "Hi"), Message("user", ["a\nb", TAKEN, "c", TAKEN])]
    assert turns[1].text == "a\nb\nc"


def test_the_location_of_a_picture_may_be_a_bare_url() -> None:
    messages = request(text("a"), {"type": "image_url", "image_url": URL})
    (given,) = given_files(messages)
    assert (given.param, source(given)) == ("messages[1].content[1].image_url", URL)
    assert to_messages(messages, {given.param: TAKEN})[1] == Message("user", ["a", TAKEN])


def test_the_memory_of_texts_is_that_of_their_characters() -> None:
    wide = "a" * 999_999 + "😀"
    messages = request(text(wide), IMAGE, {"type": "refusal", "refusal": "b" * 1000})
    assert 4_000_000 <= memory(messages) <= 4_010_000
    call = {"id": "1", "function": {"name": "f", "arguments": wide}}
    asked = {"model": "m", "messages": [{"role": "assistant", "tool_calls": [call]}]}
    assert 4_000_000 <= memory(decode_chat(json.dumps(asked).encode()).messages) <= 4_010_000


def test_text_parts_alone_become_one_text() -> None:
    assert to_messages(request(text("a"), text("b")), {})[1] == Message("user", "a\nb")


@pytest.mark.parametrize(
    ("data", "name", "base64_type"),
    [
        ("JQ==", "a.pdf", "application/pdf"),
        ("JQ==", None, "application/octet-stream"),
        ("DATA:text/plain,x", None, None),
        (URL, "b.pdf", None),
    ],
)
def test_a_file_may_be_bare_base64_a_data_url_or_a_web_address(
    data: str, name: str | None, base64_type: str | None
) -> None:
    (given,) = given_files(request({"type": "file", "file": {"file_data": data, "filename": name}}))
    assert (source(given), given.name) == (data, name or "")
    assert given.base64_type == base64_type


@pytest.mark.parametrize(
    ("part", "param", "code"),
    [
        (
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
            "messages[1].content[0]",
            "unsupported_parameter",
        ),
        (
            {"type": "file", "file": {"file_id": "file-abc"}},
            "messages[1].content[0].file.file_data",
            "unsupported_parameter",
        ),
    ],
)
def test_an_unsupported_part_is_refused_with_its_path(
    part: dict[str, Any], param: str, code: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        given_files(request(part))
    assert (caught.value.param, caught.value.code) == (param, code)


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"type": "image_url"}, "image_url"),
        ({"type": "image_url", "image_url": {"url": 7}}, "image_url.url"),
        ({"type": "file"}, "file"),
    ],
)
def test_a_part_of_the_wrong_type_is_refused_with_its_field(
    part: dict[str, Any], field: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        request(part)
    assert caught.value.param == f"messages[1].content[0].{field}"


@pytest.mark.parametrize("prefix", ["", "data:application/pdf;base64,"])
def test_the_data_of_a_file_is_decoded_slice_by_slice_and_never_copied(prefix: str) -> None:
    """Two copies of a file of 20 MB blocked the event loop for 46 ms."""
    data = prefix + "JQAA" * 1_000_000
    messages = request({"type": "file", "file": {"file_data": data, "filename": "a.pdf"}})
    taken = {"messages[1].content[0].file.file_data": TAKEN}
    tracemalloc.start()
    try:
        (given,) = given_files(messages)
        to_messages(messages, taken)
        inline = read_inline(given)
        assert inline is not None
        size = sum(len(piece) for piece in inline.pieces())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == 3_000_000
    assert peak < len(data) / 2
