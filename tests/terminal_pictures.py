"""`python -m tests.terminal_pictures`: pictures of the commands, for the documents.

They are SVG, and load nothing from elsewhere.
"""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator
from typing import cast

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

from app.admin.actions import Actions
from app.admin.operator import Operator
from app.commands.asking import Place
from app.commands.chat import waiting_text
from app.commands.observer import Observation
from app.commands.screen import TopScreen
from app.commands.status import line, status_of
from settings import HERE
from tests.support.observed import BUSY

IMAGES = HERE / "docs" / "images"
SIZE = (100, 30)
WIDTH = 100

_ANSWER = "Sunlight is scattered by the air, and blue light is scattered more than red light ..."


async def _changes() -> AsyncIterator[Observation]:
    yield BUSY
    await asyncio.Event().wait()


async def top(theme: str) -> str:
    """Picture of the screen with a busy gateway."""
    screen = TopScreen(_changes, cast(Actions, None), Operator(name="ana", via="terminal"))
    screen.theme = theme
    async with screen.run_test(size=SIZE) as pilot:
        await pilot.press("down")
        return screen.export_screenshot(title="python -m app top")


def commands() -> str:
    """Picture of `status`, and of `chat` while it waits and when it is answered."""
    console = Console(width=WIDTH, record=True, file=io.StringIO())
    waiting = waiting_text(Place(2, 14), 3, 6)
    for text, style in (
        ("$ python -m app status", "bold"),
        (line(status_of(BUSY)), ""),
        ("$ echo $?", "bold"),
        ("1\n", ""),
        ('$ python -m app chat "Why is the sky blue?"', "bold"),
        (waiting, "dim"),
        (_ANSWER, ""),
    ):
        console.print(Text(text, style))
    return console.export_svg(title="pandora-line", theme=DIMMED_MONOKAI)


def self_contained(picture: str) -> str:
    """Return a picture without its fonts, which a browser would load, in any fixed-width font."""
    picture = re.sub(r"@font-face \{.*?\}\n?", "", picture, flags=re.DOTALL)
    picture = re.sub(r"<!--.*?-->\n?", "", picture, flags=re.DOTALL)
    picture = re.sub(r"font-family: Fira Code[^;]*", "font-family: monospace", picture)
    return re.sub(r"[ \t]+$", "", picture, flags=re.MULTILINE)


def main() -> None:
    """Write the pictures."""
    pictures = {
        "terminal-top-dark": asyncio.run(top("textual-dark")),
        "terminal-top-light": asyncio.run(top("textual-light")),
        "terminal-commands": commands(),
    }
    for name, picture in pictures.items():
        (IMAGES / f"{name}.svg").write_text(self_contained(picture), encoding="utf-8")
        print(f"docs/images/{name}.svg", len(picture))


if __name__ == "__main__":
    main()
