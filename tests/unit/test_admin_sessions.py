"""Sessions of operators."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest

import settings
from app.admin.sessions import Session, Sessions
from settings.credentials import Secret
from wire.seal import Seal

PASSWORD = "correct horse"


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def sessions(
    password: str = PASSWORD, secret: bytes = b"a secret of the tests", clock: Clock | None = None
) -> Sessions:
    config = settings.Admin(password=Secret(password), session=100.0)
    return Sessions(config, Seal(secret), clock or Clock())


def test_every_front_end_finds_a_session_until_it_ends() -> None:
    clock = Clock()
    session, cookie = sessions().new("ann")
    assert sessions(clock=clock).find(cookie) == session == Session(session.id, "ann", 1_000_100.0)
    clock.now += 99.0
    assert sessions(clock=clock).find(cookie) == session
    clock.now += 1.0
    assert sessions(clock=clock).find(cookie) is None


def test_a_new_password_or_secret_ends_all_sessions() -> None:
    _, cookie = sessions().new("ann")
    assert sessions("another password").find(cookie) is None
    assert sessions(secret=b"another secret of tests").find(cookie) is None
    assert sessions("").find(cookie) is None


def test_no_altered_or_made_up_cookie_is_a_session() -> None:
    """Also if it was sealed with the secret, but for another purpose."""
    ours = sessions()
    _, cookie = ours.new("ann")
    box = urlsafe_b64decode(cookie)
    for at in range(len(box)):
        altered = box[:at] + bytes([box[at] ^ 1]) + box[at + 1 :]
        assert ours.find(urlsafe_b64encode(altered).decode()) is None
    for length in range(len(cookie)):
        assert ours.find(cookie[:length]) is None
    other = Seal(b"a secret of the tests").seal(b"\x93\xa1a\xa1b\xcb", "job")
    for made_up in ("", "é", "\udc80", "=", cookie * 100, urlsafe_b64encode(other).decode()):
        assert ours.find(made_up) is None


@pytest.mark.parametrize("given", ["", "correct hors", "correct horse ", "CORRECT HORSE", "\udc80"])
def test_only_the_password_is_the_password(given: str) -> None:
    assert sessions().is_password(PASSWORD)
    assert not sessions().is_password(given)


def test_nothing_is_the_password_if_there_is_none() -> None:
    assert not sessions("").is_password("")
    _, cookie = sessions("").new("ann")
    assert sessions("").find(cookie) is None


def test_a_form_token_belongs_to_one_session() -> None:
    ours = sessions()
    (ann, _), (bob, _) = ours.new("ann"), ours.new("bob")
    assert ours.is_form_token(ann, sessions().form_token(ann))
    for wrong in (ours.form_token(bob), "", "é\udc80"):
        assert not ours.is_form_token(ann, wrong)


def test_a_cookie_shows_neither_the_password_nor_the_name() -> None:
    _, cookie = sessions().new("ann-the-operator")
    box = urlsafe_b64decode(cookie)
    assert b"ann-the-operator" not in box
    assert PASSWORD.encode() not in box
