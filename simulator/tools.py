"""Translation of a script's keys into the steps of its turn. Pure."""

from __future__ import annotations

import json

from simulator.citations import page
from simulator.script import Script
from simulator.steps import (
    Ask,
    Cite,
    Code,
    Display,
    Output,
    Pictures,
    Quote,
    Step,
    Text,
    ToolText,
)

ACTION = Ask().tool
_FIRST_CITATION = 6
_SHOWN = (
    "DALL\u00b7E displayed {} images. The images are already plainly visible, so don't repeat the"
    " descriptions in detail. Do not list download links as they are available in the ChatGPT UI"
    " already. The user may download the images by clicking on them, but do not mention anything"
    " about downloading to the user."
)
_POLICY = (
    "This request did not follow our content policy. Tell the user that the image could not be"
    " created because of it, and offer to change the request."
)


DENIED = (Text("The action was denied, so nothing was done."),)
"""Steps after an action that was denied."""


def steps(script: Script, document: str = "file-0", confirmed: int = 0) -> tuple[Step, ...]:
    """Return the steps of a turn, up to its end or to an action that asks for permission.

    `document` is the id of the prompt's attached file, `confirmed` the number of permissions so
    far. A script with `confirm=0` does not ask.
    """
    opening = (Text("Let me see."),) if script.opening else ()
    whole = script.steps or (*opening, *_work(script, document), *_talk(script))
    asks = [n for n, step in enumerate(whole, 1) if isinstance(step, Ask)]
    if confirmed:
        whole = whole[asks[confirmed - 1] :]
    if not script.confirm:
        return tuple(step for step in whole if not isinstance(step, Ask)) or (Text(),)
    end = next((n for n, step in enumerate(whole, 1) if isinstance(step, Ask)), len(whole))
    return whole[:end] or (Text(),)


def _work(script: Script, document: str) -> tuple[Step, ...]:
    match script.tool:
        case None:
            return ()
        case "python":
            return _python(script)
        case "browser":
            return _browser(script)
        case "dalle":
            return _dalle(script)
        case "files":
            return _files(script, document)
        case "action":
            return _actions(script)


def _python(script: Script) -> tuple[Step, ...]:
    made: list[Step] = []
    for images in _shares(script.images or 0, script.calls):
        code = script.code or ("plt.show()\n" * images).rstrip() or "print(1 + 1)"
        shown = "" if images else "2"
        output = shown if script.output is None else script.output
        made.append(Code(text=code))
        made.append(Output(output, images, code, script.crash, pause=script.work))
    return tuple(made)


def _browser(script: Script) -> tuple[Step, ...]:
    pages = max(script.citations, 1)
    found = "\n".join(f"# [{n}] Page {n} https://example.org/{n}" for n in range(pages))
    clicked = list(range(pages))
    return (
        Code(text='search("the simulator")', to="browser"),
        Display("search", ("the simulator",), found, pause=script.work),
        Code(text=f"mclick({clicked})", to="browser"),
        *(Quote(page(n + _FIRST_CITATION), f"Page {n}") for n in clicked),
    )


def _dalle(script: Script) -> tuple[Step, ...]:
    made: list[Step] = []
    images = script.calls if script.images is None else script.images
    for count in _shares(images, script.calls):
        request = json.dumps({"size": "1024x1024", "prompt": "A cat"})
        made.append(Code(script.code or request, "dalle.text2im", "json", script.shape))
        if script.policy:
            made.append(ToolText(_POLICY, pause=script.work))
        else:
            made.append(Pictures(count, pause=script.work))
            made.append(ToolText(_SHOWN.format(count)))
    return tuple(made)


def _files(script: Script, document: str) -> tuple[Step, ...]:
    tool = "myfiles_browser"
    return (
        Code(text=f'open_url("{document}")', to=tool),
        Quote(document, "a.pdf", tool=tool, pause=script.work),
        Code(text='msearch(["what", "where"])', to=tool),
        Display("msearch", ("what", "where"), "# [0] a.pdf", tool),
    )


def _actions(script: Script) -> tuple[Step, ...]:
    output = '{"ok": true}' if script.output is None else script.output
    made: list[Step] = []
    for n in range(script.calls):
        call = script.code or json.dumps({"id": n + 1})
        made.append(Code(text=call, to=ACTION))
        made.append(Ask(consequential=script.consequential))
        made.append(ToolText(output, ACTION, plugin=True, pause=script.work))
    return tuple(made)


def _talk(script: Script) -> tuple[Step, ...]:
    """Return the texts that end a turn; the last has the markers and links."""
    pieces = tuple(script.pieces())
    extra = "".join(f" Fact {n}{marker}." for n, marker in enumerate(_markers(script), 1))
    for path in script.link.split(",") if script.link else ():
        extra += f" [{path.rpartition('/')[2]}](sandbox:{path})"
    cite: Cite = script.cite if script.tool in ("browser", "files") or script.citations else "never"
    last = Text(
        pieces=(*pieces, *script.cut(extra)),
        cite=cite,
        source="file" if script.tool == "files" else "webpage",
    )
    before = Text(pieces=pieces, end_turn=True if script.early else None)
    return (*[before] * (script.messages - 1), last)


def _markers(script: Script) -> list[str]:
    infix = ":0" if script.tool == "files" else ""
    numbers = range(_FIRST_CITATION, _FIRST_CITATION + script.citations)
    return [f"【{n}{infix}†{script.marker}】" for n in numbers]


def _shares(images: int, calls: int) -> list[int]:
    """Spread images over calls; the first ones get the remainder."""
    return [images // calls + (n < images % calls) for n in range(calls)]
