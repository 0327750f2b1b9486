"""Logging of every role: one line a record, to standard error and to a file for the day.

A record is a sentence for people and, after it, an event name and fields for machines, which are
given by `extra`:

    2026-01-01 12:00:00,000 WARNING app: refused by the upstream event=upstream_refused status=429

No key, prompt or answer may ever be logged.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import time
import traceback
from collections.abc import Iterator
from datetime import date, timedelta
from logging.handlers import WatchedFileHandler
from pathlib import Path
from tempfile import TemporaryFile

import settings

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
FILE_FORMAT = "%(asctime)s %(levelname)-7s [%(process)d] %(name)s: %(message)s"
"""With the process id, since all roles of a machine may write to one file."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_NEEDS_QUOTES = re.compile(r'[\s"=]|^$')


def describe_traceback(error: BaseException) -> str:
    """Type of an error and the lines of its traceback, for the log.

    The error's message is left out, since it can quote client data: a KeyError names the key.
    """
    frames = traceback.extract_tb(error.__traceback__)
    lines = "".join(f"\n    {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)
    return f"{type(error).__name__}{lines}"


class Formatter(logging.Formatter):
    """Append ` event=name field=value ...` to the sentence of a record that has an event.

    Records of libraries have none, and keep their own layout.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Render the record's first line; a traceback follows it."""
        text = super().formatMessage(record)
        if "event" not in record.__dict__:
            return text
        fields = (item for item in record.__dict__.items() if item[0] not in _STANDARD)
        return text + "".join(f" {name}={_quoted(value)}" for name, value in fields)


def _quoted(value: object) -> str:
    text = str(value).encode(errors="backslashreplace").decode()  # bytes of a client, no text
    return json.dumps(text, ensure_ascii=False) if _NEEDS_QUOTES.search(text) else text


class DailyFile(WatchedFileHandler):
    """A log file that many processes append to, and that is rotated every day.

    Each record is one write at the file's end, so lines of different processes never mix and
    writing needs no lock. The first process that writes on a new day renames the file to
    `<name>.<its day>`, under a lock. The others check before every record whether the file is
    still the one they have open, and reopen it. So anything else may move or delete it, too.

    Rotated files are removed after `keep_days` days; 0 keeps them forever.

    Raises OSError if the file cannot be opened, but never later: a record that cannot be written
    is reported on standard error.
    """

    def __init__(self, path: Path, keep_days: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=path.parent).close()  # the file will be renamed there each day
        self._path = path
        self._keep_days = keep_days
        self._today = _day(time.time())
        with self._locked():
            self._rotate_at_start()
        super().__init__(path, encoding="utf-8")
        self.setFormatter(Formatter(FILE_FORMAT))

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record to the file of the current day."""
        try:
            if (today := _day(time.time())) > self._today:
                with self._locked():
                    self._rotate_at_midnight(today)
            super().emit(record)
        except OSError:
            self.handleError(record)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)

    def _rotate_at_start(self) -> None:
        """Rotate a file that an earlier run left, under the day of its last line."""
        with contextlib.suppress(FileNotFoundError):
            day = _day(self._path.stat().st_mtime)
            if day < self._today:
                self._rotate(day)

    def _rotate_at_midnight(self, today: date) -> None:
        """Rotate the file on a new day, unless another process has already done it.

        The file is compared with the open one. The time of its last line would not do: other
        processes may have written since midnight.
        """
        day, self._today = self._today, today
        with contextlib.suppress(FileNotFoundError):
            now = self._path.stat()
            if (now.st_dev, now.st_ino) == (self.dev, self.ino):
                self._rotate(day)

    def _rotate(self, day: date) -> None:
        rotated = self._path.with_name(f"{self._path.name}.{day}")
        if not rotated.exists():
            self._path.rename(rotated)
        self._remove_old()

    def _remove_old(self) -> None:
        if not self._keep_days:
            return
        oldest = str(self._today - timedelta(days=self._keep_days))
        pattern = re.compile(re.escape(self._path.name) + r"\.(\d{4}-\d\d-\d\d)")
        for path in self._path.parent.iterdir():
            if (found := pattern.fullmatch(path.name)) and found[1] < oldest:
                path.unlink()


def _day(seconds: float) -> date:
    return date.fromtimestamp(seconds)  # noqa: DTZ012 - the local clock, as in the lines themselves


def configure(log: settings.Log, directory: Path) -> None:
    """Set up logging for this process; a relative `log.path` is relative to `directory`.

    Raises:
        settings.SettingsError: the file cannot be written.
    """
    terminal = logging.StreamHandler()
    terminal.setFormatter(Formatter(FORMAT))
    logging.basicConfig(level=log.level, handlers=[terminal], force=True)
    # Sanic calls its process a worker, which means something else here.
    logging.getLogger("sanic.server").setLevel(logging.WARNING)
    # It logs URLs with their queries.
    logging.getLogger("sanic.root").setLevel(logging.WARNING)
    # Pillow warns about every odd file that a client sends.
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    # arq logs every job's start and end with its arguments; our own lines say what matters.
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
