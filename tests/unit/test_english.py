"""`make english` finds what it is meant to find."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.english import docstrings, idioms


@pytest.mark.parametrize(
    "line",
    [
        "# Whoever asks first is served first.",  # english: ok
        "-- Whether the job is in line",  # english: ok
        "Redis is away",  # english: ok
        "for so many seconds",  # english: ok
        "beside its caller",  # english: ok
    ],
)
def test_a_banned_idiom_is_found_with_its_line(tmp_path: Path, line: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"Plain.\n{line}\n")
    assert [number for number, _ in idioms(page)] == [2]
    page.write_text(f"Plain.\n{line}  # english: ok\n")
    assert not list(idioms(page))


@pytest.mark.parametrize("line", ["besides this", "wait for a moment", "so many that", "alongside"])
def test_plain_words_that_look_alike_are_not_found(tmp_path: Path, line: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(line)
    assert not list(idioms(page))


def test_docstrings_of_attributes_are_found_too(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text('"""First."""\nLIMIT = 1\n"""Second."""\n\ndef f():\n    """Third."""\n')
    assert sorted(docstrings(module)) == [(1, "First."), (3, "Second."), (6, "Third.")]
