"""Accounts of the operator at an upstream, one a line: `token [name [slots]]`. Pure.

An error names the line, and never shows what it contains: the order may be wrong.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

import msgspec

from settings.credentials import Secret, bearer

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,39}")
_SECRET = re.compile(r"(sk|pk|fk|gw|eyJ)[-A-Za-z0-9]")
_MOST = 1_000_000


class Account(msgspec.Struct, frozen=True):
    """An account. `slots` is the number of requests at once, 0 for the upstream's default."""

    token: Secret
    name: str
    slots: int = 0


def parse_accounts(text: str) -> tuple[Account, ...]:
    """Parse the accounts of a file; # begins a comment.

    Raises ValueError.
    """
    lines = enumerate((line.partition("#")[0] for line in text.splitlines()), 1)
    return _accounts((f"line {n}", line) for n, line in lines if line.strip())


def list_accounts(lines: Iterable[str]) -> tuple[Account, ...]:
    """Parse the accounts of a list.

    Raises ValueError.
    """
    accounts = [(f"item {n}", line) for n, line in enumerate(lines, 1)]
    return _accounts(accounts) if accounts else ()


def _accounts(lines: Iterable[tuple[str, str]]) -> tuple[Account, ...]:
    found: dict[str, Account] = {}
    tokens: set[Secret] = set()
    for place, line in lines:
        try:
            account = _account(line.split())
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
        if account.token in tokens:
            raise ValueError(f"{place}: the token of an earlier account")
        if account.name in found:
            raise ValueError(f"{place}: the name of an earlier account")
        tokens.add(account.token)
        found[account.name] = account
    if not found:
        raise ValueError("has no account")
    return tuple(found.values())


def _account(words: list[str]) -> Account:
    if not 1 <= len(words) <= 3:
        raise ValueError("expected a token, and after it a name and a number of slots, if any")
    token = bearer(Secret(words[0]))
    name = words[1] if len(words) > 1 else _default_name(token)
    if not _NAME.fullmatch(name) or _SECRET.match(name):
        raise ValueError(
            "expected a name of at most 40 letters, digits and ._@+- after the token, which does"
            " not begin like a token"
        )
    return Account(token, name, _slots(words[2]) if len(words) > 2 else 0)


def _default_name(token: Secret) -> str:
    return f"account-{hashlib.sha256(token.reveal().encode()).hexdigest()[:8]}"


def _slots(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:8]) <= _MOST and len(text) < 8):
        raise ValueError("expected a whole number of slots >= 1 after the name")
    return int(text)
