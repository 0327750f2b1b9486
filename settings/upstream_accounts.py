"""The operator's accounts at an upstream, as its workers use them."""

from __future__ import annotations

from collections.abc import Callable

from settings import Upstream, table_of
from settings.accounts import Account, parse_accounts
from settings.changing_file import ChangingFile


def open_accounts(name: str, upstream: Upstream) -> Callable[[], tuple[Account, ...]]:
    """Return a function that gives the current accounts at an upstream; none if it has none.

    It is cheap enough for every request: `accounts_file` is read again only after a change.

    Raises:
        SettingsError: the file cannot be read.
    """
    if not upstream.accounts_file:
        return lambda: upstream.accounts
    file = ChangingFile(f"{table_of(name)}.accounts_file", upstream.accounts_file, parse_accounts)
    return file.current
