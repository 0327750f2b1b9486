"""The gateway as one can observe it from a terminal: in Redis alone, so no front end is needed."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from app.admin.actions import Actions
from app.admin.boards import Boards, NamedBoard, RedisGone, Unreadable, in_time
from settings import Settings
from wire import VERSION
from wire.keyring import Keyring
from wire.line import keys
from wire.line.audit import Audit
from wire.line.history import Minute, read_history
from wire.line.operator import OperatorLine
from wire.line.presence import Presence
from wire.line.processes import Processes, ProcessFigures
from wire.line.scripts import Scripts, WrongVersionError
from wire.redis.client import Redis, connect
from wire.seal import Seal, load_secret

CONNECTIONS = 4

MINUTES = 60
"""Minutes of history that are read."""


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything at one time. `fingerprint` is that of our secret.

    `processes` are those that show their figures: those of a release before figures do not, but
    their `workers` are known. `minutes` are the history of the last hour.
    """

    board: NamedBoard
    fingerprint: str
    workers: list[Presence] = []
    processes: list[ProcessFigures] = []
    minutes: list[Minute] = []

    @property
    def our_workers(self) -> list[Presence]:
        """Workers with our secret that take jobs."""
        ours = (each for each in self.workers if each.fingerprint == self.fingerprint)
        return [worker for worker in ours if worker.max_jobs]

    @property
    def front_ends(self) -> list[ProcessFigures]:
        """Front ends with our secret."""
        ours = (each for each in self.processes if each.fingerprint == self.fingerprint)
        return [process for process in ours if process.role == "front_end"]


class Observer:
    """Reads the gateway of the settings."""

    def __init__(self, redis: Redis, config: Settings, seal: Seal) -> None:
        scripts = Scripts(redis, seal.fingerprint)
        self._redis = redis
        self._fingerprint = seal.fingerprint
        self._processes = Processes(scripts, config.queue)
        self.line = OperatorLine(scripts, config.queue)
        keyring = Keyring(redis, seal)
        self.boards = Boards(self.line, keyring)
        self.actions = Actions(self.line, keyring, Audit(redis), seal)

    async def check_version(self) -> None:
        """Check the version of the data, and never convert them: older roles may be at work.

        Raises:
            WrongVersionError: they are of another version.
            RedisGone: Redis cannot be used.
        """
        found = await in_time(self._redis.get(keys.version))
        if found is not None and int(found) != VERSION:
            raise WrongVersionError(int(found))

    async def observe(self, board: NamedBoard | None = None) -> Observation:
        """Read all that there is besides a board, by default the latest one. Raises RedisGone."""
        return Observation(
            board=board or await self.boards.latest(),
            fingerprint=self._fingerprint,
            workers=await in_time(self.line.presences.workers()),
            processes=await in_time(self._processes.list()),
            minutes=await in_time(read_history(self._redis, MINUTES)),
        )

    async def changes(self) -> AsyncGenerator[Observation | Unreadable]:
        """Yield an observation each second, and a reason while there is none."""
        async for board in self.boards.changes():
            try:
                yield board if isinstance(board, Unreadable) else await self.observe(board)
            except RedisGone as error:
                yield Unreadable(reason=str(error))


@asynccontextmanager
async def observer(config: Settings) -> AsyncIterator[Observer]:
    """Observer of a gateway, for as long as the context lasts.

    Raises:
        SettingsError: the secret cannot be read.
        WrongVersionError, RedisGone: as in `Observer.check_version`.
    """
    seal = Seal(load_secret(config.directory, os.environ))
    redis = connect(config.redis.role_url, CONNECTIONS)
    try:
        observer = Observer(redis, config, seal)
        await observer.check_version()
        yield observer
    finally:
        await redis.aclose()
