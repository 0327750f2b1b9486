"""The changes of the line, each of them one Lua script, and what loads and runs them.

A file that begins with an underscore is a part that several scripts share.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from arq.connections import ArqRedis

_FOLDER = Path(__file__).parent
# What every script of the line begins with, each part building on those before it.
_PRELUDE = ("_metrics", "_pulse", "_keys", "_shares", "_predict", "_breaker", "_line", "_admission")


def source(*parts: str) -> str:
    """The Lua of some parts, one after the other."""
    return "\n".join((_FOLDER / f"{part}.lua").read_text() for part in parts)


class Scripts:
    """All scripts of the line, in one Redis, for the processes that share a secret."""

    def __init__(self, redis: ArqRedis, fingerprint: str) -> None:
        self.redis = redis
        self.fingerprint = fingerprint
        prelude = source(*_PRELUDE)
        self.loaded = {
            path.stem: redis.register_script(prelude + path.read_text())
            for path in _FOLDER.glob("[!_]*.lua")
        }

    async def run(self, name: str, *args: str | bytes | int | float) -> Any:
        """Run the script of this name. Its first lines tell what it takes and what it returns."""
        return await self.loaded[name](args=(self.fingerprint, *args))
