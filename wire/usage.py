"""Usage of keys: who asked for which model on which day, and what it took.

The scripts count it (`wire/line/scripts/modules/usage.lua`), each number in the call that changes
the job.
"""

from __future__ import annotations

from urllib.parse import quote

import msgspec

PASSTHROUGH = "passthrough"
"""Book of all keys that this gateway does not know itself: those that the upstream judges."""

MAX_NAME = 100
"""Characters of a model's name by which it is counted."""


class Tokens(msgspec.Struct, frozen=True):
    """Tokens that a job used: those of its request, and those of its answer."""

    input: int = 0
    output: int = 0


NO_TOKENS = Tokens()


def encode_model(name: str) -> str:
    """Return the name of a model as a word, for the fields of usage in Redis."""
    return quote(name[:MAX_NAME], safe="", errors="replace")
