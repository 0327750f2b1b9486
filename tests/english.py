"""`make english`: hold the project's texts to plain English.

Fails if more than 1 % of the docstrings begin with an interrogative, or if a banned idiom occurs in
code or documents. A line that has to contain one ends with `english: ok`.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

LIMIT = 0.01
QUESTION = "(What|Who|Whom|Whose|Whether|Where|How)"
BANNED = (
    *("whoever", "whomever", "so many(?! that)", "beside", "in vain", "amiss", "foretold"),
    *("(is|are|was|were) away", "be had", "(came|comes|come) of", "(becomes?|became) of"),
    *("let(s|ting)? go of", "for leave", "(?<!for )a moment", "one (that|who) (is|has|was)"),
    *("stands (in|at|on|here|there|before|where)", "believes?", "owe[sd]?", "(goes|go) home"),
    *("(comes?|came) back", "hears? (of|from|that)", "(is|are|was|were|be) told", "has it not"),
)
_BEGINNING = re.compile(rf"((On|From|Of|By|To) )?{QUESTION}\b", re.IGNORECASE)
_IDIOM = re.compile(rf"\b({'|'.join(BANNED)})\b|^\s*(#|--) {QUESTION}\b", re.IGNORECASE)
_FILES = ("*.py", "*.lua", "*.md", "*.toml", "*.yaml", "*.service", "Makefile", "*Dockerfile")


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and text of every docstring, including those of attributes."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text)), lineno=line):
                yield line, text.strip()


def idioms(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and text of every banned idiom."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if (found := _IDIOM.search(line)) and "english: ok" not in line:
            yield number, found[0].strip()


def main() -> None:
    """Print every finding with its file and line, and the counts. The status is 1 if it fails."""
    listed = subprocess.run(["git", "ls-files", *_FILES], capture_output=True, text=True)
    paths = [Path(name) for name in listed.stdout.split() if not name.endswith(".zh-CN.md")]
    paths.remove(Path("tests/english.py"))
    texts = [(path, *found) for path in paths if path.suffix == ".py" for found in docstrings(path)]
    questions = [found for found in texts if _BEGINNING.match(found[2])]
    banned = [(path, *found) for path in paths for found in idioms(path)]
    for path, line, text in (*questions, *banned):
        print(f"{path}:{line}: {text.splitlines()[0][:80]}")
    print(
        f"{len(questions)} of {len(texts)} docstrings begin with an interrogative,"
        f" {len(banned)} banned idioms"
    )
    sys.exit(bool(banned) or len(questions) > LIMIT * len(texts))


if __name__ == "__main__":
    main()
