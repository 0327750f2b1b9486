"""Keys: what requests present as one, records of gateway keys, their backup, and accounts."""

from __future__ import annotations

import argparse
from contextlib import suppress
from typing import cast

import msgspec
from hypothesis import strategies as st
from sanic import Request
from sanic.compat import Header

from app.commands.keys import OPTIONS, KeysError, Option, description, read_records, table
from app.http.body import LONGEST_BEARER, given_bearer
from app.openai.errors import Unauthorized
from settings.accounts import Account, parse_accounts
from settings.credentials import Secret
from tests.support.fuzzing import ODD_NUMBERS, ODD_TEXTS, Json, bodies, fuzzed
from wire.jobs import fingerprint
from wire.keyring import IssuedKey, decode_issued

_KEY = "gw-" + "a" * 43
CANARY = "canary-of-a-token"
RECORDS: list[Json] = [
    {
        "id": "0123456789abcdef",
        "sha256": "0123456789abcdef" * 4,
        "name": "bot",
        "created": 1_700_000_000,
        "expires": 1_900_000_000,
        "revoked": 0,
        "weight": 2.5,
        "priority": "flex",
        "models": ["a", "b"],
        "max_running": 1,
        "max_waiting": 2,
        "requests_per_minute": 60,
        "budget_unit": "tokens",
        "budget_day": 10,
        "budget_month": 1e9,
        "max_wait": 0,
        "bot": {"enabled": True},
        "notes": "n",
    },
    {"id": "f" * 16, "sha256": "f" * 64, "name": "é\u2028", "created": 0, "max_wait": None},
]


class Asking:
    """A request with these headers."""

    def __init__(self, *headers: tuple[str, str]) -> None:
        self.headers = Header(headers)


_GIVEN = st.one_of(
    ODD_TEXTS,
    st.builds(
        "".join,
        st.lists(
            st.sampled_from(
                [
                    *("Bearer", "bearer", "Basic", " ", "  ", "\t", _KEY, "gw-", ",", ";", "\0"),
                    *("\xa0", "\udcff", "é", "x" * LONGEST_BEARER, "no key", "\r\n", "=", '"'),
                ]
            ),
            max_size=5,
        ),
    ),
)
_NAMES = st.sampled_from(["authorization", "Authorization", "x-api-key", "X-API-KEY", "cookie"])


@fuzzed(st.lists(st.tuples(_NAMES, _GIVEN), max_size=3))
def test_what_is_presented_is_one_key_or_refused(headers: list[tuple[str, str]]) -> None:
    try:
        bearer = given_bearer(cast(Request, Asking(*headers)))
    except Unauthorized:
        return
    assert bearer.isascii()
    assert bearer.isprintable()
    assert " " not in bearer
    assert len(bearer) <= LONGEST_BEARER
    assert not bearer or any(bearer in value for _, value in headers)
    names = [name.lower() for name, _ in headers]
    assert names.count("authorization") <= 1
    assert names.count("x-api-key") <= 1
    assert len(fingerprint(bearer)) == 16


@fuzzed(bodies(RECORDS))
def test_a_record_is_read_whole_or_not_at_all(body: bytes) -> None:
    try:
        record = decode_issued(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
    assert decode_issued(msgspec.json.encode(record)) == record
    assert not record.is_of(_KEY)
    assert record.has_expired(1e12) == (record.expires > 0)
    lines = [*table([record], 1.7e9), *description(record)]
    assert all(map(str.isprintable, lines)), "a name could move the cursor of a terminal"


_NAMED = st.text(min_size=1, max_size=9).filter(str.isprintable) | st.sampled_from(
    ["\u2028", "\x85"]
)
_RECORDS = st.builds(
    lambda number, name, notes, models: IssuedKey(
        id=f"{number:016x}",
        sha256=f"{number:064x}",
        name=name,
        created=number,
        notes=notes,
        models=tuple(models),
    ),
    st.integers(0, 1 << 30),
    _NAMED,
    st.text(max_size=20),
    st.lists(_NAMED, max_size=2),
)


@fuzzed(st.lists(_RECORDS, max_size=4))
def test_a_backup_restores_the_records_that_were_exported(records: list[IssuedKey]) -> None:
    exported = "".join(f"{msgspec.json.encode(record).decode()}\n" for record in records)
    assert list(read_records(exported)) == records


@fuzzed(st.lists(bodies(RECORDS) | st.binary(max_size=9), max_size=3))
def test_a_file_that_is_no_backup_is_refused(lines: list[bytes]) -> None:
    with suppress(KeysError):
        records = list(read_records(b"\n".join(lines).decode(errors="replace")))
        assert len(records) <= len(lines) + 3


_FIELDS = st.sampled_from(OPTIONS)
_VALUES = (
    ODD_TEXTS
    | ODD_NUMBERS.map(str)
    | st.sampled_from(
        ["never", "none", "2030-12-31", "0001-01-01T00:00+23:59", "9999-12-31T23:59-23:59", "a,b,,"]
    )
    | st.sampled_from(["enabled=true", "enabled=", "enabled=true,x=1", "flex", "units", "1e400"])
)


@fuzzed(_FIELDS, _VALUES)
def test_an_option_is_a_value_of_its_field_or_refused(chosen: Option, text: str) -> None:
    bare = decode_issued(msgspec.json.encode(RECORDS[1]))
    try:
        record = bare.changed({chosen.field: chosen.read(text)})
        msgspec.json.encode(record)
    except (argparse.ArgumentTypeError, msgspec.ValidationError, UnicodeEncodeError):
        return
    assert list(table([record], 1.7e9))
    assert decode_issued(msgspec.json.encode(record)) == record


_WORDS = st.sampled_from(
    ["sk-a", "sk-b", CANARY, "main", "a@b.c", "4", "0", "1000001", "00000001" + "9" * 9, "٣", "#c"]
)
_LINES = st.lists(st.lists(_WORDS | ODD_TEXTS, max_size=4).map(" ".join), max_size=5)


def parsed(text: str) -> tuple[tuple[Account, ...], str]:
    """The accounts of a file, or the reason for which it is refused."""
    try:
        return parse_accounts(text), ""
    except ValueError as error:
        return (), str(error)


@fuzzed(_LINES)
def test_a_file_of_accounts_is_read_or_refused_without_its_tokens(lines: list[str]) -> None:
    accounts, reason = parsed("\n".join(lines))
    assert CANARY not in reason
    assert "sk-" not in reason
    assert len({account.name for account in accounts}) == len(accounts)
    for account in accounts:
        assert 0 <= account.slots <= 1_000_000
        assert isinstance(account.token, Secret)
        assert account.token.reveal() not in repr(account.token)
