"""All views of the line in one object, for benchmarks and tests that play every role."""

from __future__ import annotations

from arq.connections import ArqRedis

import settings
from wire.jobs import Lane
from wire.line.front_end import FrontEndLine
from wire.line.scripts import Scripts
from wire.line.upkeep import UpkeepLine
from wire.line.worker import WorkerLine
from wire.seal import Seal


class WholeLine(FrontEndLine, WorkerLine, UpkeepLine):
    """All three views of one line."""

    def __init__(
        self,
        redis: ArqRedis,
        seal: Seal,
        config: settings.Queue,
        upstream: settings.Upstream | None = None,
    ) -> None:
        self.redis = redis
        self.scripts = Scripts(redis, seal.fingerprint)
        super().__init__(self.scripts, config, upstream or settings.Upstream())

    @property
    def settling(self) -> int:
        """Time (ms) after a disturbance in which nothing is claimed."""
        return self._settle

    def queue_key(self, lane: Lane) -> str:
        """The lane's sorted set of jobs that may be claimed."""
        return f"arq:queue:{lane}:{self.scripts.fingerprint}"
