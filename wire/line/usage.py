"""Usage of keys: who asked for which model on which day, and what that took.

The scripts count it (`wire/line/scripts/modules/usage.lua`), each number in the call that changes
the job.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import date, timedelta
from typing import NamedTuple
from urllib.parse import quote, unquote

import msgspec

from wire.line import keys
from wire.redis.client import Redis

PASSTHROUGH = "passthrough"
"""Book of all keys that this gateway does not know itself: those that the upstream judges."""

MAX_NAME = 100
"""Characters of a model's name by which it is counted."""


class Tokens(msgspec.Struct, frozen=True):
    """Tokens that a job used: those of its request, and those of its answer."""

    input: int = 0
    output: int = 0


NO_TOKENS = Tokens()

NUMBER_WORDS = 3
"""Words of a field that holds a number; those of two count the models of a key."""


def encode_model(name: str) -> str:
    """Return the name of a model as a word, for the fields of usage in Redis."""
    return quote(name[:MAX_NAME], safe="", errors="replace")


class Use(NamedTuple):
    """Day, book and model that numbers of usage are about."""

    day: date
    book: str
    model: str


Numbers = dict[str, float]
"""Numbers of usage by name: `requests`, `ended:<reason>`, `input_tokens`, `output_tokens`,
`slot_ms` and `units`."""


async def read_usage(redis: Redis, first: date, last: date) -> dict[Use, Numbers]:
    """Read the usage of all days from the first to the last.

    Raises:
        redis.RedisError, OSError: Redis is unreachable (`REDIS_ERRORS`).
    """
    found: defaultdict[Use, Numbers] = defaultdict(dict)
    for after in range((last - first).days + 1):
        day = first + timedelta(days=after)
        # A part at a time: there may be hundreds of numbers for each key.
        async for field, value in redis.hscan_iter(keys.usage(day.isoformat()), count=1000):
            words = field.decode().split(" ")
            if len(words) == NUMBER_WORDS:
                book, model, number = words
                found[Use(day, book, unquote(model))][number] = float(value)
    return dict(found)


def total(numbers: Iterable[Numbers]) -> Numbers:
    """Return the sum of numbers of usage."""
    summed: defaultdict[str, float] = defaultdict(float)
    for each in numbers:
        for name, number in each.items():
            summed[name] += number
    return dict(summed)
