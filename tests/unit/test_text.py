"""The text of answers: every row of upstream-protocol.md 5.3, on the events alone."""

from __future__ import annotations

import pytest

from app.openai.text import AnswerText
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

OFF = Bot()
QUIET = Bot(enabled=True)
PLUGINS = Bot(enabled=True, plugin_output=True)
MARKDOWN = Bot(enabled=True, markdown_image=True)
PLAIN = Bot(enabled=True, plain_image_url=True)
BOTH = Bot(enabled=True, plain_image_url=True, markdown_image=True)
PLAIN_PLUGINS = Bot(enabled=True, plain_image_url=True, plugin_output=True)
BING = Bot(enabled=True, bing_reference=True)

FENCE = "\n```\n"
RESULT = "`Result:` \n```\n"
MARKDOWN_IMAGE = "![image](U)\n[下载链接](U)\n"
PLAIN_IMAGE = "图片链接：U\n"

DRAWN = Image("dalle", "U", prompt="a cat")
CHART = Image("python", "U")
BREAK = Break()


def render(bot: Bot, *events: Event) -> str:
    text = AnswerText(bot)
    return "".join(text.add(event) for event in [Started("m"), *events, Done("stop")])


def t(text: str) -> Delta:
    return Delta(text)


def c(text: str) -> Delta:
    return Delta(text, "code")


def o(text: str) -> Delta:
    return Delta(text, "output")


@pytest.mark.parametrize(
    ("events", "off", "quiet"),
    [
        ([t("a"), t("b")], "ab", "ab"),
        ([c("x"), t("b")], f"{FENCE}x{FENCE}b", "b"),
        ([t("a"), c("x"), c("y")], f"a{FENCE}xy{FENCE}", "a"),
        ([t("a"), c("x"), t("b")], f"a{FENCE}x{FENCE}b", "ab"),
        ([c("x"), o("1"), o("2"), t("b")], f"{FENCE}x{FENCE}{RESULT}12{FENCE}b", "b"),
        ([o("1"), t("b")], f"{RESULT}1{FENCE}b", "b"),
        ([c("x"), o("1"), c("y"), t("b")], f"{FENCE}x{FENCE}{RESULT}1{FENCE}{FENCE}y{FENCE}b", "b"),
        ([c("x"), BREAK, c("y"), t("b")], f"{FENCE}x{FENCE}{FENCE}y{FENCE}b", "b"),
        ([o("1"), BREAK, o("2"), t("b")], f"{RESULT}1{FENCE}{RESULT}2{FENCE}b", "b"),
        (
            [c("x"), o("\n"), Drawing(), t("b")],
            f"{FENCE}x{FENCE}{RESULT}\n图片生成中，请稍后\n{FENCE}b",
            "b",
        ),
        ([c("x"), Drawing()], f"{FENCE}x{FENCE}{RESULT}图片生成中，请稍后\n{FENCE}", ""),
        ([t("a"), Citation("6", "U"), t(".")], "a[[6](U)].", "a."),
        ([t("a"), Citation("6", None), t(".")], "a.", "a."),
        ([t("[x]"), File("U"), t(".")], "[x](U).", "[x](U)."),
        (
            [t("[x]"), File(None, error="ace_pod_expired"), t(".")],
            "[x]\n```\nError: 沙箱文件下载失败，这可能是因为您启用了隐私模式\n```.",
            "[x]\n```\nError: 沙箱文件下载失败，这可能是因为您启用了隐私模式\n```.",
        ),
    ],
)
def test_each_row_of_the_bot_mode_table_holds(events: list[Event], off: str, quiet: str) -> None:
    assert render(OFF, *events) == off
    assert render(PLUGINS, *events) == off.replace("[[6](U)]", "")
    assert render(QUIET, *events) == quiet
    assert render(BING, *events) == (off if "[[6]" in off else quiet)


@pytest.mark.parametrize(
    ("bot", "after_output", "after_code", "after_text"),
    [
        (OFF, FENCE + MARKDOWN_IMAGE, f"{FENCE}\n{MARKDOWN_IMAGE}", f"\n{MARKDOWN_IMAGE}"),
        (QUIET, "", "", ""),
        (MARKDOWN, MARKDOWN_IMAGE, f"\n{MARKDOWN_IMAGE}", f"\n{MARKDOWN_IMAGE}"),
        (PLAIN, PLAIN_IMAGE, PLAIN_IMAGE, f"\n{PLAIN_IMAGE}"),
        (BOTH, PLAIN_IMAGE, PLAIN_IMAGE, f"\n{PLAIN_IMAGE}"),
        (PLAIN_PLUGINS, FENCE + PLAIN_IMAGE, f"{FENCE}\n{PLAIN_IMAGE}", f"\n{PLAIN_IMAGE}"),
        (PLUGINS, FENCE, FENCE, ""),
    ],
)
def test_images_are_shown_according_to_the_mode(
    bot: Bot, after_output: str, after_code: str, after_text: str
) -> None:
    printed, run = ("" if not bot.plugin_output and bot.enabled else s for s in (RESULT, FENCE))
    one = "1" if printed else ""
    assert render(bot, o("1"), CHART, t("b")) == f"{printed}{one}{after_output}b"
    assert render(bot, c("1"), DRAWN, t("b")) == f"{run}{one}{after_code}b"
    assert render(bot, t("a"), DRAWN, t("b")) == f"a{after_text}b"


def test_every_one_of_several_images_is_shown() -> None:
    assert render(OFF, DRAWN, DRAWN) == f"\n{MARKDOWN_IMAGE}" * 2
    assert render(PLAIN, DRAWN, DRAWN, t("b")) == f"{PLAIN_IMAGE}\n{PLAIN_IMAGE}b"
    assert render(OFF, o("1"), CHART, CHART) == f"{RESULT}1{FENCE}{MARKDOWN_IMAGE * 2}"


def test_a_missing_image_is_reported_where_images_are_shown() -> None:
    gone = Image("dalle", None, error="file_not_found")
    for bot in (OFF, MARKDOWN, PLAIN):
        assert render(bot, gone) == "\n```\nError: 图片下载失败\n```\n"
    assert render(QUIET, gone) == ""


def test_a_refusal_to_draw_is_shown_only_if_the_model_does_not_mention_it() -> None:
    assert render(OFF, c("draw"), Refusal("Policy."), t("I cannot.")) == (
        f"{FENCE}draw{FENCE}I cannot."
    )
    assert render(OFF, c("draw"), Refusal("Policy.")) == f"{FENCE}draw{FENCE}Policy."
    assert render(QUIET, Refusal("Policy.")) == "Policy."


def test_the_request_of_an_action_is_shown_in_every_mode() -> None:
    asked = "该 GPT 请求调用 ex.org 的 get，需要您的确认，因此没有执行。"
    assert render(QUIET, c("{}"), Asked("ex.org", "get")) == asked
    assert render(OFF, c("{}"), Asked("ex.org", "get")) == f"{FENCE}{{}}{FENCE}{asked}"


def test_a_failure_adds_no_text() -> None:
    text = AnswerText(OFF)
    text.add(c("x"))
    assert text.add(Failed("upstream_error", "no")) == ""


@pytest.mark.parametrize("last", ["code", "output"])
def test_no_fence_is_left_open_at_the_end(last: Kind) -> None:
    assert render(OFF, Delta("x", last)).endswith(f"x{FENCE}")
    assert render(PLUGINS, Delta("x", last)).endswith(f"x{FENCE}")
