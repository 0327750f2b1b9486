"""`python -m deploy.health`: the image's health check. It succeeds if the front end is alive.

It exists because only the settings know the port.
"""

import sys
import urllib.error
import urllib.request

import settings
from settings.loader import load

TIMEOUT = 4.0


def main() -> None:
    """Ask `/healthz` and exit with its verdict. `/readyz` would also fail if only Redis is down."""
    try:
        url = f"{load().server.local_url}/healthz"
    except settings.SettingsError as error:
        sys.exit(str(error))
    try:
        urllib.request.urlopen(url, timeout=TIMEOUT).close()  # noqa: S310 - always http
    except OSError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
