"""Files that strangers name: data URLs, base64, pictures, URLs, and the guard of the network."""

from __future__ import annotations

import base64
import json
import re
import socket
from io import BytesIO
from ipaddress import IPv4Address, IPv6Address, ip_address

import yarl
from hypothesis import strategies as st
from PIL import Image

from app.files.attachments import _plain
from app.files.data_urls import DataUrlError, read_data_url
from app.files.media_types import media_type
from app.files.pictures import is_heic, may_be_picture, read_picture
from app.files.urls import follow, parse_url
from app.openai.file_text import CHAT_FILES, MESSAGES_FILES, FileText, FileTextError, cut_files
from runtime.ssrf_guard import may_connect, may_name
from store.names import make_name, parse_name
from tests.support.fuzzing import ODD_TEXTS, PLACES, Json, cut, encoded, fuzzed

_BYTES = st.binary(max_size=80)
_FILLER = st.sampled_from(["", "\n", "%0A", " ", "%3D", "=", "%", "%zz", "\u2028", "*", ",", ";"])


@st.composite
def data_urls(draw: st.DrawFn) -> tuple[str, bytes]:
    """A data URL, and the data that was put into it."""
    data = draw(_BYTES)
    text = base64.b64encode(data).decode()
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(_FILLER) + text[at:]
    kind = draw(st.sampled_from(["", "image/png", "TEXT/plain;charset=utf-8", "a;b;c", "\0", "x/"]))
    marker = draw(st.sampled_from([";base64", ";BASE64", "; base64", "", ";base64;name=a"]))
    return draw(st.sampled_from(["data:", "DATA:", "data"])) + kind + marker + "," + text, data


@fuzzed(data_urls() | st.tuples(ODD_TEXTS, st.just(b"")))
def test_a_data_url_is_decoded_or_refused(given: tuple[str, bytes]) -> None:
    url, _ = given
    try:
        inline = read_data_url(FileText(url))
        content = b"".join(inline.pieces())
    except DataUrlError:
        return
    assert inline.type
    assert len(content) <= 4 * len(url)
    media_type(content, _plain(url), inline.type)


@fuzzed(_BYTES, PLACES, st.sampled_from(["", "\n", "\r\n", " ", "%0A"]))
def test_base64_is_decoded_in_whatever_lines_it_comes(
    data: bytes, places: list[int], line_end: str
) -> None:
    lines = cut(base64.b64encode(data), places)
    url = "data:;base64," + line_end.join(line.decode() for line in lines)
    assert b"".join(read_data_url(FileText(url)).pieces()) == data
    unpadded = read_data_url(FileText(url.rstrip("=")))
    assert b"".join(unpadded.pieces()) == data


_LONG = st.builds(
    lambda part, number: part * number,
    st.sampled_from(["QUJD", "QUJD%0A", "\\", '"', "\n", "+/==", "é"]),
    st.sampled_from([1, 9_000, 12_000, 40_000]),
)
_FIELDS = st.sampled_from(["url", "file_data", "data", "text", "source"])
_DOCUMENTS = st.lists(
    st.dictionaries(_FIELDS, st.one_of(st.builds("data:;base64,{}".format, _LONG), _LONG)),
    max_size=3,
)


def restored(value: Json, files: list[FileText]) -> Json:
    """A document with the texts of its files in place of their numbers."""
    match value:
        case dict():
            return {key: restored(item, files) for key, item in value.items()}
        case list():
            return [restored(item, files) for item in value]
        case int():
            return "".join(files[value].slices())
    return value


@fuzzed(_DOCUMENTS, st.sampled_from([CHAT_FILES, MESSAGES_FILES]), st.booleans())
def test_files_that_are_cut_out_of_a_body_are_all_that_it_lacks(
    document: Json, fields: re.Pattern[bytes], ascii: bool
) -> None:
    rest, files = cut_files(bytearray(encoded(document, ascii=ascii)), fields)
    try:
        assert restored(json.loads(rest), files) == document
    except FileTextError:
        assert not ascii  # such a text is not base64


def _picture(form: str) -> bytes:
    written = BytesIO()
    Image.new("RGB", (3, 2)).save(written, form)
    return written.getvalue()


_PICTURES = [_picture(form) for form in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "ICO")]
_PICTURES += [b"\0\0\0\x20ftypavif\0\0\0\0avifmif1", b"\0\0\0\x18ftypheic", b"MM\0*\0\0\0\x08"]


@st.composite
def pictures(draw: st.DrawFn) -> bytes:
    """A picture with some of its bytes changed, cut off or left out."""
    data = draw(st.sampled_from(_PICTURES))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, min(len(data), 200)))
        odd = draw(st.binary(max_size=4) | st.sampled_from([b"\xff\xff\xff\xff", b"\0\0\0\0"]))
        data = data[:at] + odd + data[at + draw(st.integers(0, 4)) :]
    return data[: draw(st.sampled_from([len(data), 10, 30, 100]))]


@fuzzed(pictures())
def test_the_first_bytes_of_a_picture_are_read_or_are_none(data: bytes) -> None:
    is_heic(data)
    if may_be_picture(data) and (picture := read_picture(data)) is not None:
        assert picture.type.startswith("image/")
        assert picture.width > 0
        assert picture.height > 0
    kind = media_type(data, "a.png", "image/png")
    assert "/" in kind


@fuzzed(pictures() | _BYTES, ODD_TEXTS | st.text(max_size=300))
def test_a_file_has_a_plain_name_and_an_object_one_that_is_found(head: bytes, name: str) -> None:
    plain = _plain(name)
    assert len(plain) <= 120
    assert not set(plain) & set('/\\\0\n\r"')
    made = make_name(head, name.encode(errors="replace").decode())
    assert (parsed := parse_name(made)) is not None
    assert parsed.filename
    assert not parsed.is_picture or media_type(head) != "text/html"
    found = parse_name(name)
    assert found is None or "/" not in name


_HOSTS = st.one_of(
    st.sampled_from(
        [
            *("example.com", "user:pw@example.com", "[::1]", "[::ffff:127.0.0.1]", "127.1"),
            *("0x7f.1", "2130706433", "localhost", "a@b@c", "a\\@b", "a\t.b", "①.②", "b\u2028.c"),
            *(
                "[::1]@",
                "a[::1]@",
                "[fe80::1%eth0]",
                "example.com:0",
                "example.com:99999",
                "x" * 300,
                ".",
                "[v1.a]",
            ),
        ]
    ),
    st.text(max_size=12),
)
_URLS = st.builds(
    lambda scheme, host, path: scheme + host + path,
    st.sampled_from(
        ["http://", "https://", "HTTP://", "http:/", "http:", "ftp://", "//", " http://"]
    ),
    _HOSTS,
    st.text(max_size=12).map(lambda text: f"/{text}")
    | st.sampled_from(["", "/%3A%zz?a=b c#d", "?q", "#f", "/../..", "/\r\nX: y", "\\x", "/{}|^`"]),
)


@fuzzed(_URLS | ODD_TEXTS)
def test_a_url_is_asked_for_in_one_form_or_refused(text: str) -> None:
    try:
        url = parse_url(text)
    except ValueError:
        return
    assert url.scheme in ("http", "https")
    assert url.host
    sent = url.raw_path_qs
    assert sent.startswith("/")
    assert all("!" <= letter <= "~" for letter in sent)
    assert all("!" <= letter <= "~" for letter in url.raw_authority)
    assert yarl.URL(str(url), encoded=True).raw_authority == url.raw_authority


@fuzzed(_URLS, ODD_TEXTS | _URLS | st.sampled_from(["/a", "?b", "//c/d", "../e"]))
def test_a_redirect_leads_to_a_url_or_is_refused(base: str, location: str) -> None:
    try:
        found = follow(parse_url(base), location)
    except ValueError:
        return
    assert found.scheme in ("http", "https")
    assert found.host


_PRIVATE = st.one_of(
    st.ip_addresses(v=4, network="10.0.0.0/8"),
    st.ip_addresses(v=4, network="127.0.0.0/8"),
    st.ip_addresses(v=4, network="169.254.0.0/16"),
    st.ip_addresses(v=4, network="192.168.0.0/16"),
)


def spellings(address: IPv4Address) -> list[str]:
    """Ways to write an address that some system reads as it."""
    number = int(address)
    first, *rest = address.packed
    return [
        str(address),
        f"::ffff:{address}",
        f"64:ff9b::{number >> 16:x}:{number & 0xFFFF:x}",
        str(number),
        hex(number),
        f"0{number:o}",
        ".".join(map(hex, address.packed)),
        f"{first}.{int.from_bytes(bytes(rest), 'big')}",
    ]


@fuzzed(_PRIVATE)
def test_no_spelling_of_a_private_address_is_reached(address: IPv4Address) -> None:
    for host in spellings(address):
        assert not may_name(host)
        assert not may_connect(host)
    assert not may_connect(f"{address}%eth0")
    assert not may_connect(str(IPv6Address(b"\x20\x02" + address.packed + b"\0" * 10)))


@fuzzed(st.ip_addresses() | st.from_regex(r"[0-9a-fx.:%\[\]]{1,20}", fullmatch=True) | ODD_TEXTS)
def test_a_connection_is_only_made_to_what_is_a_global_address(address: object) -> None:
    text = str(address)
    may_name(text)
    if may_connect(text):
        found = ip_address(text.partition("%")[0])
        mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
        wrapped = isinstance(found, IPv6Address) and text.lower().startswith("64:ff9b:")
        assert wrapped or (mapped or found).is_global


@fuzzed(ODD_TEXTS | st.text(alphabet="0123456789xabcdef.", max_size=16))
def test_a_host_that_the_system_reads_as_a_private_address_is_not_named(host: str) -> None:
    try:
        address = socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, ValueError):
        return
    assert may_name(host) == may_connect(address)
