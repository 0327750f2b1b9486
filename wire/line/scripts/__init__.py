"""The changes of the line, one Lua script each, and the modules that they share (`modules/`).

Two modules are rendered from Python, so that both languages have the same words: `keys`, and
`vocabulary` (the sorts of jobs, and the bounds of the histograms).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, get_args

from redis.commands.core import AsyncScript

from settings.redis_url import RedisUrl
from wire import VERSION
from wire.jobs import Sort
from wire.line import keys
from wire.line.metrics import HISTOGRAMS
from wire.line.scripts.linking import link
from wire.redis.client import Redis, connect
from wire.redis.outage import REDIS_ERRORS

_FOLDER = Path(__file__).parent

PATIENCE = 5.0
"""Seconds that Redis may take to tell the version of its data at the start of a role."""


class WrongVersionError(Exception):
    """The data in Redis are of another version, so this role must not take part."""

    def __init__(self, found: int) -> None:
        super().__init__(
            f"The data in Redis are of version {found}, this release needs version {VERSION}."
            " Start the release that wrote them, or use another Redis database."
        )


async def upgrade(url: RedisUrl, fingerprint: str) -> None:
    """Upgrade the data in Redis at the start of a role, if Redis can be reached.

    Raises:
        WrongVersionError: the data are of another version.
    """
    redis = connect(url)
    try:
        # Otherwise the role starts, and upgrades with its first script.
        with contextlib.suppress(*REDIS_ERRORS):
            async with asyncio.timeout(PATIENCE):
                await Scripts(redis, fingerprint).upgrade()
    finally:
        await redis.aclose()


async def note_new(url: RedisUrl) -> None:
    """Note that a Redis was created just now, so that the line need not settle in it.

    Only for the process that created it, with an empty folder, before any role starts: no worker
    may hold a conversation that was claimed there.
    """
    redis = connect(url)
    try:
        await Scripts(redis, fingerprint="").run("note_new")
    finally:
        await redis.aclose()


def read(folder: Path) -> dict[str, str]:
    """The Lua files of a folder, by name."""
    return {path.stem: path.read_text() for path in sorted(folder.glob("*.lua"))}


def modules(fingerprint: str) -> dict[str, str]:
    """The modules of the line, for processes that share a secret."""
    rendered = {"keys": keys.to_lua(fingerprint), "vocabulary": _vocabulary()}
    return read(_FOLDER / "modules") | rendered


def _vocabulary() -> str:
    sorts = ", ".join(f"'{sort}'" for sort in get_args(Sort))
    bounds = (
        f"    {histogram.name} = {{{', '.join(map(str, histogram.bounds))}}},"
        for histogram in HISTOGRAMS
    )
    return "\n".join(["return {", f"  sorts = {{{sorts}}},", "  bounds = {", *bounds, "  },", "}"])


def load(redis: Redis, folder: Path, modules: Mapping[str, str]) -> dict[str, AsyncScript]:
    """The scripts of a folder, by name, each linked with the modules that it needs."""
    linked = _linked(folder, tuple(modules.items()))
    return {name: redis.register_script(script) for name, script in linked.items()}


@cache
def _linked(folder: Path, modules: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    return {name: link(script, dict(modules)) for name, script in read(folder).items()}


class Scripts:
    """All scripts of the line in one Redis, for processes that share a secret.

    `replaced` replaces modules: tests set the clock with it.
    """

    def __init__(
        self, redis: Redis, fingerprint: str, replaced: Mapping[str, str] | None = None
    ) -> None:
        self.redis = redis
        self.fingerprint = fingerprint
        self._scripts = load(redis, _FOLDER, modules(fingerprint) | dict(replaced or {}))
        self._is_upgraded = False

    async def upgrade(self) -> None:
        """Convert the data of an older release; nothing, if they are of this version.

        Raises:
            WrongVersionError: they are of a version that this release does not know.
        """
        found = await self._scripts["upgrade"](args=[VERSION])
        if found != VERSION:
            raise WrongVersionError(found)
        self._is_upgraded = True

    async def run(self, name: str, *args: str | bytes | int | float) -> Any:
        """Run a script. The comment at its beginning describes its arguments and its reply.

        Raises:
            WrongVersionError: the data in Redis are of another version.
        """
        if not self._is_upgraded:
            await self.upgrade()
        return await self._scripts[name](args=args)
