"""Text of an answer, in exactly the form that bots written for the predecessor parse. Pure.

Code and its output are in fences. A fence is part of the change from one kind of text to another,
so the only state is the kind that is open:

    from         to prose   to code           to output             to the end
    prose                   open              `Result:` open
    code         close      close open (1)    close `Result:` open  close
    output       close      close open        the same (1)          close

    (1) after a `Break`; without one it is the same piece of work and continues

Text that a bot is not shown opens no fence and so closes none.
"""

from __future__ import annotations

from settings import Bot
from wire.events import (
    Asked,
    Break,
    Citation,
    Complete,
    Delta,
    Done,
    Drawing,
    Event,
    Failed,
    File,
    FormatMissed,
    Image,
    Kind,
    Piece,
    Refusal,
    Started,
)

_FENCE_OPEN = "\n```\n"
_FENCE_CLOSE = "\n```\n"
_RESULT_OPEN = "`Result:` \n```\n"
_DRAWING = "图片生成中，请稍后\n"
_NO_IMAGE = "\n```\nError: 图片下载失败\n```\n"
_NO_FILE = "\n```\nError: 沙箱文件下载失败，这可能是因为您启用了隐私模式\n```"


class AnswerText:
    """Renders the text of one answer, piece by piece; the pieces joined are the whole text."""

    def __init__(self, bot: Bot) -> None:
        self._plain = bot.enabled and bot.plain_image_url
        self._images = not bot.enabled or bot.markdown_image or self._plain
        self._references = not bot.enabled or bot.bing_reference
        self._plugins = not bot.enabled or bot.plugin_output
        self._kind: Kind = "text"
        self._has_text = False
        self._refusal = ""

    def add(self, event: Event) -> str:
        """Return the text that an event adds, "" if none."""
        if isinstance(event, Delta) and event.kind == "text":
            self._refusal = ""  # the model has put it in its own words
            self._has_text = True
            return event.text if self._kind == "text" else self._switch_to("text") + event.text
        piece = self._render(event)
        self._has_text = self._has_text or piece != ""
        return piece

    def _render(self, event: Event) -> str:
        match event:
            case Delta(text, kind):
                return self._switch_to(kind) + text if self._plugins else ""
            case Drawing():
                return self._switch_to("output") + _DRAWING if self._plugins else ""
            case Break():
                return self._switch_to("text")
            case Citation(number, url):
                shown = self._references and url is not None
                return self._switch_to("text") + (f"[[{number}]({url})]" if shown else "")
            case Image():
                closing = self._switch_to("text")
                return closing + self._image(event, has_text=self._has_text or closing != "")
            case File(url):
                return self._switch_to("text") + (_NO_FILE if url is None else f"({url})")
            case Refusal(message):
                self._refusal = message
                return ""
            case Asked(domain, operation):
                notice = f"该 GPT 请求调用 {domain} 的 {operation}，需要您的确认，因此没有执行。"
                return self._switch_to("text") + notice
            case Done():
                return self._switch_to("text") + self._refusal
            case Started() | FormatMissed() | Failed() | Piece() | Complete():
                return ""

    def _switch_to(self, kind: Kind) -> str:
        """Return the fences between the open kind of text and the next one."""
        if kind == self._kind:
            return ""
        closing = "" if self._kind == "text" else _FENCE_CLOSE
        self._kind = kind
        match kind:
            case "text":
                return closing
            case "code":
                return closing + _FENCE_OPEN
            case "output":
                return closing + _RESULT_OPEN

    def _image(self, image: Image, *, has_text: bool) -> str:
        drawn = image.tool == "dalle"
        if not self._images:
            return ""
        if image.url is None:
            return _NO_IMAGE
        if self._plain:
            return ("\n" if drawn and has_text else "") + f"图片链接：{image.url}\n"
        return ("\n" if drawn else "") + f"![image]({image.url})\n[下载链接]({image.url})\n"
