"""The operators' page: its texts, colours, numbers and views, from made-up boards."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from app.admin.page import audit, forms, jobs, keys, line, overview, processes, upstreams
from app.admin.page.charts import Chart, Series, ceiling, figure, time_ceiling
from app.admin.page.formatting import count, duration, rough, short, size
from app.admin.page.layout import Frame, document, regions
from app.admin.page.look import Look
from app.admin.page.texts import LANGUAGES, Language, Texts, preferred, texts_of
from tests.support import boards
from wire.keyring import IssuedKey
from wire.line.audit import AuditEntry
from wire.line.board import Pause

PAGE = Path(__file__).parents[2] / "app" / "admin" / "page"
UNITS = ("s", "m", "h", "d")


def views(look: Look, *, is_busy: bool) -> Iterator[tuple[str, str]]:
    """Yield the name and the HTML of every part of every view."""
    board = boards.busy_board() if is_busy else boards.empty_board()
    names, minutes = board.names, boards.history() if is_busy else []
    entries = boards.key_entries(50) if is_busy else []
    figures = boards.processes() if is_busy else []
    story = boards.story() if is_busy else None
    done = AuditEntry(
        who="<b>Anna", via="page", action="pause", target="key <i>", details={"seconds": "60"}
    )
    yield "figures", str(overview.figures(look, board, minutes[-60:], board.at - 90))
    yield "attention", str(overview.attention(look, board, names))
    yield "who", str(overview.who(look, board, names))
    yield "hour", str(overview.history(look, minutes, overview.HOUR, boards.NOW))
    yield "day", str(overview.history(look, minutes, overview.DAY, boards.NOW))
    yield "lanes", str(line.lanes(look, board))
    yield "flows", str(line.keys(look, board, names))
    for key in board.names:
        yield "flows", str(line.keys(look, board, names, key))
    yield "running", str(line.running(look, board, names))
    yield "waiting", str(line.waiting(look, board.waiting, names, board.waiting_total))
    rows = [keys.KeyRow(entry, "k", 5, 1, number == 1) for number, entry in enumerate(entries)]
    yield "keys", str(keys.keys(look, rows, boards.NOW, len(rows) * 20))
    yield "upstreams", str(upstreams.upstreams(look, board))
    yield "own", str(upstreams.own_accounts(look, board, names))
    yield "workers", str(processes.workers(look, figures))
    yield "front ends", str(processes.front_ends(look, figures))
    yield "endings", str(jobs.endings(look, [story] if story else [], names))
    yield "story", str(jobs.story(look, story, names))
    yield "audit", str(audit.audit(look, [done] if is_busy else [], {"<i>": "<b>bot"}))
    yield "login", str(forms.login(look, "no"))
    yield "key form", str(forms.key_form(look, {"name": '"><b>'}, "/x", "t", is_new=True))
    yield "question", str(forms.question(look, "cancel", "<b>", "/x", "t", back="/"))


class Checker(HTMLParser):
    """Collects what is wrong with a page."""

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[str] = []
        self.ids: list[str] = []
        self.labels: set[str] = set()
        self.controls: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Check an element."""
        given = dict(attrs)
        self.problems += [f"{tag} {name}" for name in given if name == "style" or name[:2] == "on"]
        if tag == "script" and not given.get("src"):
            self.problems.append("a script in the page")
        if given.get("id"):
            self.ids.append(str(given["id"]))
        if tag == "label":
            self.labels.add(str(given.get("for")))
        if tag in ("input", "select") and given.get("type") != "hidden":
            self.controls.add(str(given.get("id")))


@pytest.mark.parametrize("is_busy", [True, False])
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_view_is_sound_html_without_scripts_and_styles(
    language: Language, is_busy: bool
) -> None:
    look = Look(language, "/line/admin", boards.NOW)
    for name, html in views(look, is_busy=is_busy):
        checker = Checker()
        checker.feed(html)
        assert not checker.problems, name
        assert len(checker.ids) == len(set(checker.ids)), name
        assert checker.controls <= checker.labels, name
        assert "<b>Anna" not in html, name
        assert "{" not in re.sub(r"<[^>]*>", "", html), name


def test_a_page_has_a_language_a_title_and_no_inline_code() -> None:
    look = Look("zh", "/admin", boards.NOW)
    frame = Frame(
        view="line",
        title="队列 </title>",
        assets=("/a.css", "/a.js", "/a.svg"),
        here='/admin/line?q="',
        theme="dark",
        stream="/admin/stream?view=line",
        operator="<Anna>",
        form_token="token",
    )
    drawn = (("waiting", "card", html) for name, html in views(look, is_busy=True) if name == "who")
    html = document(look, frame, *regions(list(drawn)))
    checker = Checker()
    checker.feed(html)
    assert html.startswith('<!DOCTYPE html><html lang="zh-CN" data-theme=dark')
    assert "<title>队列 &lt;/title" in html
    assert '<a href="#content" class=skip>' in html
    assert not checker.problems


def test_all_languages_have_the_same_words() -> None:
    for field in msgspec.structs.fields(Texts):
        values = [getattr(texts_of(language), field.name) for language in LANGUAGES]
        if isinstance(values[0], dict):
            assert values[0].keys() == values[1].keys(), field.name
        if isinstance(values[0], str):
            assert [re.findall(r"\{\w*\}", value) for value in values] == [
                re.findall(r"\{\w*\}", values[0])
            ] * 2, field.name
            assert all(values), field.name


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-GB,zh;q=0.9", "en"),
        ("fr, zh;q=0.3", "zh"),
        ("zh;q=0", "en"),
        ("zh;q=x, de", "en"),
    ],
)
def test_the_language_is_the_one_that_a_browser_prefers(accepted: str, language: str) -> None:
    assert preferred(accepted) == language


def test_numbers_are_written_for_people() -> None:
    assert [duration(each, UNITS) for each in (-3, 0.9, 61, 3661, 90_000)] == [
        "0s",
        "0s",
        "1m 01s",
        "1h 01m",
        "1d 1h",
    ]
    assert [short(each, UNITS) for each in (None, 0.25, 12.9, 1800)] == ["–", "0.2s", "12s", "30m"]
    assert [rough(each, UNITS) for each in (None, 3.4, 38, 100, 4000)] == [
        "–",
        "≈ 3s",
        "≈ 40s",
        "≈ 1m 30s",
        "≈ 1h 05m",
    ]
    assert [count(each) for each in (0, 3.25, 12_345, 99.0)] == ["0", "3.2", "12,345", "99"]
    assert [size(each) for each in (5 << 20, 3 << 30)] == ["5 MB", "3.0 GB"]


def test_a_chart_has_round_limits_gaps_and_a_description() -> None:
    assert [ceiling(each) for each in (0, 0.3, 1.5, 20, 21, 999)] == [1, 1, 2, 20, 50, 1000]
    assert [time_ceiling(each) for each in (0.2, 61, 90_000)] == [1, 120, 172_800]
    chart = Chart("Waiting", (Series("", "main", [1.0, None, 4.0, 2.0]),), count)
    drawn = str(figure(Look("en", "/"), chart, 3600))
    assert "Waiting: now 2, lowest 1, highest 4" in drawn
    assert drawn.count("class=area") == 2  # one on each side of the gap
    assert '"M0 80.0L0.5 80.0L1 80.0V100H0Z"' in drawn


def test_points_are_the_minutes_of_the_time_shown() -> None:
    shown = overview.points(boards.history(), overview.HOUR, boards.NOW)
    assert len(shown) == 60
    assert [at for at, point in enumerate(shown) if point is None] == list(range(34, 40))
    last = shown[-1]
    assert last is not None
    assert last.running == boards.history()[-1].running
    assert len(overview.points(boards.history(), overview.DAY, boards.NOW)) == 144


def test_without_a_time_a_view_does_not_change_until_something_happens() -> None:
    look = Look("en", "/admin")
    board = boards.busy_board()
    later = msgspec.structs.replace(board, at=board.at + 1)
    for draw in (overview.attention, overview.who, line.running):
        assert str(draw(look, board, board.names)) == str(draw(look, later, board.names))


def test_of_thousands_of_pauses_the_page_shows_some_and_counts_the_others() -> None:
    pauses = [Pause(what="key", name=f"k{n}", since=boards.NOW, by="Anna") for n in range(1000)]
    board = msgspec.structs.replace(boards.empty_board(), pauses=pauses)
    shown = str(overview.attention(Look("en", "/admin", boards.NOW), board, {}))
    assert shown.count("Resume k") == 100
    assert "and 900 more" in shown


def test_the_page_of_a_key_shows_its_jobs_only() -> None:
    look, board = Look("en", "/admin", boards.NOW), boards.busy_board()
    key = board.flows[0].key
    drawn = str(line.running(look, board, board.names, key))
    assert "Running jobs · 3" in drawn
    assert "telegram-bot" in drawn
    assert "research" not in drawn


def test_a_key_is_paused_and_resumed_where_its_jobs_are() -> None:
    look, board = Look("en", "/admin", boards.NOW), boards.busy_board()
    first, second, *_ = board.flows
    assert "act/pause?what=key" in str(line.keys(look, board, board.names, first.key))
    assert "act/resume?what=key" in str(line.keys(look, board, board.names, second.key))


def test_found_keys_have_the_text_in_their_name_or_id() -> None:
    entries = boards.key_entries(12)
    assert [entry.name for entry in keys.found(entries, " 翻译 ")][:1] == ["翻译机器人"]
    assert keys.found(entries, "000c")[0].id == "000000000000000c"
    everything = keys.found(entries, "")
    assert everything[-1].revoked
    assert [entry.today["output_tokens"] for entry in everything[:2]] == [4e5, 2e5]
    assert keys.found(entries, "<script> nothing") == []


def test_the_form_of_a_key_becomes_fields_of_its_record() -> None:
    given = forms.values_of(None) | {
        "name": " bot ",
        "expires": "2030-01-02",
        "weight": "1.5",
        "models": "a, b,",
        "max_wait": "",
        "budget_day": "1e6",
    }
    assert forms.changes(None, given) == {
        "name": "bot",
        "expires": 1_893_542_400,
        "weight": 1.5,
        "models": ["a", "b"],
        "budget_day": 1_000_000,
    }
    with pytest.raises(ValueError, match="max_running"):
        forms.changes(None, given | {"max_running": "many"})
    with pytest.raises(ValueError, match="expires"):
        forms.changes(None, given | {"expires": "tomorrow"})


def test_only_fields_that_the_form_of_a_key_changes_are_changed() -> None:
    record = IssuedKey(
        id="a" * 16,
        sha256="b" * 64,
        name="bot",
        created=0,
        expires=1_893_542_999,
        budget_day=1234567.5,
        max_wait=30,
    )
    given = forms.values_of(record)
    assert forms.changes(record, given) == {}
    assert forms.changes(record, given | {"max_wait": ""}) == {"max_wait": None}
    assert forms.changes(record, given | {"expires": ""}) == {"expires": 0}


# Colours


def schemes() -> dict[str, dict[str, str]]:
    """Return the colours of each scheme, by their names in the style sheet."""
    style = (PAGE / "admin.css").read_text(encoding="utf-8")
    found = re.findall(r"(:root[^{,]*)\{([^}]*)\}", style)
    return {
        f"{number} {selector.strip()}": dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", body))
        for number, (selector, body) in enumerate(found)
    }


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, as WCAG defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


TEXT = [
    *((ink, ground) for ink in ("ink", "faint", "link") for ground in ("paper", "card", "hover")),
    *((tone, f"{tone}-back") for tone in ("good", "warn", "bad", "held", "plain")),
    *(("ink", f"{tone}-back") for tone in ("held", "plain")),
    *((tone, "card") for tone in ("good", "bad", "danger")),
    *(("faint", f"{tone}-back") for tone in ("held",)),
    *(("link", f"{tone}-back") for tone in ("held",)),
    ("ink", "button"),
    ("danger", "button"),
    ("danger", "hover"),
    ("on-accent", "accent"),
]
"""Pairs of a text and its background."""

SIGNS = [
    *(("edge", ground) for ground in ("card", "paper")),
    *(("focus", ground) for ground in ("card", "paper")),
    *((line, "card") for line in ("chart", "chart-2")),
]
"""Pairs of a border, line or sign and its background."""


def test_both_schemes_have_the_contrast_of_wcag_aa() -> None:
    found = schemes()
    assert len(found) == 3  # light, dark as chosen, and dark as the system says
    *_, chosen, system = found.values()
    assert chosen == system
    for name, colours in found.items():
        for ink, ground in TEXT:
            assert contrast(colours[ink], colours[ground]) >= 4.5, (name, ink, ground)
        for sign, ground in SIGNS:
            assert contrast(colours[sign], colours[ground]) >= 3, (name, sign, ground)


def test_colours_are_written_in_variables_only_and_nothing_is_loaded_from_elsewhere() -> None:
    style = (PAGE / "admin.css").read_text(encoding="utf-8")
    rules = re.sub(r":root[^{]*\{[^}]*\}", "", style)
    assert not re.findall(r"#[0-9a-f]{3,8}\b", rules)
    assert "url(" not in style
    assert "@import" not in style
    script = (PAGE / "admin.js").read_text(encoding="utf-8")
    assert "http" not in script
    assert not re.search(r"\beval\b|\.style\.|innerHTML \+|document\.write", script)


def test_every_class_of_a_view_is_in_the_style_sheet() -> None:
    style = (PAGE / "admin.css").read_text(encoding="utf-8")
    known = set(re.findall(r"\.([a-z][\w-]*)", style))
    look = Look("en", "/admin", boards.NOW)
    for name, html in views(look, is_busy=True):
        for quoted, bare in re.findall(r'class=(?:"([^"]*)"|([\w-]+))', html):
            unknown = set((quoted or bare).split()) - known
            assert not unknown, (name, unknown)
