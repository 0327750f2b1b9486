"""The part of the line that every role shares: scripts, processes, and the finishing of jobs.

`wire.line.front_end`, `wire.line.worker` and `wire.line.upkeep` are the three views of the line.
Every change is one Lua script (`scripts/`), so any number of processes can make changes at once,
and a process that is killed in between leaves nothing half done. `docs/redis.md` lists every key.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import settings
from wire.line import keys
from wire.line.limits import gap
from wire.line.presence import Presences
from wire.line.processes import Processes
from wire.line.scripts import Scripts
from wire.line.status import FinalState
from wire.line.usage import NO_TOKENS, Tokens


class UnknownReply(Exception):
    """A script returned a reply that its caller does not know, which is a bug in one of them."""


class LineView:
    """The line of one gateway, as seen by one role in one process."""

    def __init__(self, scripts: Scripts, config: settings.Queue) -> None:
        self.presences = Presences(scripts.redis, scripts.fingerprint, config)
        self.processes = Processes(scripts, config)
        self._redis = scripts.redis
        self._run = scripts.run
        self._upgrade = scripts.upgrade
        self._lease = round(config.lease * 1000)
        self._gap = gap(config)

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
        """Finish a running job: log `entry`, free its slot, publish a frame to each front end.

        `reason` is the word under which the ending is counted, the state by default.
        `upstream_failed`: any other job would have failed too; this counts towards the circuit
        breaker. `tokens` are those that it used. False if this attempt is not running any more: it
        has been finished or requeued.
        """
        used = (tokens.input, tokens.output)
        ending = (state, reason or state, *used, int(upstream_failed), entry)
        return bool(await self._run("finish", id, attempt, *ending, *channel_frames(frames)))

    async def finish_waiting(
        self, id: str, state: FinalState, entry: bytes, frames: Mapping[str, bytes], *, reason: str
    ) -> bool:
        """Finish a waiting job and publish a frame to each front end. False: it is not waiting."""
        ending = (state, reason, entry)
        return bool(await self._run("finish_waiting", id, *ending, *channel_frames(frames)))

    async def key_jobs(self, keys: Sequence[str]) -> list[tuple[int, int]]:
        """Numbers of the waiting and running jobs of some keys."""
        return [(waiting, running) for waiting, running in await self._run("key_jobs", *keys)]


def known_word(reply: bytes, words: Collection[str]) -> str:
    """The word that a script replied.

    Raises:
        UnknownReply: it is not one of these words.
    """
    word = reply.decode()
    if word not in words:
        raise UnknownReply(f"{word!r} is not one of {words}")
    return word


def channel_frames(frames: Mapping[str, bytes]) -> list[str | bytes]:
    """Channel and frame of each front end, as the scripts expect them at the end of ARGV."""
    return [part for id, frame in frames.items() for part in (keys.front_end(id), frame)]


def front_ends(readers: bytes) -> list[str]:
    """The front ends of a job's readers (`<front end>/<reader> ...`), each once."""
    return list(dict.fromkeys(reader.partition("/")[0] for reader in readers.decode().split()))
