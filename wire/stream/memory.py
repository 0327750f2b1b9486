"""The stream without Redis: channels, logs and jobs in the memory of one process."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence

from wire.line import keys
from wire.line.claims import Claim
from wire.line.status import FinalState
from wire.line.usage import NO_TOKENS, Tokens


class MemorySubscription:
    """A subscription that loses nothing. See `wire.stream.channel.Subscribed`."""

    def __init__(self, channel: str, subscribers: list[asyncio.Queue[bytes]]) -> None:
        self.confirmed = asyncio.Event()
        self._channel = channel
        self._subscribers = subscribers

    async def messages(self) -> AsyncGenerator[tuple[str, bytes] | None, None]:
        """See `wire.stream.channel.Subscribed`."""
        frames: asyncio.Queue[bytes] = asyncio.Queue()
        self._subscribers.append(frames)
        self.confirmed.set()
        try:
            yield None
            while True:
                yield self._channel, await frames.get()
        finally:
            self.confirmed.clear()
            self._subscribers.remove(frames)


class MemoryChannel:
    """See `wire.stream.channel.Channel`."""

    def __init__(self) -> None:
        self.logs: dict[str, list[bytes]] = {}
        self._subscribers: defaultdict[str, list[asyncio.Queue[bytes]]] = defaultdict(list)

    def subscribe(self, channel: str) -> MemorySubscription:
        """See `wire.stream.channel.Channel`."""
        return MemorySubscription(channel, self._subscribers[channel])

    async def publish(self, channel: str, frame: bytes) -> None:
        """See `wire.stream.channel.Channel`."""
        for frames in self._subscribers[channel]:
            frames.put_nowait(frame)

    async def append(self, entries: Mapping[str, bytes]) -> None:
        """See `wire.stream.channel.Channel`."""
        for job, entry in entries.items():
            if job in self.logs:
                self.logs[job].append(entry)

    async def read(self, job: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        """See `wire.stream.channel.Channel`. A position is the number of entries up to it."""
        first = int(after or 0)
        entries = self.logs.get(job, [])[first : first + limit]
        return [(str(at), entry) for at, entry in enumerate(entries, first + 1)]


class MemoryLine:
    """Jobs that run, or are finished. See `PublishingLine` and `ReadingLine`."""

    def __init__(self, channel: MemoryChannel) -> None:
        self._channel = channel
        self._current: dict[str, int | None] = {}
        self._unlogged: set[str] = set()

    def start(self, claim: Claim) -> None:
        """Let a job run under this attempt, which is the current one from now on."""
        self._current[claim.id] = claim.attempt

    async def begin(self, claim: Claim, entry: bytes, frames: Mapping[str, bytes]) -> bool:
        """See `wire.line.worker.WorkerLine.begin`."""
        if self._current.get(claim.id) != claim.attempt:
            return False
        await self._log_and_publish(claim.id, entry, frames)
        return True

    async def stop_logging(self, claim: Claim) -> None:
        """See `wire.line.worker.WorkerLine.stop_logging`."""
        self._unlogged.add(claim.id)

    async def finish(
        self,
        id: str,
        attempt: int,
        state: FinalState,
        entry: bytes,
        frames: Mapping[str, bytes],
        *,
        reason: str = "",
        upstream_failed: bool = False,
        tokens: Tokens = NO_TOKENS,
    ) -> bool:
        """See `wire.line.view.LineView.finish`. Of the job, nothing else is kept."""
        if self._current.get(id) != attempt:
            return False
        self._current[id] = None
        await self._log_and_publish(id, entry, frames)
        return True

    async def _log_and_publish(self, id: str, entry: bytes, frames: Mapping[str, bytes]) -> None:
        self._channel.logs.setdefault(id, []).append(entry)
        for front_end, frame in frames.items():
            await self._channel.publish(keys.front_end(front_end), frame)

    async def waiting(self, ids: Sequence[str]) -> set[str]:
        """See `wire.line.front_end.FrontEndLine.waiting`. No job here is waiting."""
        return set()

    async def exists(self, id: str) -> bool:
        """See `wire.line.front_end.FrontEndLine.exists`."""
        return id in self._current

    async def log_incomplete(self, id: str) -> bool:
        """See `wire.line.front_end.FrontEndLine.log_incomplete`."""
        return id in self._unlogged
