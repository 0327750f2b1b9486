"""Heads of requests: their framing, and the headers that the gateway reads."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from types import SimpleNamespace
from typing import cast

from hypothesis import strategies as st
from sanic import Request
from sanic.compat import Header

import settings
from app.auth import Caller
from app.http.address import client_address, is_in, parse_address
from app.http.connection import _INVALID_HEAD
from app.idempotency import LONGEST_KEY, read_idempotency
from app.openai.errors import AnswerLost, BadRequest
from app.openai.sse import message_id_prefix, resume_after
from app.scheduling import read_scheduling
from tests.support.fuzzing import ODD_NUMBERS, ODD_TEXTS, fuzzed
from wire.keyring import IssuedKey
from wire.seal import Seal

SEAL = Seal(b"a secret of the tests")
JOB = "chatcmpl-0123456789abcdef0123456789abcdef"
_PARTS = st.sampled_from(
    [
        *(
            b"\r\n",
            b"\r\n",
            b"\r\n",
            b"\n",
            b"\r",
            b"\0",
            b" ",
            b"\t",
            b":",
            b": ",
            b"\xa0",
            b"\xff",
        ),
        *(b"Content-Length: 5", b"Content-Length : 5", b" Content-Length: 5", b"Transfer-Encoding"),
        *(b"chunked", b"Host: x", b"X: a", b"X", b"\x0b", b"\x85", b"(", b"\xef\xbb\xbf", b"\xff"),
    ]
)
HEADS = st.lists(_PARTS, max_size=10).map(lambda parts: b"POST / HTTP/1.1" + b"".join(parts))
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@fuzzed(HEADS)
def test_every_server_reads_the_same_headers_in_a_head_that_is_not_refused(head: bytes) -> None:
    if _INVALID_HEAD.search(head) is not None:
        return
    strict = head.split(b"\r\n")
    assert re.split(rb"\r\n|\r|\n", head) == strict
    for line in strict[1:]:
        name, colon, _ = line.partition(b":")
        assert colon
        assert _TOKEN.fullmatch(name)
    assert b"\0" not in head


_VALUES = st.one_of(
    ODD_TEXTS,
    ODD_NUMBERS.map(str),
    st.sampled_from(["1e3", "-0", "1_0", "٣", "inf", "nan", "0x1", "1" * 400, "a" * 256, "\xff"]),
)
_NAMES = st.sampled_from(["x-max-wait", "idempotency-key", "last-event-id"])


@fuzzed(st.dictionaries(_NAMES, _VALUES), st.none() | st.text(max_size=9) | st.just("flex"))
def test_a_request_is_scheduled_by_its_headers_or_refused(
    headers: dict[str, str], tier: str | None
) -> None:
    request = cast(Request, SimpleNamespace(headers=Header(headers)))
    issued = IssuedKey(
        id="0" * 16, sha256="0" * 64, name="a", created=1, max_wait=9, priority="default"
    )
    try:
        read = asyncio.run(read_idempotency(request.headers, "/", b"{}", SEAL))
        scheduling = read_scheduling(request, Caller("gw a", "", issued), None, tier, read)
    except BadRequest:
        return
    assert 0 <= scheduling.max_wait <= 9
    assert scheduling.tier in ("flex", "default")
    assert read is None or 1 <= len(read.key) <= LONGEST_KEY


@fuzzed(_VALUES | st.builds(f"{message_id_prefix(JOB)}-{{}}".format, _VALUES))
def test_a_last_event_id_is_a_number_or_refused(value: str) -> None:
    with suppress(AnswerLost):
        assert 0 <= resume_after(value, JOB) < 10**9


_ADDRESSES = st.one_of(
    st.ip_addresses().map(str),
    st.sampled_from(
        ["10.0.0.1", "::1", "::ffff:10.0.0.2", "8.8.8.8", "[2001:db8::1]", "fe80::1%e"]
    ),
    st.sampled_from(["unknown", "_hidden", "8.8.8.8:80", "", " ", "1" * 5000, "\xff"]),
)
_BEHIND = settings.Server(address_header="x-forwarded-for")


@fuzzed(_ADDRESSES, st.lists(st.lists(_ADDRESSES, max_size=4).map(", ".join), max_size=2))
def test_a_client_chooses_no_address_but_those_before_its_own(
    peer: str, forwarded: list[str]
) -> None:
    headers = Header([("x-forwarded-for", value) for value in forwarded])
    request = cast(
        Request, SimpleNamespace(headers=headers, conn_info=SimpleNamespace(client_ip=peer))
    )
    name = client_address(request, _BEHIND)
    own = parse_address(peer)
    if own is None or not is_in(own, _BEHIND.proxies):
        assert name == client_address(request, settings.Server())
    # The address that the nearest proxy has added counts, not those that the client wrote.
    if own is not None:
        headers.add("x-forwarded-for", "9.9.9.9")
        trusted = is_in(own, _BEHIND.proxies)
        assert (client_address(request, _BEHIND) == "9.9.9.9") == (trusted or name == "9.9.9.9")
