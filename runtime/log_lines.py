"""Forms of a log record: a sentence with fields after it, or a JSON object. Each is one line.

The records of libraries have no event, and so no fields.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Iterator, Mapping
from datetime import datetime

import msgspec

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_NEEDS_QUOTES = re.compile(r'[\s"=]|^$')
_CONTROLS = re.compile("[\x7f-\x9f\u2028\u2029]")
"""Control characters and ends of lines that JSON need not escape."""

_MOST = 5
"""Errors behind an error that are described, and members of a group."""

_json = msgspec.json.Encoder(enc_hook=str)


def describe_traceback(error: BaseException, depth: int = _MOST) -> str:
    """Type of an error and the lines of its traceback, for the log; then those of its causes.

    The error's message is left out, since it can quote client data: a KeyError names the key.
    """
    frames = traceback.extract_tb(error.__traceback__)
    lines = "".join(f"\n    {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)
    behind = [describe_traceback(each, depth - 1) for each in _behind(error)] if depth else []
    return f"{type(error).__name__}{lines}" + "".join(f"\n  because of {each}" for each in behind)


def _behind(error: BaseException) -> list[BaseException]:
    members = error.exceptions[:_MOST] if isinstance(error, BaseExceptionGroup) else ()
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return [*members, *([cause] if cause else [])]


class ConsoleFormatter(logging.Formatter):
    """Append ` event=name field=value ...` to the sentence of a record that has an event.

    Other records keep their own layout.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Render the record's first line; a traceback follows it."""
        fields = (f" {name}={_quoted(value)}" for name, value in _fields(record))
        return super().formatMessage(record) + "".join(fields)


class JsonFormatter(logging.Formatter):
    """Render a record as a JSON object: `time`, `level`, `logger`, `process` (its id), `message`,
    then `event` and the other fields, and `traceback` if there was an error.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Render a record on one line, which is valid UTF-8."""
        time = datetime.fromtimestamp(record.created).astimezone()
        members: dict[str, object] = {
            "time": time.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        members |= {name: value for name, value in _fields(record) if name not in members}
        if record.exc_info and record.exc_info[1]:
            members["traceback"] = describe_traceback(record.exc_info[1])
        return _CONTROLS.sub(lambda found: _escaped(found[0]), _encoded(members))


def _fields(record: logging.LogRecord) -> Iterator[tuple[str, object]]:
    if "event" in record.__dict__:
        yield from (item for item in record.__dict__.items() if item[0] not in _STANDARD)


def _encoded(members: Mapping[str, object]) -> str:
    try:
        return _json.encode(members).decode()
    except (TypeError, ValueError, RecursionError):  # bytes of a client, or an odd object
        return _json.encode({name: _text(value) for name, value in members.items()}).decode()


def _quoted(value: object) -> str:
    if _is_plain(text := str(value)) or _is_plain(text := _text(text)):
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else _escaped(char) for char in quoted)


def _is_plain(text: str) -> bool:
    return text.isprintable() and not _NEEDS_QUOTES.search(text)


def _text(value: object) -> str:
    return str(value).encode(errors="backslashreplace").decode()  # bytes of a client, no text


def _escaped(char: str) -> str:
    return r"\u007f" if char == "\x7f" else json.dumps(char)[1:-1]
