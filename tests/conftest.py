"""How all tests run."""

from __future__ import annotations

from functools import cache

import httpx
from httpx._transports import default
from hypothesis import HealthCheck, settings

# How long an example takes tells of the machine's other work: the first of a process may load the
# encoding. What never ends is shown by `faulthandler_timeout`.
settings.register_profile("gateway", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gateway")

# Each client, and so each `httpx.get`, reads all certificates of this machine: 25 ms of computing
# for connections of which none is encrypted.
default.create_ssl_context = cache(httpx.create_ssl_context)  # type: ignore[attr-defined]
