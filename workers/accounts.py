"""The operator's accounts at one upstream, which all gateway keys share: their tokens and slots."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

import settings
from settings.accounts import Account
from settings.credentials import Secret
from settings.upstream_accounts import open_accounts
from wire.jobs import is_pool
from wire.line.offers import Offer
from wire.seal import Seal


def open_pool(name: str, limits: settings.Upstream, seal: Seal) -> PoolAccounts | None:
    """Return the accounts at the upstream of this name; None if the operator has none there.

    Raises:
        SettingsError: their file cannot be read.
    """
    if not limits.has_accounts:
        return None
    return PoolAccounts(name, limits, open_accounts(name, limits), seal)


class PoolAccounts:
    """The accounts at the upstream of this name, as `read` returns them now: at least one.

    In the line they have the name of the upstream before their own.
    """

    def __init__(
        self,
        upstream: str,
        limits: settings.Upstream,
        read: Callable[[], tuple[Account, ...]],
        seal: Seal,
    ) -> None:
        self._upstream = upstream
        self._limits = limits
        self._read = read
        self._seal = seal
        self._asking = 0

    def add_to(self, offer: Offer) -> Offer:
        """Offer them. The upstream's own account, if it was offered, has the slots of each."""
        asked = offer.accounts.get(self._upstream, 0)
        accounts = {self._id(each): each for each in self._read()}
        return replace(
            offer,
            accounts={id: self._slots(each, asked) for id, each in accounts.items()},
            tokens={id: self.token_name(each.token) for id, each in accounts.items()},
        )

    def token(self, account: str) -> Secret:
        """Return the token of an account, empty if it is not among them any more."""
        found = (each.token for each in self._read() if self._id(each) == account)
        return next(found, Secret())

    def token_name(self, token: Secret) -> str:
        """Return the name of a token in Redis, which does not show it."""
        return self._seal.name("token", token.reveal())

    def asking(self) -> Secret:
        """Return the token with which the upstream is asked about itself."""
        accounts = self._read()
        return accounts[self._asking % len(accounts)].token

    def ask_with_next(self) -> None:
        """Ask the upstream with another account from now on: it has refused this one."""
        self._asking += 1

    @property
    def number(self) -> int:
        """Number of the accounts."""
        return len(self._read())

    def _id(self, account: Account) -> str:
        return f"{self._upstream}/{account.name}"

    def _slots(self, account: Account, asked: int) -> int:
        limits = self._limits
        if account.slots or limits.kind == "openai":
            return account.slots or asked
        own = is_pool(account.token.reveal())
        return limits.per_pool_concurrency if own else limits.per_account_concurrency
