"""The text of an answer, exactly as the bots parse it that were written for the predecessor. Pure.

Code and what running it printed stand in fences. The fence is part of going from one kind of text
to another, so the only state is what is open:

    from         to prose   to code           to output             to the end
    prose                   open              `Result:` open
    code         close      close open (1)    close `Result:` open  close
    output       close      close open        the same (1)          close

    (1) after a `Break`; without one it is the same piece of work and goes on

What a bot is not shown opens nothing and so closes nothing.
"""

from __future__ import annotations

from settings import Bot
from wire.events import (
    Asked,
    Break,
    Citation,
    Delta,
    Done,
    Drawing,
    Event,
    Failed,
    File,
    Image,
    Kind,
    Refusal,
    Started,
)

_OPEN = "\n```\n"
_CLOSE = "\n```\n"
_RESULT = "`Result:` \n```\n"
_DRAWING = "图片生成中，请稍后\n"
_NO_IMAGE = "\n```\nError: 图片下载失败\n```\n"
_NO_FILE = "\n```\nError: 沙箱文件下载失败，这可能是因为您启用了隐私模式\n```"


class Text:
    """The text of one answer, piece by piece; the pieces joined are the whole."""

    def __init__(self, bot: Bot) -> None:
        self._plain = bot.enabled and bot.plain_image_url
        self._images = not bot.enabled or bot.markdown_image or self._plain
        self._references = not bot.enabled or bot.bing_reference
        self._plugins = not bot.enabled or bot.plugin_output
        self._open: Kind = "text"
        self._anything = False
        self._refusal = ""

    def add(self, event: Event) -> str:
        """What an event adds to the text, "" if nothing."""
        if isinstance(event, Delta) and event.kind == "text":
            self._refusal = ""  # the model says it in its own words
            self._anything = True
            return event.text if self._open == "text" else self._go("text") + event.text
        piece = self._render(event)
        self._anything = self._anything or piece != ""
        return piece

    def _render(self, event: Event) -> str:
        match event:
            case Delta(text, kind):
                return self._go(kind) + text if self._plugins else ""
            case Drawing():
                return self._go("output") + _DRAWING if self._plugins else ""
            case Break():
                return self._go("text")
            case Citation(number, url):
                shown = self._references and url is not None
                return self._go("text") + (f"[[{number}]({url})]" if shown else "")
            case Image():
                closed = self._go("text")
                return closed + self._image(event, before=self._anything or closed != "")
            case File(url):
                return self._go("text") + (_NO_FILE if url is None else f"({url})")
            case Refusal(message):
                self._refusal = message
                return ""
            case Asked(domain, operation):
                asked = f"该 GPT 请求调用 {domain} 的 {operation}，需要您的确认，因此没有执行。"
                return self._go("text") + asked
            case Done():
                return self._go("text") + self._refusal
            case Started() | Failed():
                return ""

    def _go(self, kind: Kind) -> str:
        """The fences on the way to a kind of text."""
        if kind == self._open:
            return ""
        closed = "" if self._open == "text" else _CLOSE
        self._open = kind
        match kind:
            case "text":
                return closed
            case "code":
                return closed + _OPEN
            case "output":
                return closed + _RESULT

    def _image(self, image: Image, *, before: bool) -> str:
        drawn = image.tool == "dalle"
        if not self._images:
            return ""
        if image.url is None:
            return _NO_IMAGE
        if self._plain:
            return ("\n" if drawn and before else "") + f"图片链接：{image.url}\n"
        return ("\n" if drawn else "") + f"![image]({image.url})\n[下载链接]({image.url})\n"
