"""Admission of clients by their keys."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Literal

import pytest
from msgspec.structs import replace

from app.http.sockets import host, listen
from local.redis import free_port
from settings import Auth, Server, Settings, SettingsError, Upstream
from settings.client_access import OPEN, client_access, is_loopback
from settings.credentials import Secret

GUARDED = Upstream(kind="openai", base_url="http://a", credential=Secret("sk-hush"))


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def test_any_key_is_admitted_if_no_upstream_has_a_credential() -> None:
    access = client_access(Settings())
    assert access.any_key
    assert not access.lists("anything")
    assert not access.note


def test_a_gateway_that_would_be_an_open_relay_takes_only_gateway_keys() -> None:
    here = Server(host="::1")
    for access in (
        client_access(Settings(others={"gpu_b": GUARDED})),
        client_access(Settings(upstream=GUARDED, server=here), host="10.0.0.1"),
    ):
        assert access.needs_gateway_keys
        assert not access.any_key
        assert not access.lists("anything")


TOKENS = Upstream(base_url="http://p")
UNGUARDED = Upstream(kind="openai", base_url="http://b")
LISTED = ("2bb80d537b1da3e3",)


@pytest.mark.parametrize(
    ("mode", "upstreams", "keys", "gateway_keys", "passes_through", "any_key"),
    [
        ("", [TOKENS], (), False, True, True),
        ("", [TOKENS], LISTED, False, True, True),
        ("", [UNGUARDED], (), False, True, True),
        ("", [TOKENS, UNGUARDED], (), False, True, True),
        ("", [UNGUARDED], LISTED, True, False, False),
        ("", [GUARDED], (), True, False, False),
        ("", [TOKENS, GUARDED], (), True, True, False),
        ("", [TOKENS, UNGUARDED], LISTED, True, True, False),
        ("passthrough", [TOKENS, UNGUARDED], (), False, True, True),
        ("keys", [UNGUARDED], (), True, False, False),
        ("keys", [GUARDED], LISTED, True, False, False),
        ("both", [UNGUARDED], (), True, True, True),
        ("both", [TOKENS, GUARDED], (), True, True, False),
    ],
)
def test_the_mode_follows_from_the_upstreams_unless_it_is_set(
    mode: Literal["", "passthrough", "keys", "both"],
    upstreams: list[Upstream],
    keys: tuple[str, ...],
    gateway_keys: bool,
    passes_through: bool,
    any_key: bool,
) -> None:
    others = {f"u{number}": upstream for number, upstream in enumerate(upstreams)}
    access = client_access(Settings(others=others, auth=Auth(mode=mode, keys=keys)))
    assert access.has_gateway_keys is gateway_keys
    assert access.passes_through is passes_through
    assert access.any_key is any_key


@pytest.mark.parametrize(
    ("mode", "upstream", "message"),
    [
        ("passthrough", GUARDED, 'expected "keys" or "both", as anyone could use your credential'),
        ("keys", TOKENS, 'expected "passthrough" or "both", as clients bring their own tokens'),
        ("both", TOKENS, 'expected "passthrough", as there is no upstream that a gateway key'),
    ],
)
def test_a_mode_that_does_not_suit_the_upstreams_is_refused(
    mode: Literal["passthrough", "keys", "both"], upstream: Upstream, message: str
) -> None:
    with pytest.raises(SettingsError, match=rf"^auth\.mode: {message}.* upstream box"):
        client_access(Settings(others={"box": upstream}, auth=Auth(mode=mode)))


def test_a_mode_that_contradicts_another_setting_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^open: expected false"):
        Auth(mode="keys", open=True)
    with pytest.raises(ValueError, match=r'^mode: expected "keys" or "both"'):
        Auth(mode="passthrough", keys=LISTED)


def test_the_mode_keys_holds_for_this_machine_too() -> None:
    local = Settings(upstream=GUARDED, server=Server(host="127.0.0.1"), auth=Auth(mode="keys"))
    assert client_access(local).needs_gateway_keys
    assert not client_access(replace(local, auth=Auth(mode="keys", keys=LISTED))).needs_gateway_keys


def test_it_starts_for_this_machine_alone_or_if_the_operator_opens_it() -> None:
    local = client_access(Settings(upstream=GUARDED, server=Server(host="127.0.0.1")))
    assert (local.any_key, local.note) == (True, "")
    opened = client_access(Settings(upstream=GUARDED, auth=Auth(open=True)))
    assert (opened.any_key, opened.note) == (True, OPEN)
    assert not client_access(Settings(auth=Auth(open=True))).note


def test_the_address_of_a_socket_counts_whatever_the_settings_say() -> None:
    """That of systemd may listen on every interface, and `server.host` has no effect then."""
    with listen(Server(host="0.0.0.0", port=free_port())) as everywhere:
        local = Settings(upstream=GUARDED, server=Server(host="127.0.0.1"))
        assert not client_access(local, host(everywhere)).any_key
    with listen(Server(host="localhost", port=free_port())) as here:
        assert client_access(Settings(upstream=GUARDED), host(here)).any_key


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_only_keys_with_a_listed_hash_are_admitted(host: str) -> None:
    auth = Auth(keys=(digest("one").upper(), digest("two")[:16]))
    access = client_access(Settings(upstream=GUARDED, auth=auth, server=Server(host=host)))
    assert not access.any_key
    assert [access.lists(key) for key in ("one", "two", "three", "", digest("one"))] == [
        *(True, True),
        *(False, False, False),
    ]


def test_the_file_of_keys_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# bots\n{digest('one')}  -\n\n{digest('two')[:16]} # of Ann\n")
    auth = Auth(keys=(digest("zero"),), keys_file=str(file))
    access = client_access(Settings(upstream=GUARDED, auth=auth))
    assert [access.lists(key) for key in ("zero", "one", "two", "three")] == [True] * 3 + [False]
    file.write_text(digest("three"))
    os.utime(file, ns=(1, 1))
    assert [access.lists(key) for key in ("zero", "one", "three")] == [True, False, True]


def test_a_file_that_contains_keys_instead_of_hashes_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("sk-hush")
    with pytest.raises(SettingsError, match=r"^auth\.keys_file: .*: expected SHA-256") as caught:
        client_access(Settings(auth=Auth(keys_file=str(file))))
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *(("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True)),
        *(("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("gateway", False), ("", False)),
    ],
)
def test_an_address_of_this_machine_alone_is_recognized(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
