"""Pages with a form: the login, a question before an action, and the fields of a key. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import get_args

from html5tagger import Builder, E

from app.admin.page.keys import date_of
from app.admin.page.layout import FORM_TOKEN
from app.admin.page.look import Look
from app.admin.page.tables import Cell
from wire.keyring import BudgetUnit, IssuedKey, Priority

DURATIONS = ("0", "300", "900", "3600", "86400")
"""Seconds for which something may be paused; 0: until it is resumed."""

NUMBERS = (
    "weight",
    "max_running",
    "max_waiting",
    "requests_per_minute",
    "budget_day",
    "budget_month",
    "max_wait",
)
"""Fields of a key that are numbers."""

_CHOICES = {"priority": get_args(Priority), "budget_unit": get_args(BudgetUnit)}


def login(look: Look, error: str = "") -> Builder:
    """Return the login."""
    texts = look.texts
    fields = (
        _field(
            "name",
            texts.operator_name,
            texts.operator_name_note,
            maxlength=50,
            autocomplete="username",
            autofocus=True,
        ),
        _field("password", texts.password, "", type="password", autocomplete="current-password"),
    )
    return E.div(
        E.h1(texts.sign_in),
        E.form(
            _error(error),
            *fields,
            E.div(E.button(texts.sign_in, class_="primary"), class_="buttons"),
            method="post",
            action=look.url("login"),
            class_="form",
        ),
        class_="card door",
    )


def _field(name: str, label: str, note: str, **given: str | int) -> Builder:
    described = {"aria_describedby": f"{name}-note"} if note else {}
    return E.div(
        E.label(label, for_=name),
        E.input(id=name, name=name, required=True, **described, **given),
        E.small(note, id=f"{name}-note") if note else None,
    )


def _error(text: str) -> Builder | None:
    return E.div(text, class_="notice bad", role="alert") if text else None


def question(
    look: Look,
    ask: str,
    subject: Cell,
    address: str,
    token: str,
    *,
    back: str,
    has_duration: bool = False,
    error: str = "",
) -> Builder:
    """Return the question before an action; `ask` names its text, `address` carries it out."""
    texts = look.texts
    duration = (
        E.div(
            E.label(texts.for_time, for_="seconds"),
            E.select(
                *(E.option(texts.durations[each], value=each) for each in DURATIONS),
                id="seconds",
                name="seconds",
            ),
        )
        if has_duration
        else None
    )
    action = ask.partition("_")[0]
    word = texts.actions.get(ask) or texts.actions["park" if ask == "pause_account" else action]
    return E.div(
        E.h1(texts.ask[ask]),
        E.form(
            _error(error),
            E.div(E.b(subject)) if subject else None,
            E.div(texts.consequences[ask]),
            duration,
            _token(token),
            E.div(
                E.button(word, class_="danger" if ask in ("cancel", "revoke") else "primary"),
                E.a(texts.back, href=back),
                class_="buttons",
            ),
            method="post",
            action=address,
            class_="form",
        ),
        class_="card",
    )


def _token(token: str) -> Builder:
    return E.input(type="hidden", name=FORM_TOKEN, value=token)


def key_form(
    look: Look, given: Mapping[str, str], address: str, token: str, *, is_new: bool, error: str = ""
) -> Builder:
    """Return the form for the fields of a key, with the values given."""
    texts = look.texts
    named = [name for name in texts.fields if name in _SHOWN]
    return E.div(
        E.h1(texts.new_key if is_new else f"{texts.change}: {given.get('name', '')}"),
        E.form(
            _error(error),
            E.div(
                *(_key_field(look, name, given.get(name, "")) for name in named), class_="columns"
            ),
            _token(token),
            E.div(
                E.button(texts.issue if is_new else texts.save, class_="primary"),
                E.a(texts.back, href=look.url("keys")),
                class_="buttons",
            ),
            method="post",
            action=address,
            class_="form wide",
        ),
        class_="card",
    )


_SHOWN = frozenset({"name", "expires", "models", "notes", *NUMBERS, *_CHOICES})


def _key_field(look: Look, name: str, value: str) -> Builder:
    note = look.texts.field_notes[name]
    described = {"aria_describedby": f"{name}-note"} if note else {}
    return E.div(
        E.label(look.texts.fields[name], for_=name),
        _control(name, value, described),
        E.small(note, id=f"{name}-note") if note else None,
    )


def _control(name: str, value: str, described: Mapping[str, str]) -> Builder:
    if name in _CHOICES:
        options = (
            E.option(choice, value=choice, selected=choice == value) for choice in _CHOICES[name]
        )
        return E.select(*options, id=name, name=name, **described)
    if name in NUMBERS:
        limits = {"type": "number", "min": "0", "step": "any"}
        return E.input(id=name, name=name, value=value, **limits, **described)
    kind = {"placeholder": "2030-12-31"} if name == "expires" else {}
    is_required = name == "name"
    return E.input(id=name, name=name, value=value, required=is_required, **kind, **described)


_NEW = IssuedKey(id="0" * 16, sha256="0" * 64, name="-", created=0)


def values_of(record: IssuedKey | None) -> dict[str, str]:
    """Return the fields of a key as its form has them; those of a new one for None."""
    known = record or _NEW
    values = {name: _number(getattr(known, name)) for name in NUMBERS}
    return values | {
        "name": record.name if record else "",
        "expires": date_of(known.expires),
        "priority": known.priority,
        "budget_unit": known.budget_unit,
        "models": ", ".join(known.models),
        "notes": known.notes,
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def changes(record: IssuedKey | None, given: Mapping[str, str]) -> dict[str, object]:
    """Return the fields of a form that differ from a record, or for None from those of a new key.

    Raises:
        ValueError: a value cannot be read; the text is the name of its field.
    """
    # A form has the day of a time, and six digits of a number: those that it shows are no change.
    shown = values_of(record)
    read = dict(_fields(given))
    return {name: value for name, value in read.items() if given.get(name) != shown[name]}


def _fields(given: Mapping[str, str]) -> Iterator[tuple[str, object]]:
    yield "name", given.get("name", "").strip()
    yield "notes", given.get("notes", "").strip()
    yield "models", [word.strip() for word in given.get("models", "").split(",") if word.strip()]
    yield "expires", _read("expires", _time, given.get("expires", "").strip())
    for name in NUMBERS:
        yield name, _read(name, _EMPTY.get(name, _number_or_zero), given.get(name, "").strip())
    for name in _CHOICES:
        if given.get(name):
            yield name, given[name]


def _read(name: str, read: Callable[[str], object], text: str) -> object:
    try:
        return read(text)
    except (ValueError, OverflowError):
        raise ValueError(name) from None


def _time(text: str) -> int:
    if not text:
        return 0
    time = datetime.fromisoformat(text)
    return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())


def _number_or_zero(text: str) -> float:
    number = float(text or 0)
    return int(number) if number == int(number) else number


_EMPTY: Mapping[str, Callable[[str], object]] = {
    "weight": lambda text: _number_or_zero(text or "1"),
    "max_wait": lambda text: _number_or_zero(text) if text else None,
}


def issued(look: Look, name: str, key: str) -> Builder:
    """Return the page that shows a new key."""
    texts = look.texts
    return E.div(
        E.h1(f"{texts.issued_key}: {name}"),
        E.p(texts.issued_once),
        E.p(E.code(key), class_="secret", tabindex="0"),
        E.p(E.a(texts.back, href=look.url("keys"))),
        class_="card form",
    )
