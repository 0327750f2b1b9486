"""`python -m deploy.health`: whether the front end of this container is alive, as a status.

For the image's health check, which knows no port: the settings do.
"""

import sys
import urllib.error
import urllib.request

import settings
from settings.loader import load

TIMEOUT = 4.0


def main() -> None:
    """Ask `/healthz`; the status is 0 if it says yes. `/readyz` would blame us for Redis."""
    try:
        server = load().server
    except settings.SettingsError as error:
        sys.exit(str(error))
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.host, server.host)  # noqa: S104
    address = f"[{host}]" if ":" in host else host
    try:
        url = f"http://{address}:{server.port}/healthz"
        urllib.request.urlopen(url, timeout=TIMEOUT).close()
    except OSError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
