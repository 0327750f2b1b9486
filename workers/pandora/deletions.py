"""Conversations to delete upstream once they are over, recorded in Redis until they are deleted.

A worker records a conversation as soon as it knows its id, before anything of the answer is
published, and renews the record at every heartbeat while the conversation goes on. Once it is over,
or its record has not been renewed for a lease period and a heartbeat, any worker deletes it: by
then its worker is dead, or has closed it for want of a lease. Only when Redis is unreachable for
all workers do records expire while their conversations go on; so nothing is deleted for as long
after a disturbance (`pulse.lua`).

A failed deletion is tried again, after as long as has passed since the end (five seconds at least,
a quarter of an hour at most), until `MAX_AGE`: then Redis drops the record, and with it the bearer
it holds.

Delivery: at least once. A conversation is not known, and stays, if its worker dies before the first
event, or while Redis is unreachable.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path

import msgspec

import settings
from runtime.tasks import background
from wire import VERSION
from wire.line.scripts import load, modules
from wire.redis.client import Redis
from wire.redis.outage import REDIS_ERRORS, Outage
from wire.seal import Seal, SealError

logger = logging.getLogger(__name__)

MAX_AGE = 24 * 3600.0
"""Seconds after which a conversation that cannot be deleted stays."""

SHORTEST_PAUSE, LONGEST_PAUSE = 5.0, 900.0
"""Seconds between two attempts to delete one conversation, at first and at most."""

_PATIENCE = 1.0  # seconds that an answer waits for its conversation to be recorded
_LAST_WORDS = 2.0  # seconds for deletions that are due when a worker stops
_CLAIMED = 60.0  # seconds that a worker has for one attempt, before another one makes it
_AT_ONCE = 10
_RETRY = 1.0  # seconds between two attempts while Redis is unreachable

Delete = Callable[[str, str], Awaitable[bool]]
"""Deletes a conversation of a bearer, in less than `_CLAIMED`; returns whether it is done."""

_SCRIPTS = Path(__file__).parent / "deletion_scripts"


class _Record(msgspec.Struct, frozen=True, array_like=True):
    version: int
    bearer: str
    conversation_id: str


_decoder = msgspec.msgpack.Decoder(_Record)


class ConversationRecord:
    """The upstream conversations created by one answer, deleted after it; ignored without
    `deletions`."""

    def __init__(self, deletions: Deletions | None, bearer: str) -> None:
        self._deletions = deletions
        self._bearer = bearer
        self._ids: dict[str, str] = {}

    async def note(self, conversation_id: str) -> None:
        """Have a conversation deleted once the record ends. Raises nothing; cheap to repeat.

        Returns once Redis has recorded it, or is found to be unreachable.
        """
        if conversation_id and self._deletions and conversation_id not in self._ids:
            id = self._deletions.name(self._bearer, conversation_id)
            self._ids[conversation_id] = id
            await self._deletions.begin(id, self._bearer, conversation_id)

    def end(self) -> None:
        """Delete the conversations: the answer is over, in whatever way."""
        if self._deletions:
            self._deletions.end(self._ids.values())


class Deletions:
    """All conversations that the gateway has to delete, as seen by one worker, by `delete`."""

    def __init__(
        self,
        redis: Redis,
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
        self._heartbeat = config.heartbeat
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
        self._unrecorded = Outage(logger, "record conversations to delete")
        self._undeleted = Outage(logger, "delete conversations")
        self._to_renew = asyncio.Event()
        self._to_sweep = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Delete in the background while the context lasts, and what is due at its end."""
        # In two tasks, as a slow upstream must not delay the renewals.
        async with background(
            self._repeat(self._renew, self._to_renew, self._unrecorded),
            self._repeat(self._sweep, self._to_sweep, self._undeleted),
        ):
            yield
        with contextlib.suppress(*REDIS_ERRORS):
            async with asyncio.timeout(_LAST_WORDS):
                await self._renew()
                await self._sweep()

    def name(self, bearer: str, conversation_id: str) -> str:
        """The name of a conversation in Redis."""
        return self._seal.name("conversation", f"{bearer}:{conversation_id}")

    async def begin(self, id: str, bearer: str, conversation_id: str) -> None:
        """See `ConversationRecord.note`."""
        plain = msgspec.msgpack.encode(_Record(VERSION, bearer, conversation_id))
        record = self._going_on[id] = self._seal.seal(plain, f"deletion {id}")
        with self._unrecorded.tolerated():  # recorded at the next heartbeat instead
            async with asyncio.timeout(_PATIENCE):
                await self._remember(id, record, self._hold)

    def end(self, ids: Iterable[str]) -> None:
        """See `ConversationRecord.end`."""
        for id in ids:
            if (record := self._going_on.pop(id, None)) is not None:
                self._over[id] = record
                self._to_renew.set()

    async def _repeat(
        self, step: Callable[[], Awaitable[None]], wake: asyncio.Event, outage: Outage
    ) -> None:
        """Take a step at every heartbeat and whenever woken, forever."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._heartbeat):
                    await wake.wait()
            wake.clear()
            with outage.tolerated():
                await step()
            if outage.since is not None:
                await asyncio.sleep(_RETRY)

    async def _renew(self) -> None:
        """Renew the records of this worker's conversations; make those due that are over."""
        for id, record in list(self._going_on.items()):
            await self._remember(id, record, self._hold)
        for id, record in list(self._over.items()):
            await self._remember(id, record, 0.0)
            del self._over[id]
            self._to_sweep.set()

    async def _sweep(self) -> None:
        """Try to delete conversations that are due, up to a number."""
        stable = (_ms(2 * self._heartbeat), _ms(self._hold))
        args = (self._prefix, _ms(_CLAIMED), _AT_ONCE, *stable)
        due = await self._claim(keys=[self._due], args=args)
        attempts = [self._attempt(id.decode(), record, left) for id, record, left in due]
        await asyncio.gather(*attempts)
        if len(due) == _AT_ONCE:
            self._to_sweep.set()  # there may be more

    async def _attempt(self, id: str, sealed: bytes | None, left: int) -> None:
        if sealed is None:
            logger.warning(
                "a conversation could not be deleted in time and stays",
                extra={"event": "deletion_expired"},
            )
            return
        try:
            record = _decoder.decode(self._seal.open(sealed, f"deletion {id}"))
            done = await self._delete(record.bearer, record.conversation_id)
        except (SealError, msgspec.MsgspecError) as error:
            logger.error(
                "a conversation to delete cannot be read and stays",
                extra={"event": "deletion_unreadable", "reason": str(error)},
            )
            done = True
        if done:
            # In this order, or another worker might find the id alone and take it for expired.
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
