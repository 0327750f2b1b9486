"""Logging of every role: one line a record, to standard error and to a file for the day.

A record is a sentence for people and, after it, an event name and fields for machines, which are
given by `extra`:

    2026-01-01 12:00:00,000 WARNING app: refused by the upstream event=upstream_refused status=429

or, with `log.format = "json"`, an object of all that (`runtime/log_lines.py`).

No key, prompt or answer may ever be logged.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import sys
import time
from collections.abc import Iterator
from datetime import date, timedelta
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType

import settings
from runtime.log_lines import ConsoleFormatter, JsonFormatter

logger = logging.getLogger(__name__)

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
FILE_FORMAT = "%(asctime)s %(levelname)-7s [%(process)d] %(name)s: %(message)s"
"""With the process id, since all roles of a machine may write to one file."""


REPORT_INTERVAL = 60.0
"""Seconds between two reports that records cannot be written."""


class DailyFile(WatchedFileHandler):
    """A log file that many processes append to, and that is rotated every day.

    Each record is one write at the file's end, so lines of different processes never mix and
    writing needs no lock. The first process that writes on a new day renames the file to
    `<name>.<its day>`, under a lock. The others check before every record whether the file is
    still the one they have open, and reopen it. So anything else may move or delete it, too.

    Rotated files are removed after `keep_days` days; 0 keeps them forever.

    Raises OSError if the file cannot be opened, but never later: that records cannot be written is
    reported on standard error, once a minute.
    """

    def __init__(self, path: Path, keep_days: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=path.parent).close()  # the file will be renamed there each day
        self._path = path
        self._keep_days = keep_days
        self._today = _day(time.time())
        with self._locked():
            self._rotate_at_start()
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self.setFormatter(ConsoleFormatter(FILE_FORMAT))
        self._silent_until = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record to the file of the current day."""
        try:
            if (today := _day(time.time())) > self._today:
                with self._locked():
                    self._rotate_at_midnight(today)
            super().emit(record)
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Report that a record could not be written, with the reason."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif time.monotonic() >= self._silent_until:
            self._silent_until = time.monotonic() + REPORT_INTERVAL
            sys.stderr.write(f"{self.format(_unwritten(self._path, error))}\n")

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


def _unwritten(path: Path, error: OSError) -> logging.LogRecord:
    fields = {"name": __name__, "levelno": logging.ERROR, "levelname": "ERROR"}
    text = "the log file (log.path) cannot be written, records are lost: %s"
    event = {"event": "log_file_failed", "path": str(path), "error": type(error).__name__}
    return logging.makeLogRecord(fields | {"msg": text, "args": (error.strerror,)} | event)


def _day(seconds: float) -> date:
    return date.fromtimestamp(seconds)  # noqa: DTZ012 - the local clock, as in the lines themselves


def configure(log: settings.Log, directory: Path) -> None:
    """Set up logging for this process; a relative `log.path` is relative to `directory`.

    Raises:
        settings.SettingsError: the file cannot be written.
    """
    terminal = logging.StreamHandler()
    terminal.setFormatter(_formatter(log, FORMAT))
    logging.basicConfig(level=log.level, handlers=[terminal], force=True)
    if log.format == "json":
        logging.captureWarnings(True)
        sys.excepthook = _log_uncaught
        if isinstance(sys.stderr, TextIOWrapper):
            sys.stderr.reconfigure(encoding="utf-8")
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
    handler.setFormatter(_formatter(log, FILE_FORMAT))
    logging.getLogger().addHandler(handler)


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    logger.critical(
        "the process ends because of an error that nothing has handled",
        exc_info=(kind, error, trace),
        extra={"event": "process_failed"},
    )


def _formatter(log: settings.Log, layout: str) -> logging.Formatter:
    return JsonFormatter() if log.format == "json" else ConsoleFormatter(layout)
