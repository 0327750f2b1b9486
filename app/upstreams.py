"""Shared upstreams, as their workers describe them: which lane runs the requests for a model.

Asked from Redis every second, in the background. While Redis is unreachable the last known ones
count, so that only a request that needs Redis itself fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import msgspec

from app.openai.errors import JobFailed, LineUnavailable, ModelNotFound, NoWorker
from runtime.tasks import background
from settings import Settings
from wire.about import About, decode_about
from wire.events import Failed
from wire.jobs import Sort, lane_name, lane_of_any
from wire.line.offers import Aside, LiveUpstream
from wire.redis.outage import REDIS_ERRORS
from wire.stream.endings import REFUSED, WAITED_TOO_LONG

logger = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between two questions to Redis."""

PATIENCE = 2.0
"""Seconds that a request waits for the first answer, after a start of the front end."""


class SharedUpstream(msgspec.Struct, frozen=True):
    """One shared upstream. `open_for`: seconds until it is tried again, None if it works.

    `accounts` are the slots of its accounts, and `aside` those of them that are set aside.
    """

    name: str
    slots: int
    lanes: frozenset[str]
    about: About
    open_for: float | None = None
    accounts: dict[str, int] = {}
    aside: list[Aside] = []

    @property
    def largest(self) -> int:
        """Slots of its largest account."""
        return max(self.accounts.values(), default=self.slots)

    @property
    def refuses_us(self) -> bool:
        """True if it refuses all credentials of the operator."""
        return self.about.trouble == "refused_us" or len(self.aside) == len(self.accounts) > 0

    @property
    def missing_accounts(self) -> str:
        """Description of the accounts that are set aside, or empty."""
        if not self.aside:
            return ""
        left = len(self.accounts) - len(self.aside)
        return (
            f"{left} of {len(self.accounts)} accounts of upstream {self.name} are left: "
            + "; ".join(map(_aside, sorted(self.aside, key=lambda each: each.account)))
        )


_REASONS: dict[str, str] = {
    "token_refused": "token refused",
    "deactivated": "deactivated",
}


def _aside(account: Aside) -> str:
    name, reason = account.account.partition("/")[2], account.reason
    again = f"in {account.seconds:.0f} s" if account.seconds else "with the next request"
    return f"{name}: {_REASONS.get(reason, reason)}, again {again}"


class UpstreamState(msgspec.Struct, frozen=True):
    """State of an upstream in the settings. `is_described`: by a worker, lately."""

    name: str
    is_described: bool = False
    slots: int = 0
    open_for: float | None = None
    refuses_us: bool = False


class SharedLane(msgspec.Struct, frozen=True):
    """A lane that shared upstreams serve, with the lowest of their limits.

    `max_n` is the largest number of choices of a request, each of which takes one of the `slots` of
    an account.
    """

    name: str
    max_n: int
    slots: int

    @property
    def most(self) -> int:
        """Number of choices that a request may ask for."""
        return min(self.max_n, self.slots)


class SharedUpstreams:
    """All shared upstreams that a worker has described lately."""

    def __init__(self, config: Settings, ask: Callable[[], Awaitable[list[LiveUpstream]]]) -> None:
        self._configured = {
            name: upstream.models
            for name, upstream in config.upstreams.items()
            if upstream.kind == "openai"
        }
        auth = config.auth
        self._judges_keys = bool(auth.keys or auth.keys_file or auth.open or auth.mode == "keys")
        self._with_credential = frozenset(
            name for name, upstream in config.upstreams.items() if upstream.has_credential
        )
        self._ask = ask
        self._asked = asyncio.Event()
        self._has_accounts = any(upstream.has_accounts for upstream in config.upstreams.values())
        self._known: list[SharedUpstream] = []
        self._pools: list[SharedUpstream] = []
        self._withheld: frozenset[str] = frozenset()

    @property
    def are_configured(self) -> bool:
        """True if the settings name a shared upstream."""
        return bool(self._configured)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow them for as long as the context lasts."""
        if not (self.are_configured or self._has_accounts):
            yield
            return
        async with background(self._follow()):
            yield

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(*REDIS_ERRORS):
                self._learn(list(_shared(await self._ask())))
                self._asked.set()
            await asyncio.sleep(INTERVAL)

    def _learn(self, described: list[SharedUpstream]) -> None:
        self._pools = [upstream for upstream in described if upstream.about.kind == "pandora"]
        described = [upstream for upstream in described if upstream.about.kind != "pandora"]
        self._known = [upstream for upstream in described if self._is_safe(upstream)]
        withheld = [upstream for upstream in described if not self._is_safe(upstream)]
        self._withheld = frozenset(upstream.name for upstream in withheld)

    def _is_safe(self, upstream: SharedUpstream) -> bool:
        """Return False if anybody could use a credential that only the workers' settings name.

        If the settings of this front end named it, they would have to protect it, too.
        """
        is_named = upstream.name in self._with_credential
        return not upstream.about.guarded or self._judges_keys or is_named

    async def known(self) -> list[SharedUpstream]:
        """Return them, in the order of their names.

        Raises:
            LineUnavailable: Redis was unreachable since the start.
        """
        if not self.are_configured:
            return []
        try:
            async with asyncio.timeout(PATIENCE):
                await self._asked.wait()
        except TimeoutError:
            raise LineUnavailable from None
        return self._known

    async def lane(self, sort: Sort, model: str) -> SharedLane | None:
        """Return the lane of a model that a shared upstream lists; None if none does.

        Raises:
            LineUnavailable: as in `known`.
        """
        return _lane(await self.known(), lane_name(sort, model))

    async def lane_of_any(self, sort: Sort, model: str) -> SharedLane:
        """Return the lane of a model that no upstream lists, if one takes every name.

        Raises:
            ModelNotFound: no shared upstream has it.
            JobFailed: one that may have it has refused to list its models to this gateway.
            NoWorker: one that may have it is not there for now.
            LineUnavailable: as in `known`.
        """
        known = await self.known()
        if lane := _lane(known, lane_of_any(sort)):
            return lane
        absent = {name for name in self._configured if self._may_have(model, name, known)}
        if any(one.about.trouble == "refused_us" for one in known if one.name in absent):
            raise JobFailed(REFUSED)
        if absent:
            raise NoWorker
        raise ModelNotFound(f"The model `{model[:100]}` does not exist.", param="model")

    def _may_have(self, model: str, name: str, known: list[SharedUpstream]) -> bool:
        """Return True if an upstream in the settings is not described now, and may have a model."""
        if any(upstream.name == name and upstream.about.models for upstream in known):
            return False
        models = self._configured[name]
        return not models or model in models

    def states(self) -> Iterator[UpstreamState]:
        """Return the state of each one in the settings."""
        known = {upstream.name: upstream for upstream in self._known}
        for name in self._configured:
            if (one := known.get(name)) is None:
                yield UpstreamState(name)
            else:
                refuses = one.about.trouble == "refused_us"
                yield UpstreamState(name, True, one.slots, one.open_for, refuses)

    def troubles(self) -> Iterator[str]:
        """Describe what is wrong with them, for `/readyz`."""
        for state in self.states() if self._asked.is_set() else ():
            if state.name in self._withheld:
                yield (
                    f"workers ask the upstream {state.name} with a credential that the settings of"
                    " this front end do not name; it has to have the same settings"
                )
            elif not state.is_described:
                yield f"no worker has described the upstream {state.name} lately"
            elif state.refuses_us:
                yield (
                    f"the upstream {state.name} refuses the credential of this gateway; correct its"
                    " setting credential or credential_file"
                )
            elif state.open_for is not None:
                yield (
                    f"the upstream {state.name} fails for everyone; it gets no job until the next"
                    f" attempt, in {state.open_for:.0f} s"
                )
        for upstream in (*self._pools, *self._known):
            if missing := upstream.missing_accounts:
                yield missing

    def too_late(self, lane: str) -> Failed:
        """Return the ending of a job that waited too long in a lane."""
        known = (*self._pools, *self._known)
        serving = [upstream for upstream in known if lane in upstream.lanes]
        refused = serving and all(upstream.refuses_us for upstream in serving)
        return REFUSED if refused else WAITED_TOO_LONG


def _shared(live: list[LiveUpstream]) -> Iterator[SharedUpstream]:
    for upstream in live:
        if not upstream.accounts:
            continue
        try:
            about = decode_about(upstream.about)
        except msgspec.MsgspecError:
            logger.warning(
                "a worker's description of an upstream cannot be read",
                extra={"event": "upstream_unreadable", "upstream": upstream.name},
            )
            continue
        slots = sum(upstream.accounts.values())
        yield SharedUpstream(
            upstream.name,
            min(upstream.max_concurrency or slots, slots),
            frozenset(upstream.lanes),
            about,
            upstream.open_for,
            upstream.accounts,
            upstream.aside,
        )


def _lane(known: list[SharedUpstream], name: str) -> SharedLane | None:
    serving = [upstream for upstream in known if name in upstream.lanes]
    if not serving:
        return None
    most = min(upstream.about.max_n for upstream in serving)
    slots = min(min(upstream.slots, upstream.largest) for upstream in serving)
    return SharedLane(name, most, slots)
