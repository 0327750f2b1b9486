"""Sealing, and the secret that all roles share."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.seal import SECRET_FILE, Seal, SealError, SecretError, load_secret

ONE, SAME, OTHER = Seal(b"one secret"), Seal(b"one secret"), Seal(b"another")


@given(st.binary(max_size=2000))
def test_a_box_sealed_by_one_process_is_opened_by_another_with_the_secret(plain: bytes) -> None:
    assert SAME.open(ONE.seal(plain, "p"), "p") == plain


def test_another_secret_or_purpose_opens_nothing() -> None:
    box = ONE.seal(b"x", "p")
    with pytest.raises(SealError):
        OTHER.open(box, "p")
    with pytest.raises(SealError):
        ONE.open(box, "q")


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_any_altered_byte_is_noticed(at: int, flip: int) -> None:
    box = bytearray(ONE.seal(b"some plain text", "p"))
    box[at % len(box)] ^= flip
    with pytest.raises(SealError):
        SAME.open(bytes(box), "p")


@given(st.binary(max_size=40))
def test_garbage_cannot_be_opened(garbage: bytes) -> None:
    with pytest.raises(SealError):
        ONE.open(garbage, "p")


def test_the_same_text_never_seals_to_the_same_box() -> None:
    boxes = {seal.seal(b"x", "p") for seal in (ONE, SAME) for _ in range(100)}
    assert len(boxes) == 200


def test_names_are_stable_and_reveal_nothing() -> None:
    assert ONE.name("account", "bearer") == SAME.name("account", "bearer")
    assert len({ONE.name("account", "a"), ONE.name("key", "a"), OTHER.name("account", "a")}) == 3
    assert ONE.fingerprint == SAME.fingerprint != OTHER.fingerprint


def test_no_value_of_an_owner_has_the_name_of_one_of_another() -> None:
    names = [
        ONE.owned("item", owner, value)
        for owner in ("gw", "gw 0123", "gw 0123 a", "other")
        for value in ("a", "0123 a", "0123\na", "a\n1", "0123 a\n1")
    ]
    assert len(set(names)) == len(names)
    assert ONE.owned("item", "bearer", "a") == ONE.name("item", "bearer a")


def test_the_secret_of_the_environment_is_preferred_to_the_file(tmp_path: Path) -> None:
    given = {"GATEWAY_SECRET": " a secret that was given\r\n"}
    assert load_secret(tmp_path, given) == b"a secret that was given"
    assert list(tmp_path.iterdir()) == []


def test_the_secret_file_is_readable_by_its_owner_only_and_kept(tmp_path: Path) -> None:
    secret = load_secret(tmp_path, {})
    assert len(secret) >= 32
    assert load_secret(tmp_path, {}) == secret
    (file,) = tmp_path.iterdir()
    assert file.name == SECRET_FILE
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600


def test_the_path_of_the_secret_file_can_be_set(tmp_path: Path) -> None:
    environ = {"GATEWAY_SECRET": "", "GATEWAY_SECRET_FILE": str(tmp_path / "mine")}
    secret = load_secret(tmp_path / "not looked at", environ)
    assert (tmp_path / "mine").read_bytes() == secret


def test_the_error_names_the_secret_file_that_cannot_be_created(tmp_path: Path) -> None:
    wanted = tmp_path / "missing" / "secret"
    with pytest.raises(SecretError) as caught:
        load_secret(tmp_path, {"GATEWAY_SECRET_FILE": str(wanted)})
    assert f"the secret in {wanted} cannot be" in str(caught.value)
    assert "No such file or directory" in str(caught.value)


def test_a_short_secret_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match="GATEWAY_SECRET: "):
        load_secret(tmp_path, {"GATEWAY_SECRET": "short"})
    (tmp_path / SECRET_FILE).touch()
    with pytest.raises(SecretError, match=SECRET_FILE):
        load_secret(tmp_path, {})


def test_roles_that_start_together_get_the_same_secret(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys; from wire.seal import load_secret;"
        "print(load_secret(pathlib.Path(sys.argv[1]), {}).decode())"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    printed = {process.communicate(timeout=120)[0] for process in started}
    assert len(printed) == 1
    assert len(printed.pop()) > 32
