"""The screen of `python -m app top`: tables that follow the gateway, and keys that act on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import ClassVar, NamedTuple

from rich.text import Text
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, Static

from app.admin.actions import ActionError, Actions, Result
from app.admin.boards import Unreadable
from app.admin.operator import Operator
from app.commands import rows
from app.commands.observer import Observation
from app.commands.rows import Column, Row, Tone
from app.commands.safe_text import one_line
from app.commands.troubles import fatal, lesser
from wire.line.board import PauseKind
from wire.line.scripts import WrongVersionError

ACTION_PATIENCE = 10.0
"""Seconds that an action may take."""

FAILURE_SHOWN = 20.0
"""Seconds for which the failure of an action is shown."""

Changes = Callable[[], AsyncIterator[Observation | Unreadable]]

_ON_DARK = {"good": "#8ad4a1", "warning": "#ffc473", "bad": "#ff8fa3", "dim": "dim"}
_ON_LIGHT = {"good": "#1c5e30", "warning": "#6f4200", "bad": "#8a0f2d", "dim": "dim"}
"""Colours of rows, of which each has a contrast of at least 4.5 with its background."""

HELP = """\
Tab, Shift+Tab   another table
arrows, PgUp/Dn  another row
/                show only rows with a text (Esc: all again)

c  cancel the chosen job; its client gets an error that says so
p  pause or resume: the chosen key, the chosen upstream,
   or in the other tables the intake of all requests
w  wake the chosen account, or park it if it is in use
d  drain the chosen worker: it finishes its jobs, and ends
q  quit

WAIT is the forecast of a waiting job, and the wait that a running
one had. The waits at the top are those of the last hour, the tokens
those of the last minute. Each action asks once, and is written to
the audit log with your name."""


def style_of(app: App[str], tone: Tone) -> str:
    """Return the style of a tone in the theme of an app."""
    return (_ON_DARK if app.current_theme.dark else _ON_LIGHT).get(tone, "")


class Position(NamedTuple):
    """Position in a table: id and number of the chosen row, and the lines scrolled off the top."""

    id: str
    row: int
    scrolled: float


class Table(DataTable[Text]):
    """A table whose rows may change at any time; the chosen row stays chosen."""

    def __init__(self, id: str, title: str, columns: Sequence[Column]) -> None:
        super().__init__(id=id, cursor_type="row", cell_padding=0)
        self.border_title = title
        self._columns = columns
        self._rows: list[Row] = []
        self._width = 0

    @property
    def chosen(self) -> Row | None:
        """The row under the cursor."""
        return self._rows[self.cursor_row] if 0 <= self.cursor_row < len(self._rows) else None

    def on_resize(self, _: events.Resize) -> None:
        """Divide a new width among the columns."""
        width = self.scrollable_content_region.width
        if width == self._width:
            return
        self._width, position = width, self._position
        self.clear(columns=True)
        widths = rows.widths(self._columns, width)
        for number, (column, its_width) in enumerate(zip(self._columns, widths, strict=True)):
            self.add_column(column.title, width=its_width, key=str(number))
        self._fill(self._rows, position)

    def show(self, shown: Sequence[Row]) -> None:
        """Show these rows from now on."""
        if not self.columns:  # it has no size yet
            self._rows = list(shown)
        elif [row.id for row in shown] == [row.id for row in self._rows]:
            self._change(shown)
        else:
            position = self._position
            self.clear()
            self._fill(shown, position)

    @property
    def _position(self) -> Position:
        return Position(self.chosen.id if self.chosen else "", self.cursor_row, self.scroll_y)

    def _change(self, shown: Sequence[Row]) -> None:
        for before, row in zip(self._rows, shown, strict=True):
            for number, text in enumerate(self._texts(row)):
                if row.tone != before.tone or row.cells[number] != before.cells[number]:
                    self.update_cell(row.id, str(number), text)
        self._rows = list(shown)

    def _fill(self, shown: Sequence[Row], before: Position) -> None:
        """Add the rows to the empty table, and go back to a position."""
        self._rows = list(shown)
        for row in shown:
            self.add_row(*self._texts(row), key=row.id)
        ids = [row.id for row in shown]
        self.move_cursor(row=ids.index(before.id) if before.id in ids else before.row)
        self.scroll_to(y=before.scrolled, animate=False, force=True)

    def _texts(self, row: Row) -> list[Text]:
        found = []
        for cell, column in zip(row.cells, self.ordered_columns, strict=True):
            text = Text(one_line(cell), style=style_of(self.app, row.tone), no_wrap=True)
            text.truncate(column.width - 1, overflow="ellipsis")
            found.append(text)
        return found


class Question(ModalScreen[bool]):
    """Asks whether to go on with an action."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "Yes"),
        Binding("n,escape,q", "dismiss(False)", "No"),
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        """See `textual.screen.Screen`."""
        yield Static(Text(f"{self._text}\n\ny  yes    n  no"), classes="dialog")


class Help(ModalScreen[None]):
    """Explains the keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,enter", "dismiss(None)", "Close")
    ]

    def compose(self) -> ComposeResult:
        """See `textual.screen.Screen`."""
        yield Static(Text(HELP), classes="dialog")


class TopScreen(App[str]):
    """The whole program. Its result is the reason why it ended by itself, or empty."""

    TITLE = "pandora-line"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { layout: vertical; }
    #headline { height: 1; background: $panel; text-style: bold; }
    #troubles { height: auto; max-height: 2; }
    #troubles.hidden, #filter.hidden { display: none; }
    #line { height: 3fr; }
    #lower { height: 2fr; min-height: 9; }
    #keys, #right { width: 1fr; }
    #accounts { height: 3fr; }
    #processes { height: 2fr; }
    Table { border-top: solid $panel-lighten-2; border-title-color: $text;
            scrollbar-size-vertical: 1; overflow-x: hidden; }
    Table:focus { border-top: heavy $accent; }
    #filter { height: 1; border: none; padding: 0; }
    Question, Help { align: center middle; }
    .dialog { width: auto; max-width: 78; height: auto; padding: 1 2; background: $panel;
              border: round $accent; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "cancel_job", "Cancel job"),
        Binding("p", "pause", "Pause/resume"),
        Binding("w", "wake", "Wake/park"),
        Binding("d", "drain", "Drain"),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("q,ctrl+c", "quit", "Quit", key_display="q"),
        Binding("escape", "show_all", "All rows", show=False),
    ]

    def __init__(self, changes: Changes, actions: Actions, who: Operator) -> None:
        super().__init__()
        self._changes = changes
        self._actions = actions
        self._who = who
        self._seen: Observation | None = None
        self._filter = ""

    def compose(self) -> ComposeResult:
        """See `textual.app.App`."""
        yield Static(id="headline")
        yield Static(id="troubles", classes="hidden")
        yield Table("line", "The line", rows.LINE)
        with Horizontal(id="lower"):
            yield Table("keys", "Keys", rows.KEYS)
            with Vertical(id="right"):
                yield Table("accounts", "Upstreams and accounts", rows.ACCOUNTS)
                yield Table("processes", "Processes", rows.PROCESSES)
        yield Input(placeholder="text in the rows", id="filter", classes="hidden", compact=True)
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        """Begin to follow the gateway."""
        self._table("line").focus()
        self.run_worker(self._follow())

    async def _follow(self) -> None:
        try:
            async for seen in self._changes():
                if isinstance(seen, Unreadable):
                    self._show_troubles([f"Redis cannot be used ({seen.reason}); this is old"])
                else:
                    self._seen = seen
                    self._show()
        except WrongVersionError as error:
            self.exit(str(error))

    def _table(self, id: str) -> Table:
        return self.query_one(f"#{id}", Table)

    def _show(self) -> None:
        """Show the latest observation."""
        if (seen := self._seen) is None:
            return
        tables = {
            "line": rows.line_rows(seen.board),
            "keys": rows.key_rows(seen.board),
            "accounts": rows.account_rows(seen.board),
            "processes": rows.process_rows(seen.processes),
        }
        with self.batch_update():
            found = f"  rows with {self._filter!r}" if self._filter else ""
            self.query_one("#headline", Static).update(Text(f"{rows.headline(seen)}{found}"))
            self._show_troubles([*fatal(seen), *lesser(seen)])
            for id, shown in tables.items():
                self._table(id).show(rows.filtered(shown, self._filter))

    def _show_troubles(self, troubles: Sequence[str]) -> None:
        shown = self.query_one("#troubles", Static)
        shown.set_class(not troubles, "hidden")
        shown.update(Text(one_line("; ".join(troubles)), style_of(self, "warning")))

    def action_filter(self) -> None:
        """Ask for the text that shown rows have."""
        given = self.query_one("#filter", Input)
        given.remove_class("hidden")
        given.focus()

    def action_show_all(self) -> None:
        """Show all rows again."""
        given = self.query_one("#filter", Input)
        given.value = ""
        self.on_input_submitted()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show only the rows with this text."""
        self._filter = event.value
        self._show()

    def on_input_submitted(self) -> None:
        """Go back to the rows."""
        self.query_one("#filter", Input).add_class("hidden")
        self._table("line").focus()

    def action_help(self) -> None:
        """Explain the keys."""
        self.push_screen(Help())

    def action_cancel_job(self) -> None:
        """Cancel the chosen job."""
        row = self._chosen("line", "a job in the line")
        if row:
            _, key, model, state, *_ = row.cells
            asked = f"Cancel the {state} job {row.id} of {key} ({model})?"
            self._ask(asked, lambda: self._actions.cancel(self._who, row.id))

    def action_drain(self) -> None:
        """Drain the chosen worker."""
        row = self._chosen("processes", "a worker")
        if row and row.cells[1] == "front":
            self.notify("Only workers can be drained.", severity="warning")
        elif row:
            asked = f"Drain the worker {row.cells[0]}? It finishes its jobs, and ends."
            self._ask(asked, lambda: self._actions.drain(self._who, row.id))

    def action_pause(self) -> None:
        """Pause or resume the chosen key or upstream, or the intake of all."""
        if self._table("keys").has_focus and (row := self._table("keys").chosen):
            self._ask_pause("key", row.id, f"key {row.cells[0]}")
        elif self._table("accounts").has_focus and (row := self._table("accounts").chosen):
            what, _, name = row.id.partition(" ")
            if what == "upstream":
                self._ask_pause("upstream", name, f"upstream {name}")
            else:
                self.action_wake()
        else:
            self._ask_pause("all", "", "intake of all requests")

    def _ask_pause(self, what: PauseKind, name: str, described: str) -> None:
        pauses = self._seen.board.pauses if self._seen else []
        if any((pause.what, pause.name) == (what, name) for pause in pauses):
            self._ask(
                f"Resume the {described}?", lambda: self._actions.resume(self._who, what, name)
            )
        else:
            effect = "gets no more jobs" if what == "upstream" else "new requests are refused"
            self._ask(
                f"Pause the {described}? Until it is resumed, {effect}; jobs in line are served.",
                lambda: self._actions.pause(self._who, what, name),
            )

    def action_wake(self) -> None:
        """Wake the chosen account, or park it if it is in use."""
        row = self._chosen("accounts", "an account")
        if not row:
            return
        what, _, name = row.id.partition(" ")
        if what != "account":
            self.notify("That is an upstream. p pauses it.", severity="warning")
        elif row.cells[1] in rows.USABLE:
            asked = (
                f"Park the account {row.cells[0].strip()}? It gets no more jobs until it is woken."
            )
            self._ask(asked, lambda: self._actions.pause(self._who, "account", name))
        else:
            asked = f"Use the account {row.cells[0].strip()} again at once?"
            self._ask(asked, lambda: self._actions.wake(self._who, name))

    def _chosen(self, id: str, described: str) -> Row | None:
        """The chosen row of a table; None, after a hint, unless the table has the focus."""
        table = self._table(id)
        if not table.has_focus or table.chosen is None:
            self.notify(f"Choose {described} first (Tab, arrows).", severity="warning")
            return None
        return table.chosen

    def _ask(self, question: str, act: Callable[[], Awaitable[Result]]) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                self.run_worker(self._act(act))

        self.push_screen(Question(one_line(question)), answered)

    async def _act(self, act: Callable[[], Awaitable[Result]]) -> None:
        try:
            async with asyncio.timeout(ACTION_PATIENCE):
                done = await act()
        except ActionError as error:
            self._show_failure(one_line(error.object.error.message))
        except TimeoutError:
            self._show_failure("Redis did not answer in time. It may or may not have been done.")
        else:
            self.notify(_RESULTS.get(done.result, done.result))

    def _show_failure(self, message: str) -> None:
        self.notify(message, severity="error", timeout=FAILURE_SHOWN, markup=False)


_RESULTS = {
    "already": "It was so already.",
    "cancelled": "The job is cancelled.",
    "cancelling": "Its worker is cancelling the job.",
    "draining": "The worker finishes its jobs, and ends.",
    "paused": "Paused.",
    "resumed": "Resumed.",
    "woken": "The account is used again.",
}
