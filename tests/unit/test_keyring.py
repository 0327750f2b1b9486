"""Records of gateway keys: bounds, validity, and the names that the Lua scripts read."""

from __future__ import annotations

import json
from typing import get_args

import msgspec
import pytest

import settings
from app.auth import Caller
from app.scheduling import SHARES
from wire.jobs import fingerprint
from wire.keyring import BotSetting, IssuedKey, Priority, decode_issued

KEY = "gw-example"
RECORD = IssuedKey(
    id=fingerprint(KEY),
    sha256="ff92c15fc8b530dbc48aaba076230462162f5ac82671c637b950f1a8c74b2344",
    name="bot",
    created=1,
)


def test_a_record_has_the_names_that_the_scripts_read() -> None:
    fields = json.loads(msgspec.json.encode(RECORD))
    assert list(fields) == [
        *("id", "sha256", "name", "created", "expires", "revoked", "weight", "priority"),
        *("models", "max_running", "max_waiting", "requests_per_minute"),
        *("budget_unit", "budget_day", "budget_month", "max_wait", "bot", "notes"),
    ]
    assert fields["max_wait"] is None


def test_a_record_belongs_to_its_key_alone() -> None:
    assert RECORD.is_of(KEY)
    assert not RECORD.is_of("gw-other")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("weight", 0),
        ("priority", "urgent"),
        ("models", [""]),
        ("max_running", -1),
        ("requests_per_minute", 1.5),
        ("budget_day", -1.0),
        ("budget_unit", "dollars"),
        ("max_wait", -1.0),
        ("bot", {"enable": True}),
        ("name", ""),
    ],
)
def test_values_out_of_their_bounds_are_refused(field: str, value: object) -> None:
    with pytest.raises(msgspec.ValidationError, match=field):
        RECORD.changed({field: value})


def test_a_key_expires_at_its_time_and_not_before() -> None:
    record = RECORD.changed({"expires": 100})
    assert not record.has_expired(99.9)
    assert record.has_expired(100)
    assert not RECORD.has_expired(1e12)


def test_a_record_of_a_later_release_with_more_fields_can_be_read() -> None:
    later = json.loads(msgspec.json.encode(RECORD)) | {"colour": "blue"}
    assert decode_issued(json.dumps(later)) == RECORD


def test_its_words_are_those_of_the_settings_and_the_tiers() -> None:
    assert set(get_args(BotSetting)) == {
        field.name for field in msgspec.structs.fields(settings.Bot)
    }
    assert get_args(Priority) == tuple(SHARES)


def test_a_caller_has_the_settings_of_bot_that_its_key_overrides() -> None:
    config = settings.Bot(bing_reference=True)
    issued = Caller("gw", "", RECORD.changed({"bot": {"enabled": True, "bing_reference": False}}))
    assert issued.bot(config) == settings.Bot(enabled=True)
    assert Caller("sk-1", "sk-1").bot(config) == config


def test_a_caller_is_named_by_its_key_and_weighs_as_its_record_says() -> None:
    heavy = Caller(f"gw {RECORD.id}", "", RECORD.changed({"weight": 3}))
    assert heavy.fingerprint == RECORD.id
    assert heavy.weight({RECORD.id: 2.0}) == 3.0
    other = Caller("sk-1", "sk-1")
    assert other.fingerprint == fingerprint("sk-1")
    assert other.weight({fingerprint("sk-1"): 2.0}) == 2.0
    assert other.weight({}) == 1.0
