"""Settings for all tests."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import certifi
from hypothesis import HealthCheck, settings

# The duration of an example depends on other work of the machine, and the first one of a process
# may load the encoding. A test that never ends is shown by `faulthandler_timeout`.
settings.register_profile("gateway", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gateway")

# Each front end and client, and each process that tests start, reads all the certificates of this
# machine: 60 ms of computing, for connections of which none is verified by them. Now there is one.
_folder = TemporaryDirectory()
_certificate = Path(_folder.name, "certificate.pem")
_first, _end, _ = certifi.contents().partition("-----END CERTIFICATE-----")
_certificate.write_text(f"{_first}{_end}\n")
os.environ["SSL_CERT_FILE"] = str(_certificate)
