"""Settings for all tests."""

from __future__ import annotations

from functools import cache

import httpx
import httpx2
from hypothesis import HealthCheck, settings

# The duration of an example depends on other work of the machine, and the first one of a process
# may load the encoding. A test that never ends is shown by `faulthandler_timeout`.
settings.register_profile("gateway", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gateway")

# Each client, and so each `httpx.get`, reads all the certificates of this machine: 30 ms of
# computing, for connections of which none is encrypted. (The official client has httpx2.)
for transports in (httpx._transports.default, httpx2._transports.default):
    transports.create_ssl_context = cache(transports.create_ssl_context)  # type: ignore[attr-defined]
