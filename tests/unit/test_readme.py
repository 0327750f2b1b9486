"""The two READMEs say the same, and what the code says."""

from __future__ import annotations

import json
import re

import msgspec
import pytest

import settings

ENGLISH, CHINESE = READMES = [
    (settings.HERE / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md")
]
BOTH = pytest.mark.parametrize("readme", READMES, ids=["English", "Chinese"])


def rows(readme: str, first: str) -> list[list[str]]:
    """The rows of the tables whose first cells match."""
    lines = re.findall(r"^\| (.*) \|$", readme, re.MULTILINE)
    cells = [line.split(" | ") for line in lines]
    return [row for row in cells if re.fullmatch(first, row[0])]


@BOTH
def test_every_setting_is_listed_with_its_default(readme: str) -> None:
    listed = [(row[0], row[1]) for row in rows(readme, r"`\w+\.\w+`")]
    sections = json.loads(msgspec.json.encode(settings.Schema()))
    defaults = [
        (f"`{section}.{key}`", f"`{json.dumps(default)}`")
        for section, table in sections.items()
        for key, default in table.items()
    ]
    assert listed == defaults


def test_both_list_the_same_errors() -> None:
    english, chinese = (
        [
            (re.findall(r"\d+", row[0]), re.findall(r"`\w+`", row[1]))
            for row in rows(text, r"\d{3}.*")
        ]
        for text in READMES
    )
    assert len(english) > 20
    assert english == chinese


def test_both_have_the_same_commands_and_the_same_chapters() -> None:
    def commands(readme: str) -> list[str]:
        blocks = re.findall(r"^ *```(?:sh|toml)\n(.*?)```", readme, re.MULTILINE | re.DOTALL)
        return [re.sub(r"(?m) *#.*$|<[^>]*>", "", block) for block in blocks]

    assert len(commands(ENGLISH)) > 8
    assert commands(ENGLISH) == commands(CHINESE)
    chapters = [re.findall(r"^(##+) ", readme, re.MULTILINE) for readme in READMES]
    assert chapters[0] == chapters[1]


def test_both_name_the_same_settings_and_files_in_each_chapter() -> None:
    """A fact that only one of them tells mostly names something."""
    english, chinese = (
        [set(re.findall(r"`([\w./-]+[._/][\w./-]*)`", part)) for part in re.split(r"\n##+ ", text)]
        for text in READMES
    )
    assert english == chinese


@BOTH
def test_links_lead_somewhere(readme: str) -> None:
    headings = {
        re.sub(r"[^\w-]", "", title.lower().replace(" ", "-"))
        for title in re.findall(r"^##+ (.*)$", readme, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]*)\)", readme):
        if target.startswith("#"):
            assert target[1:] in headings
        elif not target.startswith("https://"):
            assert (settings.HERE / target).exists(), target
