"""Input that fuzz tests have found: a plain test for each kind, so that it is tried always."""

from __future__ import annotations

import json

import msgspec
import pytest

import settings
from app.anthropic.requests import decode_messages
from app.commands.keys import read_records
from app.files.urls import parse_url
from app.openai.dialect import RenderOptions
from app.openai.errors import BadRequest
from app.openai.requests import decode_chat
from app.openai.responses.requests import decode_responses
from app.relayed.chunks import ChunkForm
from app.relayed.folding import ChunkFold
from app.relayed.form import Head
from app.relayed.rendering import RelayedRendering
from app.relayed.requests import decode_relayed
from app.relayed.responses import ResponseForm
from runtime.ssrf_guard import may_name
from settings.accounts import parse_accounts
from settings.changing_file import ChangingFile
from settings.urls import http_url, proxy_url, read_url
from wire.events import Failed, Piece
from wire.keyring import IssuedKey, decode_issued
from workers.http.unreachable import UnreachableError, reaching
from workers.openai.whole_answer import read_whole
from workers.pandora.files.downloads import by_file_server
from workers.pandora.websocket import frames
from workers.pandora.websocket.buffers import EARLY_ANSWERS, EARLY_BYTES, AnswerBuffers
from workers.upstream import BROKEN_OFF, UpstreamError

CHAT = b'{"model":"m","messages":[{"role":"user","content":"a"}],'


def test_bytes_that_are_no_text_are_refused_in_fields_that_are_read_later() -> None:
    for odd in (b"\xff", b"\xed\xa0\x80", b"a\xc3"):
        with pytest.raises(BadRequest, match="not valid JSON"):
            decode_chat(CHAT + b'"tools":[{"type":"function","function":{"name":"%b"}}]}' % odd)
        with pytest.raises(BadRequest, match="not valid JSON"):
            decode_responses(b'{"model":"m","input":"a","text":{"format":{"type":"%b"}}}' % odd)
        with pytest.raises(BadRequest, match="not valid JSON"):
            decode_messages(CHAT + b'"tools":[{"name":"%b"}]}' % odd)
        with pytest.raises(BadRequest, match="not valid JSON"):
            decode_relayed("chat/completions", CHAT + b'"unknown":"%b"}' % odd)


def test_early_pieces_are_bounded_in_their_number_and_in_their_answers() -> None:
    buffers = AnswerBuffers(lambda: True)
    for number in range(EARLY_ANSWERS + 1):
        buffers.deliver(frames.Piece(f"r{number}", "", b"a", False))
    assert not buffers.claim("r0").lost
    buffers.deliver(frames.Piece("r64", "", b"b", True))
    assert buffers.claim("r64").lost  # its first piece was not kept
    buffers.forget_early()
    for _ in range(EARLY_BYTES // 32):
        buffers.deliver(frames.Piece("r", "", b"", False))
    assert buffers.claim("r").lost


@pytest.mark.parametrize(
    "body", [b'{"\xff":1}', b'{"model":"\xff"}', b'{"model":"\\ud83d"}', b'{"model":"\\q"}']
)
def test_a_whole_answer_with_bytes_that_are_no_text_is_broken_off(body: bytes) -> None:
    with pytest.raises(UpstreamError) as caught:
        read_whole(body, "asked")
    assert caught.value.failed is BROKEN_OFF


def test_half_a_character_of_a_server_ends_no_whole_answer() -> None:
    fold = ChunkFold({"id": "a"})
    fold.add(Piece(b'{"choices":[{"delta":{"content":"a\xe2\x82"}}]}'))
    fold.add(Piece(b'{"choices":[{"delta":{"content":"b"},"\xff":1}]}'))
    assert json.loads(fold.body())["choices"][0]["message"]["content"] == "a\ufffdb"


def test_an_id_of_a_response_that_is_no_text_is_not_known() -> None:
    form = ResponseForm(Head("id", 1, "m"))
    created = Piece(b'{"response":{"id":"\xff"}}', "response.created")
    assert form.data(created) == created.data
    assert form.alive(None) == b""


async def test_the_first_failure_of_a_relayed_answer_counts() -> None:
    form = ChunkForm(Head("id", 1, "m"))
    rendering = RelayedRendering(form, RenderOptions(), form.fold())
    await rendering.add([Piece(b'{"choices":[1]}'), Failed("upstream_error", "later")])
    assert rendering.failure is not None
    assert rendering.failure.code == "unreadable_answer"


@pytest.mark.parametrize("host", ["a b", "a\0b", "\xa0", "a<b>", "a\x7f"])
def test_a_host_that_is_no_name_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="not a host"):
        parse_url(f"http://{host}/a")


@pytest.mark.parametrize("host", ["a\0b", "\ud83d", "127.0.0.1\0"])
def test_a_host_with_bytes_that_no_name_has_is_not_named(host: str) -> None:
    assert not may_name(host)


@pytest.mark.parametrize("text", ["http://[::1]@", "http://[::1]a@/", "https://u[::1]@h@"])
def test_a_url_that_yarl_stumbles_over_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        parse_url(text)
    with pytest.raises(ValueError, match="expected"):
        proxy_url(text)
    with pytest.raises(ValueError, match="expected"):
        http_url(text)
    with pytest.raises(UnreachableError), reaching():
        read_url(text, encoded=True)


def test_an_address_that_is_no_url_is_not_changed() -> None:
    rules = settings.Media(use_pandora_file_server=True)
    assert by_file_server("http://[", rules) == "http://["


def test_a_file_whose_path_has_a_nul_cannot_be_read() -> None:
    with pytest.raises(settings.SettingsError, match=r"auth\.keys_file"):
        ChangingFile("auth.keys_file", "\0", str)


def test_a_backup_with_odd_ends_of_lines_in_names_is_restored() -> None:
    record = IssuedKey(id="f" * 16, sha256="f" * 64, name="a\u2028b", created=1, notes="\x85\x1e")
    exported = msgspec.json.encode(record).decode() + "\n"
    assert list(read_records(exported + exported)) == [record, record]


def test_a_record_with_a_time_that_no_calendar_has_is_refused() -> None:
    record = {"id": "f" * 16, "sha256": "f" * 64, "name": "a", "created": 10**12}
    with pytest.raises(msgspec.ValidationError):
        decode_issued(msgspec.json.encode(record))


def test_a_number_of_slots_with_many_digits_is_refused() -> None:
    with pytest.raises(ValueError, match="slots"):
        parse_accounts(f"token name 0000001{'9' * 20}")
