"""The manual says the same in both languages, and what the code says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import settings
from app.admin import errors as admin_errors
from app.openai import errors
from tests.support.defaults import defaults

TWICE = (
    "README",
    "docs/clients",
    "docs/settings",
    "docs/operating",
    "docs/alerts",
    "docs/upstreams",
    "docs/keys",
    "docs/security",
    "docs/admin",
    "docs/terminal",
)
"""The pages that are in both languages."""
PAGES = sorted([*settings.HERE.glob("*.md"), *(settings.HERE / "docs").glob("*.md")])


def both(name: str) -> list[str]:
    """A page in English and in Chinese."""
    return [
        (settings.HERE / f"{name}{language}").read_text(encoding="utf-8")
        for language in (".md", ".zh-CN.md")
    ]


PAIRS = pytest.mark.parametrize(("english", "chinese"), [both(name) for name in TWICE], ids=TWICE)
SETTING = r"`\w+\.\w+`"


def rows(page: str, first: str) -> list[list[str]]:
    """The rows of the tables whose first cells match."""
    lines = re.findall(r"^\| (.*) \|$", page, re.MULTILINE)
    cells = [line.split(" | ") for line in lines]
    return [row for row in cells if re.fullmatch(first, row[0])]


@pytest.mark.parametrize("page", both("docs/settings"), ids=["English", "Chinese"])
def test_every_setting_is_listed_with_its_default(page: str) -> None:
    listed = [(row[0], row[1]) for row in rows(page, SETTING)]
    expected = [
        (f"`{section}.{key}`", f"`{json.dumps(default)}`")
        for section, table in defaults().items()
        for key, default in table.items()
    ]
    assert listed == expected


def test_the_settings_that_matter_have_the_defaults_of_all_settings() -> None:
    english, chinese = ([row[:2] for row in rows(page, SETTING)] for page in both("README"))
    assert len(english) >= 5
    assert english == chinese
    every = [row[:2] for row in rows(both("docs/settings")[0], SETTING)]
    assert all(row in every for row in english)


def test_both_list_all_errors_and_no_others() -> None:
    english, chinese = (
        [
            (re.findall(r"\d+", row[0]), re.findall(r"`(\w+)`", row[1]))
            for row in rows(text, r"\d{3}.*")
        ]
        for text in both("docs/clients")
    )
    assert english == chinese
    listed = {
        (int(status), code) for statuses, codes in english for status in statuses for code in codes
    }
    assert {(error.status, error.code) for error in kinds(errors.ApiError) if error.code} <= listed
    assert {(status, code) for status, _, code in errors._OF_FAULT.values()} <= listed


def kinds(kind: type[errors.ApiError]) -> list[type[errors.ApiError]]:
    """All kinds of an error that clients can meet; those of a job are those of its fault."""
    own = [each for each in kind.__subclasses__() if each is not errors.JobFailed]
    every = own + [deeper for each in own for deeper in kinds(each)]
    return [each for each in every if not each.__module__.startswith("app.admin.")]


def test_both_list_the_errors_of_operators() -> None:
    named = [name for name in vars(admin_errors).values() if isinstance(name, type)]
    ours = [each for each in named if each.__module__ == admin_errors.__name__]
    codes = {(each.status, each.code) for each in ours if issubclass(each, errors.ApiError)}
    assert len(codes) > 3
    for text in both("docs/admin"):
        listed = {
            (int(row[0]), code)
            for row in rows(text, r"\d{3}.*")
            for code in re.findall(r"`(\w+)`", row[1])
        }
        assert codes <= listed


@PAIRS
def test_both_have_the_same_commands_and_the_same_chapters(english: str, chinese: str) -> None:
    def commands(page: str) -> list[str]:
        blocks = re.findall(
            r"^ *```(?:sh|toml|yaml|promql)\n(.*?)```", page, re.DOTALL | re.MULTILINE
        )
        return [re.sub(r"(?m) *#.*$|<[^>]*>", "", block) for block in blocks]

    assert commands(english)
    assert commands(english) == commands(chinese)
    chapters = [re.findall(r"^(##+) ", page, re.MULTILINE) for page in (english, chinese)]
    assert chapters[0] == chapters[1]


@PAIRS
def test_both_name_the_same_settings_and_files_in_each_chapter(english: str, chinese: str) -> None:
    """A fact that is on only one of them mostly names something."""
    named = [
        [set(re.findall(r"`([\w./-]+[._/][\w./-]*)`", part)) for part in re.split(r"\n##+ ", page)]
        for page in (english, chinese)
    ]
    assert named[0] == named[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    def anchors(path: Path) -> set[str]:
        titles = re.findall(r"^##+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        return {re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title in titles}

    for target in re.findall(r"\]\(([^)]*)\)", page.read_text(encoding="utf-8")):
        file, _, anchor = target.partition("#")
        if target.startswith("https://"):
            continue
        there = page.parent / file if file else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target
