"""Sessions of people who have signed in.

A session is its cookie: sealed with the gateway's secret, for the present password. So nothing is
stored, every front end accepts it, and a new password or secret ends all sessions.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable

import msgspec

import settings
from wire.seal import Seal, SealError

LONGEST_COOKIE = 1000
"""Characters. A longer one is not opened."""


class Session(msgspec.Struct, frozen=True, array_like=True):
    """Time for which somebody has signed in, under a name; `expires` is a Unix time."""

    id: str
    name: str
    expires: float


class Sessions:
    """Makes sessions and checks them. Without a password there are none."""

    def __init__(
        self, config: settings.Admin, seal: Seal, clock: Callable[[], float] = time.time
    ) -> None:
        self._password = config.password
        self._length = config.session
        self._seal = seal
        self._purpose = f"session {seal.name('admin password', config.password.reveal())}"
        self._clock = clock
        self.cookie = f"gateway_operator_{seal.fingerprint}"
        """Name of the cookie: other gateways of the same host have others."""

    def is_password(self, given: str) -> bool:
        """Return True for the password. Takes the same time for every other one."""
        is_same = hmac.compare_digest(_digest(given), _digest(self._password.reveal()))
        return is_same and bool(self._password)

    def new(self, name: str) -> tuple[Session, str]:
        """Begin a session; return it and its cookie."""
        session = Session(secrets.token_hex(16), name, self._clock() + self._length)
        box = self._seal.seal(msgspec.msgpack.encode(session), self._purpose)
        return session, urlsafe_b64encode(box).decode()

    def find(self, cookie: str) -> Session | None:
        """Return the session of a cookie; None if it has ended, or is none of this gateway."""
        if not (self._password and 0 < len(cookie) <= LONGEST_COOKIE):
            return None
        try:
            box = urlsafe_b64decode(cookie.encode())
            session = msgspec.msgpack.decode(self._seal.open(box, self._purpose), type=Session)
        except (binascii.Error, UnicodeEncodeError, SealError, msgspec.DecodeError):
            return None
        return session if self._clock() < session.expires else None

    def form_token(self, session: Session) -> str:
        """Return the token that every change by this session must bring, in a form or a header.

        Other sites cannot read it, so they cannot have a browser send it.
        """
        return self._seal.name("admin form", session.id)

    def is_form_token(self, session: Session, given: str) -> bool:
        """Return True for the token of a session. Takes the same time for every other one."""
        expected = self.form_token(session).encode()
        return hmac.compare_digest(given.encode(errors="replace"), expected)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()
