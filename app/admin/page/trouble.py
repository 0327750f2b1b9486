"""Everything that keeps jobs from being served, the worst first. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from html5tagger import Builder, E

from app.admin.page.look import Look
from app.admin.page.tables import Cell, Tone, act_button, badge
from wire.line.board import AccountState, Board, BoardAccount, BoardUpstream, Pause, UpstreamState

SHOWN = 20
"""Accounts in trouble that are shown in a list: there may be thousands."""

PAUSES = 100
"""Pauses that are shown, the oldest first."""

UPSTREAM_TONES: dict[UpstreamState, Tone] = {
    "ready": "good",
    "circuit_open": "bad",
    "paused": "held",
    "refuses_us": "bad",
    "no_worker": "bad",
}
ACCOUNT_TONES: dict[AccountState, Tone] = {
    "ready": "good",
    "full": "plain",
    "cooling": "warn",
    "aside": "bad",
    "parked": "warn",
    "paused": "held",
}


def troubles(look: Look, board: Board, names: Mapping[str, str]) -> list[Builder]:
    """Return an entry of a list for each thing in trouble."""
    entries = [*_of_all(look, board), *_pauses(look, board, names)]
    for upstream in board.upstreams:
        entries += _of_upstream(look, upstream)
    accounts = [a for upstream in board.upstreams for a in upstream.accounts if _is_in_trouble(a)]
    entries += [_of_account(look, account) for account in accounts[:SHOWN]]
    own = len(board.own_accounts) + board.more_accounts
    beyond = len(accounts) - SHOWN
    if beyond > 0:
        entries.append(E.li(E.a(look.texts.more.format(beyond), href=look.url("upstreams"))))
    if own:
        counted = E.a(look.texts.own_accounts, href=look.url("upstreams") + "#own")
        entries.append(_entry("warn", f"{own:,}", counted))
    return entries


def _of_all(look: Look, board: Board) -> Iterator[Builder]:
    texts = look.texts
    if board.settling > 0:
        yield _entry("warn", texts.whys["settling"], texts.settling, look.short(board.settling))
    if not board.slots and not board.running_total:
        yield _entry("bad", texts.upstream_states["no_worker"], texts.no_worker)


def _pauses(look: Look, board: Board, names: Mapping[str, str]) -> Iterator[Builder]:
    for pause in board.pauses[:PAUSES]:
        yield E.li(*pause_line(look, pause, names), data_key=f"{pause.what} {pause.name}")
    if (beyond := len(board.pauses) - PAUSES) > 0:
        yield E.li(look.texts.more.format(beyond))


def pause_line(look: Look, pause: Pause, names: Mapping[str, str]) -> Iterator[Cell]:
    """Yield the parts of a text about a pause, and the button that ends it."""
    texts = look.texts
    yield badge(texts.paused, "held")
    yield " "
    name = names.get(pause.name, pause.name) if pause.what == "key" else pause.name
    yield E.span(texts.paused_what[pause.what].format(name))
    yield " "
    yield E.small(texts.by.format(pause.by), ", ", texts.since, " ", look.clock(pause.since))
    if pause.until is not None:
        yield " "
        yield E.small(texts.until.lower(), " ", look.clock(pause.until))
    yield " "
    yield resume_button(look, pause.what, pause.name)


def resume_button(look: Look, what: str, name: str) -> Builder:
    """Return the button that ends a pause."""
    word = "resume_all" if what == "all" else "resume"
    address = look.url("act", "resume", what=what, name=name)
    return act_button(look.texts.actions[word], address, f"{look.texts.actions[word]} {name}")


def _of_upstream(look: Look, upstream: BoardUpstream) -> Iterator[Builder]:
    if upstream.state in ("ready", "paused"):  # a pause has an entry of its own
        return
    texts = look.texts
    name = E.a(upstream.name, href=look.url("upstreams"))
    state = texts.upstream_states[upstream.state]
    yield _entry(UPSTREAM_TONES[upstream.state], state, name, *_until(look, upstream.until))


def _is_in_trouble(account: BoardAccount) -> bool:
    return account.state in ("cooling", "aside", "parked")


def _of_account(look: Look, account: BoardAccount) -> Builder:
    state = look.texts.account_states[account.state]
    name = E.a(account.account, href=look.url("upstreams"))
    until = account.until or min(account.parked.values(), default=None)
    reason = E.small(account.reason) if account.reason else ""
    return _entry(ACCOUNT_TONES[account.state], state, name, reason, *_until(look, until))


def _until(look: Look, until: float | None) -> tuple[Cell, ...]:
    return (E.small(look.left(until)),) if until else ()


def _entry(tone: Tone, state: str, *parts: Cell) -> Builder:
    spaced = (piece for part in parts if part for piece in (" ", part))
    return E.li(badge(state, tone), *spaced)
