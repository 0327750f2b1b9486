"""`python -m app chat`: messages of the gateway's stream, and what is shown of them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from app.commands.asking import AskError, Place, read_message
from app.commands.chat import Notice, read_key, waiting_text
from app.commands.safe_text import one_line, safe_text


@pytest.mark.parametrize(
    ("message", "step"),
    [
        (b'{"choices":[{"delta":{"role":"assistant","content":""}}]}', None),
        (b'{"choices":[{"delta":{"content":""}}],"queue":{"position":3,"eta":41}}', Place(3, 41)),
        (b'{"choices":[{"delta":{"content":""}}]}', ""),
        (b'{"choices":[{"delta":{"role":"assistant","content":"Hi"}}]}', "Hi"),
        (b'{"choices":[],"usage":{"total_tokens":3}}', ""),
    ],
)
def test_a_message_is_a_place_or_a_piece_of_the_answer(message: bytes, step: object) -> None:
    assert read_message(message) == step


def test_an_error_within_the_stream_ends_it_with_its_message_and_code() -> None:
    with pytest.raises(AskError, match=r"^Too slow. \(the answer failed, upstream_timeout\)$"):
        read_message(b'{"error":{"message":"Too slow.","code":"upstream_timeout"}}')
    with pytest.raises(AskError, match="not the stream of a chat"):
        read_message(b"<html>")


@pytest.mark.parametrize(
    ("place", "age", "waited", "text"),
    [
        (Place(1, 12), 0, 0.4, "Waiting: next in line, about 12 s to go (so far 0 s)"),
        (Place(3, 200), 20, 30, "Waiting: place 3 in line, about 3 min 0 s to go (so far 30 s)"),
        (Place(2, 5), 9, 9, "Waiting: place 2 in line, any second now (so far 9 s)"),
        (Place(9, 9000), 0, 1, "Waiting: place 9 in line, about 2 h 30 min to go (so far 1 s)"),
    ],
)
def test_the_forecast_counts_down_while_a_question_waits(
    place: Place, age: float, waited: float, text: str
) -> None:
    assert waiting_text(place, age, waited) == text


def test_each_change_is_one_line_where_standard_error_is_no_terminal() -> None:
    output = io.StringIO()
    notice = Notice(output)
    for place in (Place(2, 5), Place(2, 5), Place(1, 3)):
        notice.waits(place)
    notice.working()
    notice.working()
    notice.clear()
    beginnings = [line.split(",")[0] for line in output.getvalue().splitlines()]
    assert beginnings == ["Waiting: place 2 in line", "Waiting: next in line", "Being answered ..."]


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_one_line_which_is_gone_before_the_answer() -> None:
    output = Tty()
    notice = Notice(output)
    notice.waits(Place(2, 5))
    notice.working()
    notice.clear()
    shown = output.getvalue().split("\r\x1b[K")
    assert shown[1].startswith("Waiting: place 2 in line, ")
    assert shown[2:] == ["Being answered ...", ""]


def test_a_key_comes_from_a_file_or_the_environment_and_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-1\n")
    assert read_key(str(file), {"OPENAI_API_KEY": "sk-2"}) == "sk-1"
    assert read_key(None, {"OPENAI_API_KEY": "sk-2"}) == "sk-2"
    assert read_key(None, {}) == ""
    for wrong in ("", "a\nb", "schlüssel"):
        file.write_text(wrong)
        with pytest.raises(AskError, match="expected one key") as caught:
            read_key(str(file), {})
        assert not wrong or wrong not in str(caught.value)
    with pytest.raises(AskError, match="cannot be read: No such file"):
        read_key(str(tmp_path / "none"), {})


def test_no_text_of_others_controls_the_terminal() -> None:
    assert safe_text("a\x1b[2J\x07b\r\n\tc\x9b") == "a\ufffd[2J\ufffdb\n\tc\ufffd"
    assert safe_text("家庭 👩‍👧 é") == "家庭 👩‍👧 é"
    assert one_line("gpt\x1b[2J\n4") == "gpt?[2J?4"
