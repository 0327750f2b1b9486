"""A pub/sub subscription that is renewed by itself and reports its gaps."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator

from wire.redis.client import TIMEOUT, Redis
from wire.redis.outage import REDIS_ERRORS, Outage

logger = logging.getLogger(__name__)

_PING = b"ping"


class Subscription:
    """A subscription to some channels, of which the first is this process's own."""

    def __init__(self, redis: Redis, *channels: str) -> None:
        self._redis = redis
        self._channels = channels
        self.confirmed = asyncio.Event()
        """Set while Redis has confirmed that we are subscribed."""

    async def messages(self) -> AsyncGenerator[tuple[str, bytes] | None, None]:
        """Yield `(channel, data)` of every message, forever.

        Yields None when the subscription is lost and when Redis confirms it: messages published in
        between have been missed. Pings to our own channel detect a connection that died silently:
        without them its socket times out.
        """
        pinging = asyncio.create_task(self._ping())
        pause = 0.05
        outage = Outage(logger, "keep a subscription")
        try:
            while True:
                pubsub = self._redis.pubsub()
                missing = len(self._channels)
                try:
                    with outage.tolerated():
                        await pubsub.subscribe(*self._channels)
                        while True:
                            message = await pubsub.get_message(timeout=None)
                            if message is None:
                                continue
                            if message["type"] == "subscribe":
                                # A silent reconnect inside redis-py confirms every channel again.
                                missing = missing - 1 if missing else len(self._channels) - 1
                                if missing == 0:
                                    pause = 0.05
                                    outage.end()
                                    self.confirmed.set()
                                    yield None
                            elif message["data"] != _PING:
                                yield message["channel"].decode(), message["data"]
                finally:
                    self.confirmed.clear()
                    with contextlib.suppress(*REDIS_ERRORS):
                        await pubsub.aclose()  # type: ignore[no-untyped-call]
                yield None
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)
        finally:
            pinging.cancel()

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(TIMEOUT / 2)
            with contextlib.suppress(*REDIS_ERRORS):
                await self._redis.publish(self._channels[0], _PING)
