"""View of the upstreams and of the accounts there: which is in trouble, until when. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from html5tagger import Builder, E

from app.admin.page.formatting import NONE, count
from app.admin.page.line import lane_name
from app.admin.page.look import Look
from app.admin.page.tables import (
    Cell,
    Column,
    Row,
    act_button,
    badge,
    bar,
    empty,
    link_button,
    section,
    table,
)
from app.admin.page.texts import Texts
from app.admin.page.trouble import ACCOUNT_TONES, UPSTREAM_TONES, resume_button
from wire.line.board import Board, BoardAccount, BoardUpstream

LANES = 12
"""Lanes of an upstream that are named."""


def upstreams(look: Look, board: Board) -> Builder:
    """Return each upstream with its shared accounts."""
    if not board.upstreams:
        return section(look.texts.upstreams, empty(look.texts.no_upstreams))
    return E._(*(_upstream(look, one) for one in board.upstreams))


def _upstream(look: Look, one: BoardUpstream) -> Builder:
    texts = look.texts
    lanes = [lane_name(look, lane) for lane in one.lanes[:LANES]]
    beyond = len(one.lanes) + one.more_lanes - len(lanes)
    state = badge(
        texts.upstream_states[one.state],
        UPSTREAM_TONES[one.state],
        *((" ", look.left(one.until)) if one.until else ()),
    )
    used = E.span(f"{count(one.held)} {texts.of_slots.format(count(one.slots))}")
    known = E.p(state, " ", used, bar(one.held, one.slots), class_="states")
    named = ", ".join(lanes) + (f", {texts.more.format(beyond)}" if beyond else "")
    return E.article(
        section(one.name, known, E.p(E.small(named)), aside=_pausing(look, one)),
        _accounts(look, one.name, one.accounts) if one.accounts else None,
        E.p(E.small(texts.more.format(count(one.more_accounts)))) if one.more_accounts else None,
        data_key=one.name,
    )


def _pausing(look: Look, one: BoardUpstream) -> Builder:
    if one.state == "paused":
        return resume_button(look, "upstream", one.name)
    text = look.texts.actions["pause"]
    address = look.url("act", "pause", what="upstream", name=one.name)
    return link_button(text, address, label=f"{text} {one.name}")


def _accounts(look: Look, upstream: str, accounts: Sequence[BoardAccount]) -> Builder:
    texts = look.texts
    rows = (
        Row(one.account, _account_cells(look, one, one.account, one.account)) for one in accounts
    )
    return table(f"{texts.account}, {upstream}", _account_columns(texts, texts.account), rows)


def _account_columns(texts: Texts, first: str) -> Sequence[Column]:
    return (
        Column(first, "main"),
        Column(texts.state),
        Column(texts.until, "number"),
        Column(texts.busy, "number"),
        Column(texts.families),
        Column("", "acts"),
    )


def _account_cells(look: Look, one: BoardAccount, name: str, shown: Cell) -> Sequence[Cell]:
    texts = look.texts
    state = badge(texts.account_states[one.state], ACCOUNT_TONES[one.state])
    reason = E.small(f" {one.reason.replace('_', ' ')}") if one.reason else ""
    slots = one.learned or one.slots
    return (
        shown,
        E._(state, reason),
        look.left(one.until),
        E._(f"{one.held} / {slots}", bar(one.held, slots)) if slots else count(one.held),
        E._(*_families(look, one.parked)) if one.parked else NONE,
        E._(*_account_acts(look, one, name)),
    )


def _families(look: Look, parked: Mapping[str, float]) -> Iterator[Cell]:
    for number, (family, until) in enumerate(sorted(parked.items())):
        yield f"{', ' if number else ''}{family} "
        yield E.small(look.left(until))


def _account_acts(look: Look, one: BoardAccount, name: str) -> Iterator[Cell]:
    texts = look.texts
    if one.state in ("cooling", "aside", "parked"):
        address = look.url("act", "wake", name=name)
        yield act_button(texts.actions["wake"], address, f"{texts.actions['wake']} {name}")
        yield " "
    if one.state == "paused":
        yield resume_button(look, "account", name)
    else:
        address = look.url("act", "pause", what="account", name=name)
        yield link_button(texts.actions["park"], address, label=f"{texts.actions['park']} {name}")


def own_accounts(look: Look, board: Board, names: Mapping[str, str]) -> Builder:
    """Return keys' own accounts that cannot be used."""
    texts = look.texts
    if not board.own_accounts:
        return E._("")
    rows = (
        Row(
            one.account,
            _account_cells(
                look,
                one,
                one.account,
                E.a(
                    names.get(one.account, one.account[:8]),
                    href=look.url("line", key=one.account),
                ),
            ),
        )
        for one in board.own_accounts
    )
    more = board.more_accounts
    return section(
        texts.own_accounts,
        E.p(E.small(texts.own_accounts_note)),
        table(texts.own_accounts, _account_columns(texts, texts.key), rows),
        E.p(E.small(texts.more.format(count(more)))) if more else None,
    )
