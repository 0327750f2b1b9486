"""Admission of clients by their keys."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

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
    assert access.admits("anything")
    assert not access.note


def test_a_gateway_that_would_be_an_open_relay_does_not_start() -> None:
    config = Settings(others={"gpu_b": GUARDED})
    with pytest.raises(SettingsError) as caught:
        client_access(config)
    assert str(caught.value) == (
        "auth.keys: not set, so anyone who can connect to 0.0.0.0 could use the credential of the"
        " upstream gpu_b. Set auth.keys or auth.keys_file to the SHA-256 hashes of the keys that"
        ' clients may use, or server.host to "127.0.0.1", or auth.open to true'
    )
    with pytest.raises(SettingsError):
        client_access(Settings(upstream=GUARDED, server=Server(host="::1")), host="10.0.0.1")


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
        with pytest.raises(SettingsError, match=r"connect to 0\.0\.0\.0 could use"):
            client_access(local, host(everywhere))
    with listen(Server(host="localhost", port=free_port())) as here:
        assert client_access(Settings(upstream=GUARDED), host(here)).any_key


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_only_keys_with_a_listed_hash_are_admitted(host: str) -> None:
    auth = Auth(keys=(digest("one").upper(), digest("two")[:16]))
    access = client_access(Settings(upstream=GUARDED, auth=auth, server=Server(host=host)))
    assert not access.any_key
    assert [access.admits(key) for key in ("one", "two", "three", "", digest("one"))] == [
        *(True, True),
        *(False, False, False),
    ]


def test_the_file_of_keys_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# bots\n{digest('one')}  -\n\n{digest('two')[:16]} # of Ann\n")
    auth = Auth(keys=(digest("zero"),), keys_file=str(file))
    access = client_access(Settings(upstream=GUARDED, auth=auth))
    assert [access.admits(key) for key in ("zero", "one", "two", "three")] == [True] * 3 + [False]
    file.write_text(digest("three"))
    os.utime(file, ns=(1, 1))
    assert [access.admits(key) for key in ("zero", "one", "three")] == [True, False, True]


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
