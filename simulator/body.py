"""Writing of a streamed answer's body, in its time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

from simulator.clock import Clock

Write = Callable[[bytes], Awaitable[None]]


class CutError(Exception):
    """The body has reached the byte at which the connection closes; `rest` is still to be sent."""

    def __init__(self, rest: bytes) -> None:
        super().__init__()
        self.rest = rest


class Body:
    """A body that is written on time, with pings in between, and cut at a byte if one is given.

    `every`: seconds without a byte until a ping; 0: no pings.
    """

    def __init__(
        self,
        write: Write,
        clock: Clock,
        pings: Iterator[bytes],
        *,
        every: float,
        cut_at: int | None,
    ) -> None:
        self._write = write
        self._clock = clock
        self._cut_at = cut_at
        self._sent = 0
        self._ping = every
        self._pings = pings
        self._last = clock.now()

    async def write(self, when: float, data: bytes) -> None:
        """Write data at a time of the clock. Raises CutError if the cut is in it."""
        await self.wait(when)
        if self._cut_at is not None:
            self.spend(data)
        await self._write(data)

    async def wait(self, when: float) -> None:
        """Wait for a time of the clock, with pings."""
        if self._ping:
            while self._last + self._ping < when:
                self._last += self._ping
                await self._clock.until(self._last)
                ping = next(self._pings)
                self.spend(ping)
                await self._write(ping)
            self._last = when
        await self._clock.until(when)

    def spend(self, data: bytes) -> None:
        """Count data that is about to be written. Raises CutError if the cut is in it."""
        if self._cut_at is None:
            return
        if self._sent + len(data) >= self._cut_at:
            raise CutError(data[: self._cut_at - self._sent])
        self._sent += len(data)

    async def stay(self) -> None:
        """Send nothing but pings until the client disconnects."""
        while True:
            await self.wait(self._clock.now() + 3600)
