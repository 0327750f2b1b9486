"""Scheduling parameters of a request, within the bounds of its gateway key."""

from __future__ import annotations

import math
from typing import cast

import pytest
from sanic import Request

from app.auth import Caller
from app.openai.errors import BadRequest
from app.scheduling import bounded_tier, read_scheduling
from wire.keyring import IssuedKey

RECORD = IssuedKey(id="0" * 16, sha256="0" * 64, name="bot", created=1)


class Asking:
    """A request with these headers."""

    def __init__(self, headers: dict[str, str]) -> None:
        self.headers = headers


def asking(**headers: str) -> Request:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return cast(Request, Asking(given))


def caller(**fields: object) -> Caller:
    return Caller("gw", "", RECORD.changed(fields))


ANY = Caller("sk-1", "sk-1")


@pytest.mark.parametrize(
    ("priority", "asked", "tier", "upstream"),
    [
        ("default", "priority", "default", "default"),
        ("flex", "priority", "flex", "flex"),
        ("flex", None, "flex", ""),
        ("default", "flex", "flex", ""),
        ("priority", "priority", "priority", ""),
        ("flex", "auto", "flex", ""),
    ],
)
def test_a_key_bounds_the_service_tier(
    priority: str, asked: str | None, tier: str, upstream: str
) -> None:
    scheduling = read_scheduling(asking(), caller(priority=priority), None, asked, None)
    assert scheduling.tier == tier
    assert bounded_tier(asked, scheduling) == upstream


@pytest.mark.parametrize(
    ("of_key", "header", "max_wait"),
    [
        (None, None, math.inf),
        (None, "5", 5.0),
        (10, None, 10.0),
        (10, "5", 5.0),
        (10, "15", 10.0),
        (0, "15", 0.0),
    ],
)
def test_a_key_bounds_the_wait(of_key: int | None, header: str | None, max_wait: float) -> None:
    request = asking(**({"x_max_wait": header} if header else {}))
    found = read_scheduling(request, caller(max_wait=of_key), None, None, None)
    assert found.max_wait == max_wait


def test_other_keys_have_no_bounds() -> None:
    found = read_scheduling(asking(x_max_wait="7"), ANY, 3, "priority", None)
    assert (found.user, found.tier, found.max_wait) == ("3", "priority", 7.0)
    for wrong in ("-1", "inf", "soon"):
        with pytest.raises(BadRequest, match="X-Max-Wait"):
            read_scheduling(asking(x_max_wait=wrong), ANY, None, None, None)
