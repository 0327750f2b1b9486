"""The two READMEs say the same, and what the code says."""

from __future__ import annotations

import json
import re

import msgspec
import pytest

import settings
from app import errors

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


def test_both_list_the_same_errors_and_those_that_there_are() -> None:
    english, chinese = (
        [
            (re.findall(r"\d+", row[0]), re.findall(r"`(\w+)`", row[1]))
            for row in rows(text, r"\d{3}.*")
        ]
        for text in READMES
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
    return own + [deeper for each in own for deeper in kinds(each)]


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
