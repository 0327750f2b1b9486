"""A small file of an operator, such as one with keys, that is read again when it changes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from settings import SettingsError

logger = logging.getLogger(__name__)

T = TypeVar("T")


class ChangingFile(Generic[T]):
    """Content of a file, parsed; `current` reads it again if the file has changed.

    If a changed file cannot be read or parsed, a warning is logged once for each such change, and
    the last good content continues to apply. `parse` raises ValueError without showing the text.

    Raises:
        SettingsError: the file cannot be read or parsed at first. The message names `setting`.
    """

    def __init__(self, setting: str, path: str, parse: Callable[[str], T]) -> None:
        self._setting = setting
        self._path = Path(path)
        self._parse = parse
        self._seen = self._state()
        self._content = self._read()

    def current(self) -> T:
        """Return the content. The cost is one call of the system while the file is the same."""
        state = self._state()
        if state != self._seen:
            self._seen = state
            self._reload()
        return self._content

    def _reload(self) -> None:
        try:
            self._content = self._read()
        except SettingsError as error:
            logger.warning(
                "%s; its last content continues to apply",
                error,
                extra={"event": "changed_file_unusable", "setting": self._setting},
            )
        else:
            logger.info(
                "read %s again",
                self._setting,
                extra={"event": "changed_file_read", "setting": self._setting},
            )

    def _read(self) -> T:
        try:
            return self._parse(self._path.read_text(encoding="utf-8"))
        except OSError as error:
            why = f"cannot be read: {error.strerror}"
        except UnicodeDecodeError:
            why = "is not UTF-8"
        except ValueError as error:
            why = str(error)
        raise SettingsError(f"{self._setting}: {self._path}: {why}")

    def _state(self) -> object:
        """Return a value that differs after each change, also of a symbolic link's target."""
        try:
            found = os.stat(self._path)
        except (OSError, ValueError):  # there is none, or there is a NUL in the path
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns
