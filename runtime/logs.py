"""How every role writes its log: one line a record, to standard error and to a file of the day."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import time
import traceback
from collections.abc import Iterator
from datetime import date, timedelta
from logging.handlers import WatchedFileHandler
from pathlib import Path

import settings

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
FILE_FORMAT = "%(asctime)s %(levelname)-7s [%(process)d] %(name)s: %(message)s"
"""With the process, as all roles of a machine may write to one file."""


def where(error: BaseException) -> str:
    """An error's type and the way it came, for the log.

    Without its message, which can quote what a client sent: a KeyError names the key.
    """
    steps = traceback.extract_tb(error.__traceback__)
    way = "".join(f"\n    {step.filename}:{step.lineno} in {step.name}" for step in steps)
    return f"{type(error).__name__}{way}"


class DailyFile(WatchedFileHandler):
    """A file that many processes append to; what was written on an earlier day is set aside.

    Each record is one write at the file's end, so the lines of several processes never mix, and no
    lock is needed for one. The first process that writes on a new day renames the file to
    `<name>.<its day>`, under a lock; the others see that it is another file, as they look before
    every record, and open the new one. So it may also be moved or deleted by anybody else.

    A file that was set aside is removed `keep_days` days later, 0 keeps it for ever.

    Raises OSError when the file cannot be opened, and at no time after that: a record that cannot
    be written is reported on standard error.
    """

    def __init__(self, path: Path, keep_days: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._keep_days = keep_days
        self._today = _day(time.time())
        with self._only_one():
            self._set_aside_old()
        super().__init__(path, encoding="utf-8")
        self.setFormatter(logging.Formatter(FILE_FORMAT))

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, into the file of this day."""
        try:
            if (today := _day(time.time())) > self._today:
                with self._only_one():
                    self._set_aside_mine(today)
            super().emit(record)
        except OSError:
            self.handleError(record)

    @contextlib.contextmanager
    def _only_one(self) -> Iterator[None]:
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)

    def _set_aside_old(self) -> None:
        """At the start: what is there was begun by others, and its last line tells its day."""
        with contextlib.suppress(FileNotFoundError):
            day = _day(self._path.stat().st_mtime)
            if day < self._today:
                self._set_aside(day)

    def _set_aside_mine(self, today: date) -> None:
        """On a new day: if another process was first, the file is no longer the one we write to.

        The time of its last line would not do: others may have written since midnight.
        """
        day, self._today = self._today, today
        with contextlib.suppress(FileNotFoundError):
            now = self._path.stat()
            if (now.st_dev, now.st_ino) == (self.dev, self.ino):
                self._set_aside(day)

    def _set_aside(self, day: date) -> None:
        aside = self._path.with_name(f"{self._path.name}.{day}")
        if not aside.exists():
            self._path.rename(aside)
        self._remove_old()

    def _remove_old(self) -> None:
        if not self._keep_days:
            return
        oldest = str(self._today - timedelta(days=self._keep_days))
        pattern = re.compile(re.escape(self._path.name) + r"\.(\d{4}-\d\d-\d\d)")
        for path in self._path.parent.iterdir():
            if (found := pattern.fullmatch(path.name)) and found[1] < oldest:
                path.unlink()


def _day(moment: float) -> date:
    return date.fromtimestamp(moment)  # noqa: DTZ012 - the local clock, as in the lines themselves


def configure(log: settings.Log, directory: Path) -> None:
    """Set up logging for this process. No key, prompt or answer may ever be logged.

    `directory` is where a relative `log.path` begins.

    Raises:
        settings.SettingsError: the file cannot be written.
    """
    logging.basicConfig(level=log.level, format=FORMAT, force=True)
    # Sanic calls its process a worker, which means something else here.
    logging.getLogger("sanic.server").setLevel(logging.WARNING)
    # It has an opinion on every file that a client makes up.
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    # arq tells of every job's start and end with its arguments; our own lines say what matters.
    logging.getLogger("arq").setLevel(max(logging.WARNING, logging.getLevelName(log.level)))
    if not log.to_file:
        return
    path = directory / log.path
    try:
        handler = DailyFile(path, log.keep_days)
    except OSError as error:
        raise settings.SettingsError(
            f"log.path: {path} cannot be written: {error.strerror}; name another file, or set"
            " log.to_file = false: everything goes to standard error as well"
        ) from None
    logging.getLogger().addHandler(handler)
