"""Permissions of the files that a role makes: logs, and the media store if it is a folder."""

from __future__ import annotations

import os

_WITHHELD = 0o027
"""Others get nothing, and the group may only read: folders are 0750 and files 0640."""


def restrict_new_files() -> None:
    """Withhold permissions from everything that this process and its children make from now on."""
    os.umask(os.umask(_WITHHELD) | _WITHHELD)
