"""Conversations that are to be deleted upstream once they are over, remembered until they are.

A worker notes a conversation as soon as it knows its id, before anything of the answer is
published, and says at every heartbeat that it still goes on. Once it is over, or nobody has said so
for a lease period and a heartbeat, any worker deletes it: by then its worker is gone, or has closed
it for want of a lease. Only a Redis that was away for everyone keeps workers from saying so while
their conversations go on; so nothing is deleted for as long after a disturbance (`pulse.lua`).

What fails is tried again, after as long as has passed since the end (five seconds at least, a
quarter of an hour at most), until `MAX_AGE`: then Redis drops the record, and with it the bearer it
holds.

Delivery: at least once. A conversation whose worker dies before the first event is not known, and
stays; so does one whose worker dies while Redis is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path

import msgspec
from arq.connections import ArqRedis

import settings
from runtime.tasks import background
from wire import VERSION
from wire.line.scripts import load, modules
from wire.redis.outage import REDIS_ERRORS, Outage
from wire.seal import Seal, SealError

logger = logging.getLogger(__name__)

MAX_AGE = 24 * 3600.0
"""Seconds after which a conversation that cannot be deleted stays."""

SHORTEST_PAUSE, LONGEST_PAUSE = 5.0, 900.0
"""Seconds between two tries to delete one conversation, at first and at most."""

_PATIENCE = 1.0  # seconds that an answer waits for its conversation to be noted
_LAST_WORDS = 2.0  # seconds for what is due when a worker stops
_CLAIMED = 60.0  # seconds that a worker has for one try, before another one makes it
_AT_ONCE = 10
_RETRY = 1.0  # seconds between two looks while Redis is away

Delete = Callable[[str, str], Awaitable[bool]]
"""Deletes a conversation of a bearer, in less than `_CLAIMED`; whether nothing is left to do."""

_SCRIPTS = Path(__file__).parent / "deletion_scripts"


class _Record(msgspec.Struct, frozen=True, array_like=True):
    version: int
    bearer: str
    conversation_id: str


_decoder = msgspec.msgpack.Decoder(_Record)


class Trace:
    """What one answer leaves behind upstream. Made by `Deletions.trace`."""

    def __init__(self, deletions: Deletions, bearer: str) -> None:
        self._deletions = deletions
        self._bearer = bearer
        self._ids: dict[str, str] = {}

    async def note(self, conversation_id: str) -> None:
        """Have a conversation deleted once the trace ends. Raises nothing; cheap to repeat.

        Returns when Redis knows of it, or cannot be reached now.
        """
        if conversation_id and conversation_id not in self._ids:
            id = self._deletions.name(self._bearer, conversation_id)
            self._ids[conversation_id] = id
            await self._deletions.begin(id, self._bearer, conversation_id)

    def end(self) -> None:
        """The answer is over, in whatever way."""
        self._deletions.end(self._ids.values())


class Deletions:
    """All that this gateway has to delete, seen from one worker, which deletes with `delete`."""

    def __init__(
        self,
        redis: ArqRedis,
        seal: Seal,
        delete: Delete,
        config: settings.Queue,
        *,
        max_age: float = MAX_AGE,
        shortest_pause: float = SHORTEST_PAUSE,
    ) -> None:
        self._redis = redis
        self._seal = seal
        self._delete = delete
        self._beat = config.heartbeat
        self._hold = config.lease + config.heartbeat
        self._max_age = max_age
        self._shortest_pause = shortest_pause
        self._due = f"gateway:deletions:{seal.fingerprint}"
        self._prefix = f"gateway:deletion:{seal.fingerprint}:"
        scripts = load(redis, _SCRIPTS, modules(seal.fingerprint))
        self._note, self._claim = scripts["note"], scripts["claim"]
        self._postpone = scripts["postpone"]
        self._going_on: dict[str, bytes] = {}
        self._over: dict[str, bytes] = {}
        self._unnoted = Outage(logger, "note conversations to delete")
        self._undeleted = Outage(logger, "delete conversations")
        self._to_tell = asyncio.Event()
        self._to_sweep = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Delete in the background for as long as the context lasts, and what is due at its end."""
        # Apart, as a slow upstream must not keep us from saying what goes on.
        async with background(
            self._repeat(self._tell, self._to_tell, self._unnoted),
            self._repeat(self._sweep, self._to_sweep, self._undeleted),
        ):
            yield
        with contextlib.suppress(*REDIS_ERRORS):
            async with asyncio.timeout(_LAST_WORDS):
                await self._tell()
                await self._sweep()

    def trace(self, bearer: str) -> Trace:
        """For one answer; whoever asks for it ends it."""
        return Trace(self, bearer)

    def name(self, bearer: str, conversation_id: str) -> str:
        """What Redis calls a conversation."""
        return self._seal.name("conversation", f"{bearer}:{conversation_id}")

    async def begin(self, id: str, bearer: str, conversation_id: str) -> None:
        """See `Trace.note`."""
        plain = msgspec.msgpack.encode(_Record(VERSION, bearer, conversation_id))
        record = self._going_on[id] = self._seal.seal(plain, f"deletion {id}")
        with self._unnoted.tolerated():  # else noted at the next heartbeat
            async with asyncio.timeout(_PATIENCE):
                await self._remember(id, record, self._hold)

    def end(self, ids: Iterable[str]) -> None:
        """See `Trace.end`."""
        for id in ids:
            if (record := self._going_on.pop(id, None)) is not None:
                self._over[id] = record
                self._to_tell.set()

    async def _repeat(
        self, step: Callable[[], Awaitable[None]], wake: asyncio.Event, outage: Outage
    ) -> None:
        """Take a step at every heartbeat and whenever woken, for ever."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._beat):
                    await wake.wait()
            wake.clear()
            with outage.tolerated():
                await step()
            if outage.since is not None:
                await asyncio.sleep(_RETRY)

    async def _tell(self) -> None:
        """Say of each conversation of ours whether it goes on."""
        for id, record in list(self._going_on.items()):
            await self._remember(id, record, self._hold)
        for id, record in list(self._over.items()):
            await self._remember(id, record, 0.0)
            del self._over[id]
            self._to_sweep.set()

    async def _sweep(self) -> None:
        """Try each that is due, up to a number."""
        well = (_ms(2 * self._beat), _ms(self._hold))
        args = (self._prefix, _ms(_CLAIMED), _AT_ONCE, *well)
        due = await self._claim(keys=[self._due], args=args)
        tries = [self._try(id.decode(), record, left) for id, record, left in due]
        await asyncio.gather(*tries)
        if len(due) == _AT_ONCE:
            self._to_sweep.set()  # there may be more

    async def _try(self, id: str, record: bytes | None, left: int) -> None:
        if record is None:
            logger.warning("a conversation could not be deleted in time and stays")
            return
        try:
            what = _decoder.decode(self._seal.open(record, f"deletion {id}"))
            gone = await self._delete(what.bearer, what.conversation_id)
        except (SealError, msgspec.MsgspecError) as error:
            logger.error("a conversation to delete cannot be read and stays: %s", error)
            gone = True
        if gone:
            # In this order, or somebody might find the id alone and take it for given up.
            await self._redis.zrem(self._due, id)
            await self._redis.delete(self._prefix + id)
        else:
            age = self._max_age - left / 1000
            pause = min(max(age, self._shortest_pause), LONGEST_PAUSE)
            await self._postpone(keys=[self._due], args=(id, _ms(pause)))

    async def _remember(self, id: str, record: bytes, due_in: float) -> None:
        args = (id, _ms(due_in), _ms(self._max_age), record)
        await self._note(keys=[self._due, self._prefix + id], args=args)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
