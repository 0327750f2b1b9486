"""The upkeep view of the line: expired leases, missed deadlines, repairs, and a snapshot of all."""

from __future__ import annotations

from collections.abc import Sequence

from wire.jobs import Sort
from wire.line import keys
from wire.line.claims import Cancellation, StalledJob
from wire.line.snapshot import Snapshot, SortSnapshot
from wire.line.view import LineView, front_ends

SHARED = ("paused", "aside", "resting", "parked", "ready")
"""States of an account that keys share, in the order of `snapshot.lua`."""

PAUSED = ("all", "key", "upstream", "account")
"""Kinds of pauses, in the order of `snapshot.lua`."""

MAX_CRASHES = 3
"""Number of crashed workers after which a job is not tried again."""


AT_ONCE = 1000
"""Jobs of a revoked key that are looked up in one call."""


class UpkeepLine(LineView):
    """The line as every process helps to maintain it, and as health and metrics read it."""

    async def reap(self) -> tuple[int, list[StalledJob]]:
        """Take jobs from leases that expired.

        Returns how many were requeued, and those that the caller has to finish.
        """
        requeued, stalled = await self._run("reap", self._lease, self._gap, MAX_CRASHES)
        return requeued, [
            StalledJob(id.decode(), int(attempt), front_ends(readers), _cancellation(cancel))
            for id, attempt, readers, cancel in stalled
        ]

    async def check_version(self) -> None:
        """Check the version of the data in Redis; note it if they have none.

        Raises:
            WrongVersionError: they are of another version.
        """
        await self._upgrade()

    async def overdue(self, since: float) -> list[tuple[str, list[str]]]:
        """Waiting jobs whose deadline passed more than `since` seconds ago: ids and front ends."""
        found = await self._run("overdue", round(since * 1000))
        return [(id.decode(), front_ends(readers)) for id, readers in found]

    async def revoke(
        self, key: str, *, ends_running: bool
    ) -> tuple[int, list[tuple[str, list[str]]]]:
        """Have workers end the running jobs of a key, if they have to.

        Returns its waiting jobs, ids and front ends, and the number of its others.
        """
        others, *waiting = await self._run("revoke", key, int(ends_running), AT_ONCE)
        return others, [(id.decode(), front_ends(readers)) for id, readers in waiting]

    async def body(self, id: str) -> bytes:
        """Return the sealed request of an unfinished job; b"" if there is none."""
        (body,) = await self._redis.hmget(keys.job(id), ["body"])  # type: ignore[misc]  # redis-py: sync or async
        return body or b""

    async def acquire_reconciliation(self, period: int) -> bool:
        """Return True for the one process that reconciles in this period (ms)."""
        return bool(await self._redis.set(keys.reconciler, b"", px=period - 1, nx=True))

    async def reconcile_seats(self, checked: Sequence[str]) -> int:
        """Repair the leases, and the seats of some keys; returns the number of repairs."""
        return int(await self._run("reconcile_seats", *checked))

    async def reconcile_places(self, sort: Sort, cursor: str, number: int) -> tuple[str, int]:
        """Repair the places of about that many waiting jobs, from a cursor on ("0" at first).

        Returns the next cursor ("0" after the last jobs), and the number of repairs.
        """
        following, made = await self._run("reconcile_places", sort, cursor, number)
        return following.decode(), made

    async def reconcile_counts(self, most: int) -> int:
        """Repair the counts of a line with at most that many jobs; returns the number of repairs.

        A longer one is left alone.
        """
        return int(await self._run("reconcile_counts", most))

    async def show_repairs(self, number: int, shown: int) -> None:
        """Have `repairs` report this number for `shown` ms."""
        await self._redis.set(keys.repaired, number, px=shown)

    async def keys_with_seats(self) -> list[str]:
        """The keys that have a job in the queue or running."""
        seated: set[str] = set()
        for key in (keys.queued, keys.running, keys.holds):
            found = self._redis.scan_iter(match=key("*"), count=1000)
            seated |= {name.decode().rpartition(":")[2] async for name in found}
        return sorted(seated)

    async def repairs(self) -> int:
        """Number of repairs made by the latest reconciliation."""
        return int(await self._redis.get(keys.repaired) or 0)

    async def snapshot(self) -> Snapshot:
        """Count jobs, leases, accounts and workers."""
        (
            sorts,
            accounts,
            workers,
            open_for,
            settling,
            served,
            shared,
            slots,
            paused,
        ) = await self._run("snapshot", self._gap)
        resting, parked, limited = accounts
        return Snapshot(
            {sort.decode(): SortSnapshot(*numbers) for sort, *numbers in sorts},
            {"resting": resting, "parked": parked, "limited": limited},
            workers,
            None if open_for < 0 else open_for / 1000,
            settling / 1000,
            served,
            {name.decode(): dict(zip(SHARED, of, strict=True)) for name, *of in shared},
            slots,
            dict(zip(PAUSED, paused, strict=True)),
        )


def _cancellation(mark: bytes) -> Cancellation | None:
    """Decode the mark of a job that is being cancelled: empty if it is not."""
    match mark:
        case b"":
            return None
        case b"revoked":
            return "revoked"
        case b"operator":
            return "operator"
        case _:
            return "cancel"
