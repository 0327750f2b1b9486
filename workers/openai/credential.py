"""The operator's own credential for a server, from a setting or a file."""

from __future__ import annotations

import re
from pathlib import Path

import settings

_MAX_FILE = 64 * 1024


def read_credential(name: str, config: settings.Upstream) -> str:
    """Return the credential, "" if there is none. `name` is that of the settings' table.

    Raises:
        SettingsError: its file cannot be read, or contains something else.
    """
    if not config.credential_file:
        return config.credential.reveal()
    try:
        with Path(config.credential_file).open("rb") as file:
            text = file.read(_MAX_FILE).strip()
    except OSError as error:
        raise settings.SettingsError(f"{name}.credential_file: {error.strerror}") from None
    if not re.fullmatch(rb"[!-~]+", text):
        raise settings.SettingsError(
            f"{name}.credential_file: expected one line of ASCII characters without spaces"
        )
    return text.decode()
