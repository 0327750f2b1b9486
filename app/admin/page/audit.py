"""View of the audit log: who did what, and when. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from html5tagger import Builder, E

from app.admin.page.formatting import NONE
from app.admin.page.look import Look
from app.admin.page.tables import Cell, Column, Row, empty, section, table
from wire.line.audit import AuditEntry


def audit(look: Look, entries: Sequence[AuditEntry], names: Mapping[str, str]) -> Builder:
    """Return the latest entries; `names` are those of gateway keys by their ids."""
    texts = look.texts
    title = texts.views["audit"]
    if not entries:
        return section(title, empty(texts.no_audit))
    columns = (
        Column(texts.time, "number"),
        Column(texts.who, "main"),
        Column(texts.via),
        Column(texts.did),
        Column(texts.target, "long"),
        Column(texts.details, "long"),
        Column(texts.result),
        Column(texts.address),
    )
    rows = (
        Row(f"{entry.at} {number}", _cells(look, entry, names))
        for number, entry in enumerate(entries)
    )
    return section(title, table(title, columns, rows))


def _cells(look: Look, entry: AuditEntry, names: Mapping[str, str]) -> Sequence[Cell]:
    details = ", ".join(f"{name}: {value}" for name, value in entry.details.items())
    return (
        look.clock(entry.at),
        entry.who,
        look.texts.vias.get(entry.via, entry.via),
        entry.action.replace("_", " "),
        _target(entry.target, names),
        details or NONE,
        entry.result.replace("_", " "),
        entry.address or NONE,
    )


def _target(target: str, names: Mapping[str, str]) -> Cell:
    what, _, id = target.partition(" ")
    if what == "key" and id in names:
        return E._(f"{what} {names[id]} ", E.small(id))
    return target
