"""`python -m app keys`: issue, show, change and revoke gateway keys.

A new key is printed once, alone on standard output; Redis keeps only its hash. A key is named by
its id or, if no other one has it, its name. `export` prints the backup that `import` restores.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import msgspec
from msgspec import ValidationError

from app.admin.actions import ActionError, Actions
from app.commands.safe_text import one_line
from app.commands.user import terminal_operator
from runtime.command_line import new_parser
from settings import Settings, SettingsError
from settings.client_access import auth_mode
from settings.loader import load
from wire.keyring import (
    BotSetting,
    BudgetUnit,
    IssuedKey,
    Keyring,
    Priority,
    decode_issued,
)
from wire.line.audit import Audit
from wire.line.operator import OperatorLine
from wire.line.scripts import Scripts
from wire.redis.client import connect
from wire.redis.outage import REDIS_ERRORS
from wire.redis.trouble import trouble
from wire.seal import Seal, load_secret


class KeysError(Exception):
    """A command cannot be carried out; the message is for the operator."""


class Option(msgspec.Struct, frozen=True):
    """Option for one field of a record; `read` raises argparse.ArgumentTypeError."""

    field: str
    read: Callable[[str], object]
    metavar: str | None
    help: str
    choices: Sequence[str] | None = None

    @property
    def name(self) -> str:
        """The option as it is written."""
        return f"--{self.field.replace('_', '-')}"


def _number(text: str) -> object:
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None


def _time(text: str) -> object:
    """Read a time as Unix time; one without a zone is in UTC."""
    if text == "never":
        return 0
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        message = f"expected a date such as 2030-12-31, or never, got {text!r}"
        raise argparse.ArgumentTypeError(message) from None
    return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())


def _words(text: str) -> object:
    return [word.strip() for word in text.split(",") if word.strip()]


def _wait(text: str) -> object:
    return None if text == "none" else _number(text)


def _bot(text: str) -> object:
    """Read `enabled=true,markdown_image=false`."""
    pairs = [word.partition("=") for word in re.split(r"[\s,]+", text) if word]
    values = {"true": True, "false": False}
    for name, _, value in pairs:
        if name not in get_args(BotSetting) or value not in values:
            names = ", ".join(get_args(BotSetting))
            message = f"expected NAME=true or NAME=false with a name of {names}; got {text!r}"
            raise argparse.ArgumentTypeError(message)
    return {name: values[value] for name, _, value in pairs}


OPTIONS = (
    Option("expires", _time, "DATE", "last until this time (UTC), or never"),
    Option("weight", _number, "NUMBER", "part of the slots, compared with other keys (1)"),
    Option("priority", str, None, "highest service_tier it may ask for", get_args(Priority)),
    Option("models", _words, "A,B", 'the only models that it may use ("": all)'),
    Option("max_running", _number, "N", "jobs that it may have at once (0: no limit of its own)"),
    Option("max_waiting", _number, "N", "jobs that may wait (0: queue.max_waiting_per_key)"),
    Option("requests_per_minute", _number, "N", "accepted requests in any 60 s (0: no limit)"),
    Option("budget_unit", str, None, "unit of both budgets", get_args(BudgetUnit)),
    Option("budget_day", _number, "NUMBER", "budget of a day in UTC (0: no limit)"),
    Option("budget_month", _number, "NUMBER", "budget of a month in UTC (0: no limit)"),
    Option(
        "max_wait", _wait, "SECONDS", "longest forecast of a wait (0: answer now or refuse; none)"
    ),
    Option("bot", _bot, "NAME=BOOL,...", 'settings of [bot] that differ for it ("": none)'),
    Option("notes", str, "TEXT", "anything worth knowing"),
)


def main(arguments: Sequence[str]) -> None:
    """Carry out one command. The status is 0, 1 after a failure, 2 for a wrong command line."""
    given = _parser().parse_args(arguments)
    try:
        asyncio.run(_run(load(), given))
    except ActionError as error:
        wrong = error.__cause__
        sys.exit(_out_of_bounds(wrong) if isinstance(wrong, ValidationError) else str(error))
    except (SettingsError, KeysError) as error:
        sys.exit(str(error))
    except UnicodeEncodeError:
        sys.exit("The command line is not UTF-8.")
    except REDIS_ERRORS as error:
        sys.exit(f"Redis cannot be used: {trouble(error)}.")


def _parser() -> argparse.ArgumentParser:
    parser = new_parser("app keys", __doc__ or "")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    new = commands.add_parser("new", help="issue a key and print it, once")
    new.add_argument("name", help="name of the key, for people")
    listing = commands.add_parser("list", help="list all keys, also revoked ones")
    show = commands.add_parser("show", help="show all fields of a key")
    change = commands.add_parser("set", help="change fields of a key")
    revoke = commands.add_parser("revoke", help="refuse a key from now on, for good")
    commands.add_parser("export", help="print all records as JSON lines: hashes, no keys")
    restore = commands.add_parser("import", help="add the records of an export that are missing")
    restore.add_argument("file", help="file of an export, - for standard input")
    for one in (show, change, revoke):
        one.add_argument("key", help="id or name of the key")
    for one in (listing, show):
        one.add_argument("--json", action="store_true", help="print JSON")
    change.add_argument("--name", default=argparse.SUPPRESS, help="name of the key")
    for one in (new, change):
        for option in OPTIONS:
            one.add_argument(
                option.name,
                type=option.read,
                metavar=option.metavar,
                help=option.help,
                choices=option.choices,
                default=argparse.SUPPRESS,
            )
    return parser


async def _run(config: Settings, given: argparse.Namespace) -> None:
    seal = Seal(load_secret(config.directory, os.environ))
    redis = connect(config.redis.role_url, connections=2)
    line = OperatorLine(Scripts(redis, seal.fingerprint), config.queue)
    actions = Actions(line, Keyring(redis, seal), Audit(redis), seal)
    try:
        await _COMMANDS[given.command](actions, given)
    finally:
        await redis.aclose()
    if given.command == "new" and auth_mode(config) == "passthrough":
        _note("Front ends with the settings of this command take no gateway keys: see auth.mode.")


async def _new(actions: Actions, given: argparse.Namespace) -> None:
    issued = await actions.issue_key(terminal_operator(), given.name, _fields(given))
    _note(f"Issued the key {issued.record.id} ({issued.record.name}). It is not shown again:")
    _print(issued.key)


async def _list(actions: Actions, given: argparse.Namespace) -> None:
    records = await actions.keyring.list()
    if given.json:
        _print(msgspec.json.format(msgspec.json.encode(records)).decode())
    else:
        _print("\n".join(table(records, time.time())))


async def _show(actions: Actions, given: argparse.Namespace) -> None:
    record = await _one(actions.keyring, given.key)
    if given.json:
        _print(msgspec.json.format(msgspec.json.encode(record)).decode())
    else:
        _print("\n".join(description(record)))


async def _set(actions: Actions, given: argparse.Namespace) -> None:
    fields = _fields(given) | ({"name": given.name} if "name" in given else {})
    if not fields:
        raise KeysError("Nothing to change. `python -m app keys set --help` lists the fields.")
    id = (await _one(actions.keyring, given.key)).id
    changed = await actions.change_key(terminal_operator(), id, fields)
    _print("\n".join(description(changed.record)))


async def _revoke(actions: Actions, given: argparse.Namespace) -> None:
    id = (await _one(actions.keyring, given.key)).id
    record = (await actions.revoke_key(terminal_operator(), id)).record
    _print(f"Revoked the key {record.id} ({one_line(record.name)}).")


async def _export(actions: Actions, given: argparse.Namespace) -> None:
    for record in await actions.keyring.list():
        _print(msgspec.json.encode(record).decode())


async def _import(actions: Actions, given: argparse.Namespace) -> None:
    records = list(read_records(_text(given.file)))
    added = (await actions.import_keys(terminal_operator(), records)).added
    _print(f"Added {added} of {len(records)} records; the others were there.")


_COMMANDS = {
    "new": _new,
    "list": _list,
    "show": _show,
    "set": _set,
    "revoke": _revoke,
    "export": _export,
    "import": _import,
}


async def _one(keyring: Keyring, named: str) -> IssuedKey:
    """Return the record of a key by its id or its name."""
    if re.fullmatch("[0-9a-f]{16}", named) and (record := await keyring.get(named)):
        return record
    found = [record for record in await keyring.list() if record.name == named]
    valid = [record for record in found if not record.revoked] or found
    if not valid:
        raise KeysError(f"There is no gateway key with the id or name {named}.")
    if len(valid) > 1:
        ids = ", ".join(record.id for record in valid)
        raise KeysError(f"Several gateway keys have the name {named}. Use an id: {ids}.")
    return valid[0]


def read_records(text: str) -> Iterator[IssuedKey]:
    """Read the lines of an export. Raises KeysError."""
    # Not `splitlines`: a name may hold one of the other characters that end a line for it.
    for number, line in enumerate(text.split("\n"), 1):
        try:
            if line.strip():
                yield decode_issued(line)
        except msgspec.MsgspecError:
            message = f"Line {number} is not the record of a gateway key. Nothing was imported."
            raise KeysError(message) from None


def table(records: Sequence[IssuedKey], now: float) -> Iterator[str]:
    """Lines of a table of keys, with their most important fields."""
    rows = [
        ("ID", "NAME", "STATE", "CREATED", "EXPIRES", "WEIGHT", "PER MINUTE", "BUDGETS", "MODELS")
    ]
    rows += [
        (
            record.id,
            record.name,
            _state(record, now),
            _date(record.created),
            _date(record.expires) or "never",
            f"{record.weight:g}",
            f"{record.requests_per_minute or '-'}",
            _budgets(record),
            ", ".join(record.models) or "all",
        )
        for record in records
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield one_line("  ".join(map(str.ljust, row, widths)).rstrip())


def description(record: IssuedKey) -> Iterator[str]:
    """Lines with all fields of a record."""
    fields: Mapping[str, object] = msgspec.to_builtins(record)
    for name, value in fields.items():
        if name in ("created", "expires", "revoked"):
            value = _date(getattr(record, name)) or "never"
        shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        yield one_line(f"{name:20} {shown}".rstrip())


def _state(record: IssuedKey, now: float) -> str:
    if record.revoked:
        return "revoked"
    return "expired" if record.has_expired(now) else "valid"


def _budgets(record: IssuedKey) -> str:
    given = {"day": record.budget_day, "month": record.budget_month}
    shown = [f"{budget:g} a {period}" for period, budget in given.items() if budget]
    return f"{', '.join(shown)} ({record.budget_unit})" if shown else "-"


def _date(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(sep=" ").removesuffix("+00:00") if at else ""


def _fields(given: argparse.Namespace) -> dict[str, object]:
    """The fields that the command line sets."""
    return {
        option.field: getattr(given, option.field) for option in OPTIONS if option.field in given
    }


def _out_of_bounds(error: ValidationError) -> str:
    """Say which option was wrong, in plain words."""
    expected, _, place = str(error).partition(" - at `$.")
    option = re.split(r"\W", place, maxsplit=1)[0].replace("_", "-")
    for name, kind in {"`float`": "a number", "`int`": "a whole number", "`str`": "a text"}.items():
        expected = expected.replace(name, kind)
    return f"--{option}: {expected[:1].lower()}{expected[1:].replace('`', '')}."


def _text(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise KeysError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KeysError(f"{file}: is not UTF-8") from None


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _note(text: str) -> None:
    """Print to standard error, so that standard output can be stored."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
