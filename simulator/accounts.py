"""Caps on the conversations of each account and of all, and their counters."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType

import msgspec

from simulator.errors import BUSY, TOO_MANY, RefusedError


class Limits(msgspec.Struct, frozen=True):
    """Caps on open conversations. Bearers that begin with `pk-` are pools."""

    total: int = 64
    per_account: int = 1
    per_pool: int = 3


class Stats(msgspec.Struct, frozen=True):
    """Counters of `GET /simulator/stats`; docs/simulator.md explains them."""

    active: int
    peak: int
    peak_per_account: int
    started: int
    finished: int
    aborted: int
    orphans: int
    refused: int
    refused_for_orphans: int
    errors: int
    accounts: int


@dataclass
class _Tally:
    """Counters since a reset. A conversation counts for the tally in which it started."""

    peak: int = 0
    peak_per_account: int = 0
    started: int = 0
    finished: int = 0
    aborted: int = 0
    orphans: int = 0
    refused: int = 0
    refused_for_orphans: int = 0
    errors: int = 0
    accounts: set[str] = field(default_factory=set)


class Accounts:
    """Enforces the caps. No method awaits, so nothing happens between a check and the next call."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._active: Counter[str] = Counter()
        self._orphans: Counter[str] = Counter()
        self._tally = _Tally()

    def check(self, bearer: str) -> None:
        """Raise RefusedError (429) if the bearer may not start a conversation now."""
        pool = bearer.startswith("pk-")
        cap = self._limits.per_pool if pool else self._limits.per_account
        if self._active[bearer] >= cap:
            self._tally.refused += 1
            raise RefusedError(BUSY)
        if self._active.total() >= self._limits.total:
            self._tally.refused += 1
            raise RefusedError(TOO_MANY)
        if self._active[bearer] + self._orphans[bearer] >= cap:
            self._tally.refused_for_orphans += 1
            raise RefusedError(BUSY)

    def hold(self, bearer: str, linger: float = 0.0) -> Hold:
        """Start a conversation: `with accounts.hold(bearer) as hold`. Call `check` just before.

        If its client disconnects, its account stays busy for `linger` seconds.
        """
        tally = self._tally
        self._active[bearer] += 1
        tally.started += 1
        tally.accounts.add(bearer)
        tally.peak = max(tally.peak, self._active.total())
        tally.peak_per_account = max(tally.peak_per_account, self._active[bearer])
        return Hold(self, bearer, linger, tally)

    def release(self, bearer: str) -> None:
        """End a conversation for its client."""
        _less(self._active, bearer)

    def orphan(self, bearer: str, linger: float) -> None:
        """Continue a conversation for `linger` seconds without its client."""
        self._orphans[bearer] += 1
        asyncio.get_running_loop().call_later(linger, _less, self._orphans, bearer)

    def count_error(self) -> None:
        """Count one scripted error answer."""
        self._tally.errors += 1

    def stats(self) -> Stats:
        """Return the counters."""
        tally = self._tally
        return Stats(
            active=self._active.total(),
            peak=tally.peak,
            peak_per_account=tally.peak_per_account,
            started=tally.started,
            finished=tally.finished,
            aborted=tally.aborted,
            orphans=tally.orphans,
            refused=tally.refused,
            refused_for_orphans=tally.refused_for_orphans,
            errors=tally.errors,
            accounts=len(tally.accounts),
        )

    def reset(self) -> None:
        """Set all counters to zero. Open conversations stay active, and end in the old tally."""
        most = max(self._active.values(), default=0)
        self._tally = _Tally(peak=self._active.total(), peak_per_account=most)


class Hold:
    """One open conversation. It ends once: finished by `finish`, or aborted by an exception."""

    def __init__(self, accounts: Accounts, bearer: str, linger: float, tally: _Tally) -> None:
        self._accounts = accounts
        self.bearer = bearer
        self._linger = linger
        self._tally = tally
        self._open = True

    def finish(self) -> None:
        """End the conversation at the end of its script, and free the account."""
        if self._open:
            self._release()
            self._tally.finished += 1

    def _release(self) -> None:
        self._open = False
        self._accounts.release(self.bearer)

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.finish()
        elif self._open:
            self._release()
            self._tally.aborted += 1
            if self._linger:
                self._accounts.orphan(self.bearer, self._linger)
                self._tally.orphans += 1


def _less(counter: Counter[str], bearer: str) -> None:
    counter[bearer] -= 1
    if not counter[bearer]:
        del counter[bearer]
