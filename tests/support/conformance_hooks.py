"""Hooks of Schemathesis, which finds them by the environment variable `SCHEMATHESIS_HOOKS`."""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import Any

import schemathesis

MANY = 50
"""Requests of one operation that are all sent. Of further ones each tenth is: they differ only deep
inside the body, and all of them take minutes."""

_KEY = "Idempotency-Key"
_numbers = count()
_made: Counter[str] = Counter()


@schemathesis.hook
def filter_case(context: object, case: schemathesis.Case[Any]) -> bool:
    """Return True for a request that is sent."""
    operation = case.operation.label
    _made[operation] += 1
    return _made[operation] <= MANY or _made[operation] % 10 == 0


@schemathesis.hook
def before_call(context: object, case: schemathesis.Case[Any], kwargs: dict[str, Any]) -> None:
    """Give each request its own key, since a key is refused for another body."""
    if case.headers and (key := case.headers.get(_KEY)):
        case.headers[_KEY] = f"{key[:200]}{next(_numbers)}"
