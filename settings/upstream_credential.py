"""The gateway's own credential for an upstream."""

from __future__ import annotations

from collections.abc import Callable

from settings import Upstream, table_of
from settings.changing_file import ChangingFile
from settings.credentials import Secret, bearer


def open_credential(name: str, upstream: Upstream) -> Callable[[], Secret]:
    """Return a function that gives the current credential for an upstream, empty if it has none.

    It is cheap enough for every request: `credential_file` is read again only after a change.

    Raises:
        SettingsError: the file cannot be read.
    """
    if not upstream.credential_file:
        return lambda: upstream.credential
    file = ChangingFile(f"{table_of(name)}.credential_file", upstream.credential_file, _parse)
    return file.current


def _parse(text: str) -> Secret:
    if not text.strip():
        raise ValueError("is empty")
    return bearer(Secret(text.strip()))
