"""Sealing: everything in Redis can be read only with the gateway's secret.

All roles of a gateway share one secret. Two keys are derived from it: one for names (HMAC), and for
each process its own for sealing (AES-256-GCM). A sealed box begins with the random salt of the
process that made it, and the box's number is its nonce, so no nonce is used twice with one key,
however many processes share the secret.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from settings import SettingsError

_SALT = 16
_NONCE = 12
_TAG = 16

SHORTEST_SECRET = 16
"""Characters."""

SECRET_FILE = ".gateway-secret"  # noqa: S105 - its name


class SealError(Exception):
    """A box was not sealed with this secret and for this purpose, or was altered."""


class SecretError(SettingsError):
    """The secret cannot be read or created, or is short enough to be guessed."""


class Seal:
    """Seals and opens boxes with one secret, and makes names that reveal nothing."""

    OVERHEAD = _SALT + _NONCE + _TAG
    """Bytes by which a box is longer than its content."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._salt = secrets.token_bytes(_SALT)
        self._count = 0
        self._own_key = self._key(self._salt)
        self._key_of = lru_cache(maxsize=1024)(self._key)

    def _key(self, salt: bytes) -> AESGCM:
        return AESGCM(hmac.digest(self._secret, b"box" + salt, hashlib.sha256))

    def seal(self, plain: bytes, purpose: str) -> bytes:
        """Encrypt `plain`; `open` needs the same `purpose`."""
        nonce = self._count.to_bytes(_NONCE, "big")
        self._count += 1
        return self._salt + nonce + self._own_key.encrypt(nonce, plain, purpose.encode())

    def open(self, box: bytes, purpose: str) -> bytes:
        """Decrypt a box of `seal`.

        Raises:
            SealError: another secret or purpose, or an altered box.
        """
        salt, nonce, sealed = box[:_SALT], box[_SALT : _SALT + _NONCE], box[_SALT + _NONCE :]
        try:
            return self._key_of(salt).decrypt(nonce, sealed, purpose.encode())
        except (InvalidTag, ValueError) as error:
            raise SealError("sealed with another GATEWAY_SECRET, or damaged") from error

    def name(self, kind: str, value: str) -> str:
        """A stable name for a secret value, such as a bearer, that does not reveal the value."""
        return hmac.new(self._secret, f"{kind}:{value}".encode(), hashlib.sha256).hexdigest()[:32]

    def owned(self, kind: str, owner: str, value: str) -> str:
        """A name for a value of an owner, which no value of another owner has.

        An owner is a bearer, which has no space, or a name that has one. The names of the latter
        are of another kind: else a bearer could be the beginning of such a name.
        """
        if " " in owner:
            return self.name(f"{kind} of", f"{owner}\n{value}")
        return self.name(kind, f"{owner} {value}")

    @property
    def fingerprint(self) -> str:
        """Eight hex digits that distinguish secrets without revealing them."""
        return self.name("fingerprint", "")[:8]


def load_secret(directory: Path, environ: Mapping[str, str]) -> bytes:
    """Read `GATEWAY_SECRET`, or else a file with mode 0600, which is made if it is missing.

    The file is `GATEWAY_SECRET_FILE`, or one in `directory`.

    Roles start at the same time: the file appears complete and only once, whichever role is first
    (a link to a finished file either is made or finds one there).

    Raises:
        SecretError: the file cannot be read or created, or the secret is too short.
    """
    if given := environ.get("GATEWAY_SECRET", "").strip():
        return _checked(given.encode(), "GATEWAY_SECRET")
    path = Path(environ.get("GATEWAY_SECRET_FILE") or directory / SECRET_FILE)
    try:
        return _checked(_kept(path), str(path))
    except OSError as error:
        raise SecretError(
            f"the secret in {path} cannot be read or created: {error.strerror};"
            " name another file in GATEWAY_SECRET_FILE, or give the secret as GATEWAY_SECRET"
        ) from None


def _kept(path: Path) -> bytes:
    """Read the file, which is made if it is missing."""
    if not path.exists():
        draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(32))
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
        finally:
            draft.unlink()
    return path.read_bytes().strip()


def _checked(secret: bytes, source: str) -> bytes:
    if len(secret) < SHORTEST_SECRET:
        raise SecretError(
            f"{source}: a secret of at least {SHORTEST_SECRET} characters was expected, "
            "the same for all roles"
        )
    return secret
