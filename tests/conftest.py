"""How all tests run."""

from __future__ import annotations

import ssl
from functools import cache

from hypothesis import HealthCheck, settings

# How long an example takes tells of the machine's other work: the first of a process may load the
# encoding. What never ends is shown by `faulthandler_timeout`.
settings.register_profile("gateway", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gateway")

# Each HTTP client, and so each `httpx.get`, reads all the certificates of this machine: 30 ms of
# computing, for connections of which none is encrypted.
ssl.create_default_context = cache(ssl.create_default_context)  # type: ignore[assignment]  # wider
