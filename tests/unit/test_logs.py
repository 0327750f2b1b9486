from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

import settings
from runtime import log_lines, logs

DAY = 86_400
ROOT = Path(logs.__file__).parents[1]


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("test")
    yield logger
    for handler in logger.handlers[:]:
        handler.close()
        logger.removeHandler(handler)


def write(logger: logging.Logger, path: Path, message: str, keep_days: int = 30) -> None:
    if not logger.handlers:
        logger.addHandler(logs.DailyFile(path, keep_days))
    logger.warning(message)


def texts(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


def age(path: Path, days: int) -> str:
    """Make a file look last written the given number of days ago; return that day."""
    moment = time.time() - days * DAY
    os.utime(path, (moment, moment))
    return time.strftime("%Y-%m-%d", time.localtime(moment))


def test_the_file_and_its_directory_are_created_and_each_line_names_its_process(
    tmp_path: Path, logger: logging.Logger
) -> None:
    write(logger, tmp_path / "a" / "b" / "access.log", "hello")
    line = (tmp_path / "a" / "b" / "access.log").read_text()
    assert line.endswith(f" WARNING [{os.getpid()}] test: hello\n")


def test_the_file_of_an_earlier_day_is_renamed_to_that_day(
    tmp_path: Path, logger: logging.Logger
) -> None:
    path = tmp_path / "access.log"
    path.write_text("of the past\n")
    day = age(path, 3)
    write(logger, path, "of today")
    found = texts(tmp_path)
    assert found.keys() == {"access.log", f"access.log.{day}"}
    assert found[f"access.log.{day}"] == "of the past\n"
    assert "of today" in found["access.log"]


def test_the_file_of_today_is_continued_after_a_restart(
    tmp_path: Path, logger: logging.Logger
) -> None:
    path = tmp_path / "access.log"
    path.write_text("of this morning\n")
    write(logger, path, "of now")
    assert texts(tmp_path).keys() == {"access.log"}
    assert path.read_text().startswith("of this morning\n")


def test_only_log_files_are_removed_after_keep_days(tmp_path: Path, logger: logging.Logger) -> None:
    path = tmp_path / "access.log"
    path.write_text("of yesterday\n")
    yesterday = age(path, 1)
    others = {"access.log.2020-01-01", "access.log.2020-01-01.gz", "other.log.2020-01-01"}
    for name in others:
        (tmp_path / name).touch()
    write(logger, path, "of today", keep_days=2)
    gone = others - texts(tmp_path).keys()
    assert gone == {"access.log.2020-01-01"}
    assert f"access.log.{yesterday}" in texts(tmp_path)


def test_a_log_file_that_was_moved_away_is_created_again(
    tmp_path: Path, logger: logging.Logger
) -> None:
    path = tmp_path / "access.log"
    write(logger, path, "before")
    path.rename(tmp_path / "moved.log")
    write(logger, path, "after")
    assert "after" in path.read_text()
    assert "after" not in (tmp_path / "moved.log").read_text()


def test_a_disk_that_fails_later_is_reported_and_ends_no_process(
    tmp_path: Path, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log" / "access.log"
    write(logger, path, "before")
    path.unlink()
    path.parent.rmdir()
    write(logger, path, "lost")
    assert "FileNotFoundError" in capsys.readouterr().err
    path.parent.mkdir()
    write(logger, path, "after")
    assert "after" in path.read_text()


def test_a_full_disk_is_reported_once_with_the_path_and_the_reason(
    tmp_path: Path,
    logger: logging.Logger,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(_: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "access.log"
    write(logger, path, "before")
    [handler] = logger.handlers
    assert isinstance(handler, logs.DailyFile)
    written = handler.stream
    monkeypatch.setattr(handler, "stream", Mock(wraps=written, write=full))
    for _ in range(3):
        write(logger, path, "lost")
    assert capsys.readouterr().err.split(": ", 1)[1] == (
        "the log file (log.path) cannot be written, records are lost: No space left on device"
        f" event=log_file_failed path={path} error=OSError\n"
    )


def format_record(message: str, **extra: object) -> str:
    record = logging.makeLogRecord({"msg": message, "levelname": "INFO", "name": "test", **extra})
    return log_lines.ConsoleFormatter("%(levelname)s %(name)s: %(message)s").format(record)


def test_event_and_fields_follow_the_sentence_in_their_order() -> None:
    line = format_record("the upstream refused", event="upstream_refused", status=429, job="a1")
    assert line == "INFO test: the upstream refused event=upstream_refused status=429 job=a1"


def test_values_are_quoted_where_they_would_break_the_line_apart() -> None:
    values = {"a": "two words", "b": 'a "quote"', "c": "x=y", "d": "line\nbreak", "e": "", "f": "é"}
    assert format_record("text", event="odd", **values) == (
        r'INFO test: text event=odd a="two words" b="a \"quote\"" c="x=y" d="line\nbreak" e="" f=é'
    )


def test_bytes_that_are_no_text_are_written_as_escapes() -> None:
    line = format_record("text", event="odd", method=b"P\xffT".decode(errors="surrogateescape"))
    assert line.encode() == rb"INFO test: text event=odd method=P\udcffT"


def test_characters_that_steer_a_terminal_are_written_as_escapes() -> None:
    values = {"a": "\x1b[31mred", "b": "\x9b2J", "c": "\x7f", "d": "a\u2028b", "e": "\u202egnp"}
    assert format_record("text", event="odd", **values) == (
        r'INFO test: text event=odd a="\u001b[31mred" b="\u009b2J" c="\u007f" d="a\u2028b"'
        r' e="\u202egnp"'
    )


def json_record(message: str, **extra: object) -> dict[str, Any]:
    given = {"msg": message, "levelname": "INFO", "name": "test", "created": 1e9, "process": 7}
    line = log_lines.JsonFormatter().format(logging.makeLogRecord(given | extra))
    assert len(line.splitlines()) == 1
    decoded: dict[str, Any] = json.loads(line.encode())
    return decoded


def test_a_json_record_has_a_time_with_zone_and_its_fields() -> None:
    record = json_record("refused", event="upstream_refused", status=429, slots=None, names=["a"])
    time = datetime.fromisoformat(record.pop("time"))
    assert time.utcoffset() is not None
    assert time.timestamp() == 1e9
    assert list(record.items()) == [
        *(("level", "INFO"), ("logger", "test"), ("process", 7), ("message", "refused")),
        *(("event", "upstream_refused"), ("status", 429), ("slots", None), ("names", ["a"])),
    ]


def test_a_json_record_of_a_library_has_its_message_alone() -> None:
    record = json_record("GET %s", args=("/",), host="h")
    assert record["message"] == "GET /"
    assert record.keys() == {"time", "level", "logger", "process", "message"}


@pytest.mark.parametrize(
    "value",
    ["a\nb\r", "\u2028\u2029\x85\x0b\x0c\x1c", "\x7f\x9b", "\udcff", {"a": "\udcff"}, [object()]],
)
def test_no_value_breaks_a_json_record(value: object) -> None:
    assert json_record(f"text {value}", event="odd", model=value)["event"] == "odd"


def test_a_field_does_not_replace_a_member_of_the_record() -> None:
    assert json_record("text", event="odd", level="mine")["level"] == "INFO"


def fail_as_group() -> None:
    try:
        dict[str, str]()["secret-1"]
    except KeyError as error:
        raise ExceptionGroup("secret-2", [ValueError("secret-3")]) from error


def test_the_traceback_of_a_json_record_has_the_causes_and_quotes_nothing() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        fail_as_group()
    record = json_record("text", exc_info=(caught.type, caught.value, caught.tb))
    assert record["traceback"].startswith("ExceptionGroup\n")
    assert "because of ValueError" in record["traceback"]
    assert "because of KeyError" in record["traceback"]
    assert "secret" not in str(record)


def test_fields_stay_the_same_when_a_second_handler_formats_the_record() -> None:
    record = logging.makeLogRecord({"msg": "text", "event": "twice", "job": "a1"})
    formatter = log_lines.ConsoleFormatter(logs.FORMAT)
    first, second = formatter.format(record), formatter.format(record)
    assert first == second
    assert first.endswith(": text event=twice job=a1")


def test_fields_come_before_the_traceback() -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        record = logging.makeLogRecord({"msg": "text", "event": "odd", "exc_info": sys.exc_info()})
    first, *rest = log_lines.ConsoleFormatter("%(message)s").format(record).splitlines()
    assert first == "text event=odd"
    assert rest[-1] == "ValueError: broken"


def test_a_record_without_an_event_keeps_its_layout() -> None:
    assert format_record("GET /", host="h", status=200) == "INFO test: GET /"


# A day takes a quarter of a second here.
WRITER = """
import datetime, logging, pathlib, sys, time
from runtime import logs
name, path = sys.argv[1:]
begin = datetime.date(2026, 1, 1)
logs._day = lambda moment: begin + datetime.timedelta(days=int(moment * 4) % 100_000)
logger = logging.getLogger(name)
logger.addHandler(logs.DailyFile(pathlib.Path(path), 0))
sys.stdin.readline()
end = time.monotonic() + 1.5
count = 0
while time.monotonic() < end:
    logger.warning("begin %d %s end", count, name * 20_000)
    count += 1
print(count)
"""


def test_no_line_of_several_processes_is_lost_or_mixed_while_days_pass(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    writers = {
        name: subprocess.Popen(
            [sys.executable, "-c", WRITER, name, str(path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in "abcd"
    }
    for writer in writers.values():
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    written = Counter(
        {name: int(each.communicate(timeout=120)[0]) for name, each in writers.items()}
    )
    found: Counter[str] = Counter()
    seen = set()
    files = list(tmp_path.iterdir())
    for file in files:
        with file.open() as lines:
            for line in lines:
                _, _, message = line.partition(": ")
                begin, number, text, end = message.split()
                assert (begin, end) == ("begin", "end")
                assert text == text[0] * 20_000
                found[text[0]] += 1
                seen.add((text[0], number))
    assert found == written
    assert len(seen) == written.total()
    assert len(files) > 3


def test_a_relative_path_starts_at_the_settings_and_to_file_false_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        logs.configure(settings.Log(to_file=False), tmp_path)
        assert not list(tmp_path.iterdir())
        logs.configure(settings.Log(), tmp_path)
        logging.getLogger("test").warning("hello", extra={"event": "greeting"})
        assert "hello event=greeting\n" in (tmp_path / "log" / "access.log").read_text()
        assert "hello event=greeting\n" in capsys.readouterr().err
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers[:] = before
        root.setLevel(level)


def test_json_goes_to_the_terminal_and_to_the_file_also_from_libraries(tmp_path: Path) -> None:
    script = (
        "import logging, pathlib, settings, warnings; from runtime import logs;"
        f"logs.configure(settings.Log(format='json'), pathlib.Path({str(tmp_path)!r}));"
        "logging.getLogger('library').warning('of a\\nlibrary é'); warnings.warn('old');"
        "raise ValueError('secret')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        timeout=60,
    )
    assert done.stderr == (tmp_path / "log" / "access.log").read_bytes()
    first, second, third = map(json.loads, done.stderr.decode().splitlines())
    assert (first["logger"], first["message"]) == ("library", "of a\nlibrary é")
    assert second["logger"] == "py.warnings"
    assert (third["event"], third["traceback"][:10]) == ("process_failed", "ValueError")
    assert b"secret" not in done.stderr


@pytest.mark.parametrize("role", ["app", "workers"])
def test_a_path_that_cannot_be_written_ends_a_role_with_one_sentence(
    tmp_path: Path, role: str
) -> None:
    (tmp_path / "settings.toml").touch()
    (tmp_path / "log").touch()  # a file where the directory should be
    done = subprocess.run(
        [sys.executable, "-m", role],
        cwd=ROOT,
        env={
            **os.environ,
            "GATEWAY_SETTINGS": str(tmp_path / "settings.toml"),
            "GATEWAY__UPSTREAM__BASE_URL": "http://127.0.0.1:9",
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"log.path: {tmp_path}/log/access.log cannot be written: File exists; name another file,"
        " or set log.to_file = false: everything goes to standard error as well\n"
    )


def test_a_credential_that_cannot_be_read_ends_a_worker_with_one_sentence(tmp_path: Path) -> None:
    """It printed a traceback."""
    (tmp_path / "settings.toml").touch()
    given = {
        "GATEWAY_SETTINGS": str(tmp_path / "settings.toml"),
        "GATEWAY_SECRET": "a secret of the tests",
        "GATEWAY__REDIS__URL": "redis://127.0.0.1:1",
        "GATEWAY__UPSTREAM__BASE_URL": "http://127.0.0.1:9",
        "GATEWAY__UPSTREAM__KIND": "openai",
        "GATEWAY__UPSTREAM__CREDENTIAL_FILE": str(tmp_path / "missing"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "workers"],
        cwd=ROOT,
        env=os.environ | given,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"upstream.credential_file: {tmp_path}/missing: cannot be read: No such file or directory"
    )
    assert "Traceback" not in done.stderr


def test_a_log_folder_in_which_no_file_can_be_made_prevents_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file could be written, but not be renamed at midnight."""

    def refuse(**_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(logs, "TemporaryFile", refuse)
    with pytest.raises(PermissionError):
        logs.DailyFile(tmp_path / "log" / "access.log", 0)
