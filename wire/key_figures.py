"""Figures of keys for the metrics: requests and tokens since they were first used, and jobs now.

The first 100 gateway keys that are used have figures of their own, until they are revoked. All
further ones are counted as `other`, and those that are no gateway keys as `passthrough`: so their
number is bounded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from wire.keyring import IssuedKey, Keyring, identity
from wire.line import keys
from wire.line.metrics import OTHER
from wire.line.snapshot import Snapshot
from wire.line.upkeep import UpkeepLine
from wire.line.usage import PASSTHROUGH
from wire.redis.client import Redis
from wire.seal import Seal

GROUPS = (PASSTHROUGH, OTHER)


class KeyFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one gateway key, or of a group of keys. `name` is that of the key, and unique."""

    id: str
    name: str
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    waiting: int = 0
    running: int = 0


class KeyReadings:
    """Reads the figures of all keys."""

    def __init__(self, redis: Redis, seal: Seal, line: UpkeepLine) -> None:
        self._redis = redis
        self._seal = seal
        self._line = line
        self._keyring = Keyring(redis, seal)

    async def read(self, snapshot: Snapshot) -> list[KeyFigures]:
        """Read the figures of all keys; the jobs of groups are the rest of those of a snapshot.

        Raises:
            redis.RedisError, OSError: Redis is unreachable (`REDIS_ERRORS`).
        """
        counted = await self._redis.hgetall(keys.counted)  # type: ignore[misc]  # redis-py: sync or async
        numbers: dict[str, dict[str, int]] = defaultdict(dict)
        for field, number in counted.items():
            book, what = field.decode().split(" ")
            numbers[book][what] = int(number)
        ids = sorted(numbers.keys() - set(GROUPS))
        names = unique_names(ids, await self._keyring.some(ids))
        jobs = dict(zip(ids, await self._jobs(ids), strict=True))
        used = [group for group in GROUPS if numbers[group].get("requests")]
        if used:
            jobs[used[-1]] = rest(snapshot, jobs.values())
        return [
            KeyFigures(
                id=book,
                name=names.get(book, book),
                requests=of.get("requests", 0),
                input_tokens=of.get("input", 0),
                output_tokens=of.get("output", 0),
                waiting=jobs.get(book, (0, 0))[0],
                running=jobs.get(book, (0, 0))[1],
            )
            for book, of in sorted(numbers.items())
            if book in names or book in used
        ]

    async def _jobs(self, ids: list[str]) -> list[tuple[int, int]]:
        return await self._line.key_jobs([self._seal.name("account", identity(id)) for id in ids])


def rest(snapshot: Snapshot, of_keys: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Numbers of waiting and running jobs of a snapshot, without those of some keys.

    They are not read at the same time, so they are not always exact.
    """
    sorts = snapshot.sorts.values()
    waiting, running = sum(jobs.waiting for jobs in sorts), sum(jobs.running for jobs in sorts)
    for its_waiting, its_running in of_keys:
        waiting, running = waiting - its_waiting, running - its_running
    return max(0, waiting), max(0, running)


def unique_names(ids: Iterable[str], records: Iterable[IssuedKey]) -> Mapping[str, str]:
    """A name for each id: that of its record, or a beginning of the id.

    When several keys have one name, or that of a group, only the oldest has it alone.
    """
    names = {id: id[:8] for id in ids}
    taken = {*GROUPS, *names.values()}
    for record in sorted(records, key=lambda record: (record.created, record.id)):
        is_free = record.name not in taken
        names[record.id] = record.name if is_free else f"{record.name} ({record.id[:8]})"
        taken.add(record.name)
    return names
