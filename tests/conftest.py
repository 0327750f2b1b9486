"""How all tests run."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# How long an example takes tells of the machine's other work: the first of a process may load the
# encoding. What never ends is shown by `faulthandler_timeout`.
settings.register_profile("gateway", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gateway")
