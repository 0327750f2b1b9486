"""Whole turns, from the upstream's bytes to the text of a client: upstream-protocol.md 5.3 and 5.5.

"The predecessor" is PandoraToV1Api 0.7.7; the numbers are those of its faults.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settings import Bot
from simulator.deltas import V1, Encoding, Whole
from tests.support.turns import (
    DONE,
    Line,
    Record,
    answer,
    browsed,
    cited,
    code,
    drawn,
    message,
    output,
    shown,
    steps,
    system_error,
    text,
    tool,
    translate,
    wire,
)
from wire.events import Delta, Failed, Refusal
from workers.pandora.translate.placeholders import (
    FilePlaceholder,
    ImagePlaceholder,
    Permission,
    PermissionRequest,
)

QUIET = Bot(enabled=True)
PLAIN = Bot(enabled=True, plain_image_url=True)
MARKDOWN = Bot(enabled=True, markdown_image=True)

SIX = cited(6, "https://ex.org/a")
DISPLAYED = "\n<<ImageDisplayed>>"


def image(name: str) -> str:
    return f"![image](https://img/{name})\n[下载链接](https://img/{name})\n"


# ----- the examples of 5.3


INTERPRETER = [
    *steps(text("Let me compute.", "a"), "", "Let me ", "compute."),
    *steps(code("print(1+1)"), "", "print(", "1+1)"),
    output("", status="in_progress"),
    output("2"),
    *steps(text("It is 2.", "b"), "It i", "s 2."),
]
CHART = [
    *steps(code("plt.show()"), "plt", ".show()"),
    output("", status="in_progress"),
    output(DISPLAYED, "U"),
    text("Here is the chart."),
]
DRAWING = [
    *steps(code('{"size":"1024x1024","prompt":"a cat"}', recipient="dalle.text2im"), '{"size"'),
    drawn("U"),
    tool("dalle.text2im", "DALL·E displayed 1 images. The images are already plainly visible."),
    *steps(text("Here is the cat."), "Here", " is the cat."),
]
BROWSING = [
    *steps(code('search("x")', "s1", "browser"), "sea"),
    browsed("b1"),
    *steps(code("mclick([0])", "s2", "browser"), ""),
    browsed("b2"),
    text("Fact【6†source】.", citations=[SIX]),
]
DOCUMENT = [
    code('open_url("file-1")', recipient="myfiles_browser"),
    browsed(),
    text("This PDF is."),
]


@pytest.mark.parametrize(
    ("turn", "off", "quiet"),
    [
        (
            INTERPRETER,
            "Let me compute.\n```\nprint(1+1)\n```\n`Result:` \n```\n2\n```\nIt is 2.",
            "Let me compute.It is 2.",
        ),
        (
            CHART,
            "\n```\nplt.show()\n```\n`Result:` \n```\n\n图片生成中，请稍后\n\n```\n"
            + image("U")
            + "Here is the chart.",
            "Here is the chart.",
        ),
        (
            DRAWING,
            '\n```\n{"size":"1024x1024","prompt":"a cat"}\n```\n\n'
            + image("U")
            + "Here is the cat.",
            "Here is the cat.",
        ),
        (
            BROWSING,
            '\n```\nsearch("x")\n```\n\n```\nmclick([0])\n```\nFact[[6](https://ex.org/a)].',
            "Fact.",
        ),
        (DOCUMENT, '\n```\nopen_url("file-1")\n```\nThis PDF is.', "This PDF is."),
    ],
)
def test_the_measured_answers_are_translated(turn: list[Record], off: str, quiet: str) -> None:
    assert answer(*turn) == off
    assert answer(*turn, bot=QUIET) == quiet
    assert answer(*turn, bot=Bot(enabled=True, plugin_output=True)).startswith(off[:12])


def test_the_measured_drawing_is_translated_in_bot_mode() -> None:
    assert answer(*DRAWING, bot=PLAIN) == "图片链接：https://img/U\nHere is the cat."
    assert answer(*DRAWING, bot=MARKDOWN) == f"\n{image('U')}Here is the cat."


# ----- text that was lost or garbled


def test_a_second_message_keeps_its_first_characters() -> None:
    """Fault 1: "Second answer." after "Hello, world!" came out as "nd answer."."""
    turn = [*steps(text("Hello, world!", "a"), "Hello"), *steps(text("Second answer.", "b"), "Se")]
    assert answer(*turn) == "Hello, world!Second answer."


def test_text_that_only_the_finished_event_has_is_not_lost() -> None:
    """Fault 2: an answer in one event was lost, above all directly after code or output."""
    assert answer(text("All of it.")) == "All of it."
    turn = [code("x"), output("1"), text("One.", status="in_progress"), text("One. Two.")]
    assert answer(*turn).endswith("1\n```\nOne. Two.")


def test_text_that_looks_like_sse_stays_text() -> None:
    """Fault 3: "send data: x" became "send x"."""
    assert answer(text("send data: x\n\ndata: [DONE]\n")) == "send data: x\n\ndata: [DONE]\n"


@pytest.mark.parametrize("end", ["(", "(sand", "(sandbox:/mnt/data/out.csv", "【", "【6†sou"])
def test_a_marker_that_never_ends_stays_text(end: str) -> None:
    """Faults 4 and 5: the rest of the text was gone, and `【` at the end ended the answer twice."""
    whole = f"See this {end}"
    assert answer(*steps(text(whole), *whole)) == whole
    assert answer(*steps(text(whole), *whole)[:-1]) == whole
    followed = answer(*steps(text(whole, "a"), whole)[:-1], code("x"), text("b"))
    assert followed == f"{whole}\n```\nx\n```\nb"
    failed = translate(wire([*steps(text(whole), *whole), {"error": "no"}]))
    assert "".join(e.text for e in failed if isinstance(e, Delta)) == whole
    assert isinstance(failed[-1], Failed)


def test_a_link_with_its_end_and_more_in_one_event_is_resolved() -> None:
    """Fault 4: everything from the link on was lost."""
    whole = "You can [download](sandbox:/mnt/data/out.csv). Bye (now)"
    for pieces in ([whole], [whole[:18], whole[18:43], whole[43:]], whole):
        assert answer(*steps(text(whole), *pieces)) == (
            "You can [download](https://files/mnt/data/out.csv). Bye (now)"
        )


def test_a_link_to_a_file_that_is_gone_says_so_in_its_place() -> None:
    assert answer(text("[a](sandbox:/mnt/data/gone.csv).")) == (
        "[a]\n```\nError: 沙箱文件下载失败，这可能是因为您启用了隐私模式\n```."
    )


def test_the_path_in_a_link_is_decoded_and_may_hold_pairs_of_parentheses() -> None:
    said = translate(wire([text("[a](sandbox:/mnt/data/my%20file%20(1).csv)", "m"), DONE]))
    assert FilePlaceholder("m", "/mnt/data/my file (1).csv") in said


@pytest.mark.parametrize(
    ("whole", "expected"),
    [
        ("x【6†source】.", "x[[6](https://ex.org/a)]."),
        ("x【6†来源】", "x[[6](https://ex.org/a)]"),
        ("【6†source】【6†source】", "[[6](https://ex.org/a)]" * 2),
        ("【6:0†source】", "[[6](https://ex.org/a)]"),
        ("(【6†source】)【", "([[6](https://ex.org/a)])【"),
        ("【【6†source】】", "【[[6](https://ex.org/a)]】"),
        ("【7†source】.", "."),
        ("【x†source】", "【x†source】"),
        ("【重要】", "【重要】"),
        ("【6†a\nb】", "【6†a\nb】"),
    ],
)
def test_citations_are_resolved_however_they_are_cut(whole: str, expected: str) -> None:
    """Fault 5: glued, adjacent and `6:0` markers stayed raw."""
    for at in range(len(whole) + 1):
        turn = steps(text(whole, citations=[SIX]), whole[:at], whole[at:])
        assert answer(*turn) == expected
        assert "https" not in answer(*turn, bot=QUIET)
    assert answer(*steps(text(whole, citations=[SIX]), *whole)) == expected


def test_a_citation_whose_source_is_named_later_waits_for_it() -> None:
    """Fault 5: it was deleted for good."""
    late = text("A【6†source】 b【7†source】.", citations=[SIX])
    bare = [text(t, status="in_progress") for t in ("A【6†source】", "A【6†source】 b【7†sou")]
    said = translate(wire([*bare, DONE]))
    assert shown(said) == "A b【7†sou"
    assert answer(*bare, late) == "A[[6](https://ex.org/a)] b."


def test_a_citation_does_not_wait_forever() -> None:
    """The text goes on after some while: a source that is never named must not stop the stream."""
    whole = "A【6†source】" + "x" * 600
    said = translate(wire([text(whole, status="in_progress"), text(whole + "!")]))
    assert shown(said) == "A" + "x" * 600 + "!"
    running = translate(wire([text(whole, status="in_progress")]))
    assert len(running) > 3


ODD = [
    {"start_ix": 1, "end_ix": 11, "metadata": {"url": "https://ex.org/a", "extra": None}},
    {"start_ix": 1, "end_ix": 11, "invalid_reason": "no"},
    {"start_ix": None, "metadata": {"url": 7, "extra": {"cited_message_idx": "six"}}},
    None,
    7,
]


def test_unusual_sources_of_citations_are_ignored() -> None:
    """Fault 5: `extra: null` cut the answer off."""
    assert answer(text("A【6†source】 b.", citations=ODD[:1])) == "A[[6](https://ex.org/a)] b."
    assert answer(text("A【6†source】 b.", citations=ODD[1:])) == "A b."
    oddities: list[object] = ["text", {"a": 1}, None, [[]]]
    for odd in oddities:
        turn = text("A【6†source】 b.", citations=odd, content_references=odd)
        assert answer(turn) == "A b."


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("javascript:alert(1)", None),
        ("data:text/html,<script>alert(1)</script>", None),
        ("vbscript:x", None),
        ("//ex.org/a", None),
        ("http://", None),
        ("https://ex.org/a b", None),
        ("https://ex.org/a\n", None),
        ("https://ex.org\\@evil.example", None),
        ("https://ex.org/" + "a" * 10_000, None),
        ("HTTPS://ex.org/a_(b)", "HTTPS://ex.org/a_(b)"),
        ("https://ex.org/)[x](y", "https://ex.org/%29[x]%28y"),
        ("https://ex.org/(a", "https://ex.org/%28a"),
    ],
)
def test_only_a_web_url_becomes_a_link_and_does_not_leave_its_parentheses(
    url: str, target: str | None
) -> None:
    link = f"[[6]({target})]" if target else ""
    assert answer(text("A【6†source】.", citations=[cited(6, url)])) == f"A{link}."
    mark = "\ue200cite\ue202turn0search1\ue201"
    references = [{"matched_text": mark, "items": [{"url": url}], "safe_urls": [url]}]
    link = f"[[1]({target})]" if target else ""
    assert answer(text(f"A{mark}.", content_references=references)) == f"A{link}."


def test_of_several_sources_the_one_at_the_position_is_cited() -> None:
    both = [cited(6, "https://a", start=1), cited(6, "https://b", start=12)]
    assert answer(text("x【6†source】y【6†source】", citations=both)) == (
        "x[[6](https://a)]y[[6](https://b)]"
    )
    results = [cited(6, "https://a", 90, result=0), cited(6, "https://b", 90, result=1)]
    assert answer(text("【6:1†source】【6:0†source】", citations=results)) == (
        "[[6](https://b)][[6](https://a)]"
    )


def test_the_later_citation_markers_in_private_use_characters_are_resolved() -> None:
    first, second = "\ue200cite\ue202turn0search1\ue201", "\ue200cite\ue202turn0search2\ue201"
    references = [
        {"matched_text": first, "items": [{"url": "https://a"}], "safe_urls": ["https://z"]},
        {"matched_text": second, "safe_urls": ["https://b"]},
    ]
    whole = f"A{first}, B{second}, A{first}, C\ue200cite\ue202turn9\ue201."
    turn = steps(text(whole, content_references=references), *whole)
    assert answer(*turn) == "A[[1](https://a)], B[[2](https://b)], A[[1](https://a)], C."
    assert answer(*turn, bot=QUIET) == "A, B, A, C."


def test_every_image_of_a_message_is_shown() -> None:
    """Fault 6: only the last one was."""
    assert answer(drawn("A", "B"), drawn("C", id="d2"), text("x")) == (
        f"\n{image('A')}\n{image('B')}\n{image('C')}x"
    )
    turn = [code("p"), output(DISPLAYED * 2, "A", "B", status="in_progress")]
    turn += [output(DISPLAYED * 2, "A", "B")] * 2
    assert answer(*turn, text("x")).endswith(
        f"\n图片生成中，请稍后\n\n图片生成中，请稍后\n\n```\n{image('A')}{image('B')}x"
    )
    assert answer(*turn, text("x"), bot=QUIET) == "x"


def test_a_request_to_draw_that_comes_as_text_is_code() -> None:
    """Fault 7: it was printed as prose, and the beginning of the answer was lost."""
    content: Record = {"content_type": "text", "parts": ['{"prompt": "a cat"}']}
    turn = [message("d", content, recipient="dalle.text2im"), drawn("U"), text("Here.")]
    assert answer(*turn) == f'\n```\n{{"prompt": "a cat"}}\n```\n\n{image("U")}Here.'
    assert answer(*turn, bot=PLAIN) == "图片链接：https://img/U\nHere."


def test_an_error_of_the_sandbox_is_output_and_its_fence_is_closed() -> None:
    """Fault 8: "...\\n```\\nEncountered exceptionSorry."."""
    turn = [code("x"), system_error("Encountered exception"), text("Sorry.")]
    assert answer(*turn) == ("\n```\nx\n```\n`Result:` \n```\nEncountered exception\n```\nSorry.")
    assert answer(*turn, bot=QUIET) == "Sorry."
    replaced = [code("x"), output("12345", id="err"), system_error("Broken"), text("b")]
    assert answer(*replaced).endswith("12345\n```\n`Result:` \n```\nBroken\n```\nb")
    assert answer(code("x"), system_error(""), text("b")).endswith("tool_error\n```\nb")
    assert answer(code("x", recipient="browser"), system_error("e", name="browser"), text("b")) == (
        "\n```\nx\n```\nb"
    )


def test_bot_mode_hides_output_after_text_and_before_code() -> None:
    """Fault 8: the fences leaked."""
    turn = [text("a", "a"), output("3"), *steps(code("y", "c2"), ""), output("4", id="o2")]
    assert answer(*turn, text("b", "b"), bot=QUIET) == "ab"


def test_code_after_output_whose_first_event_has_text_is_whole() -> None:
    """Fault 8: output `2` and code `print(3)` became "2rint\\n```\\n\\n```\\n(3)"."""
    turn = [code("print(2)"), output("2"), *steps(code("print(3)", "c2"), "print", "(3)")]
    assert answer(*turn).endswith("\n2\n```\n\n```\nprint(3)\n```\n")


def test_an_action_without_permission_ends_with_its_request() -> None:
    """Fault 15: the answer broke off with its fence open."""
    body = {
        "domain": "example.com",
        "operation": "getThing",
        "actions": [
            {"type": "allow", "allow": {"target_message_id": "a2"}},
            {
                "type": "always_allow",
                "always_allow": {"target_message_id": "a2", "operation_hash": "f" * 40},
            },
            "odd",
        ],
    }
    asks = tool(
        "example_com__jit_plugin.getThing",
        "",
        "a2",
        jit_plugin_data={"from_server": {"type": "confirm_action", "body": body}},
    )
    call = code('{"id":1}', recipient="example_com__jit_plugin.getThing")
    wanted = PermissionRequest(
        "a2",
        "example_com__jit_plugin.getThing",
        "example.com",
        "getThing",
        [Permission("allow", "a2"), Permission("always_allow", "a2", "f" * 40)],
    )
    assert translate(wire([call, asks, asks, DONE])).count(wanted) == 1
    assert answer(call, asks) == (
        '\n```\n{"id":1}\n```\n'
        "该 GPT 请求调用 example.com 的 getThing，需要您的确认，因此没有执行。"
    )


def test_the_response_of_an_action_is_not_shown() -> None:
    turn = [code("{}", recipient="x__jit_plugin.a"), tool("x__jit_plugin.a", '{"ok":1}')]
    assert answer(*turn, text("Done.")) == "\n```\n{}\n```\nDone."


def test_a_refusal_to_draw_keeps_its_reason() -> None:
    request = code('{"prompt":"x"}', recipient="dalle.text2im")
    refusal = tool("dalle.text2im", "This request violates our content policy.")
    told = translate(wire([request, refusal, refusal, text("I cannot."), DONE]))
    assert told.count(Refusal("This request violates our content policy.")) == 1
    assert answer(request, refusal, text("I cannot."), bot=QUIET) == "I cannot."
    assert answer(request, refusal, bot=QUIET) == "This request violates our content policy."
    again: list[Line] = [request, drawn("A"), code("{}", "c2", "dalle.text2im"), refusal, DONE]
    assert any(isinstance(event, Refusal) for event in translate(wire(again)))


def test_images_carry_the_prompt_they_were_drawn_from() -> None:
    said = translate(wire([drawn("A", prompt="a serene moon"), DONE]))
    assert ImagePlaceholder("dalle", "file-service://A", "a serene moon") in said


def test_a_missing_image_does_not_end_the_answer() -> None:
    assert answer(drawn("gone"), text("x")) == "\n```\nError: 图片下载失败\n```\nx"


def test_unknown_events_change_nothing() -> None:
    noise: list[Line] = [
        {"type": "brand_new", "message": None},
        tool("brand_new", "x", "n1"),
        message("n2", {"content_type": "brand_new", "text": "x", "parts": None}),
        message("n3", {"content_type": "thoughts", "thoughts": []}, role="tool", name="x"),
        message("n4", {"content_type": "multimodal_text", "parts": []}, role="tool", name="x"),
        {"message": {"id": "n5", "author": {"role": "critic"}, "content": {"parts": ["x"]}}},
        "garbage",
    ]
    for turn, _, _ in ((INTERPRETER, 0, 0), (CHART, 0, 0), (BROWSING, 0, 0)):
        noisy = [line for record in turn for line in (*noise, record)]
        assert answer(*noisy) == answer(*turn)


# ----- properties


def cuts(data: bytes, at: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(n % (len(data) + 1) for n in at)})
    return [data[a:b] for a, b in pairwise(edges)]


PLAIN_TEXT = st.text(st.sampled_from("ab (【】<>:\n\ue2006样😀"), max_size=8)
PIECES = st.lists(
    st.one_of(
        PLAIN_TEXT.map(lambda t: (t, t, t)),
        st.sampled_from(
            [
                ("【6†source】", "[[6](https://ex.org/a)]", ""),
                ("【6†来源】", "[[6](https://ex.org/a)]", ""),
                ("【6:2†a.pdf】", "[[6](https://ex.org/a)]", ""),
                ("【9†source】", "", ""),
                ("\ue200cite\ue202t\ue201", "[[1](https://ex.org/b)]", ""),
                ("(sandbox:/mnt/x.csv)", "(https://files/mnt/x.csv)", "(https://files/mnt/x.csv)"),
            ]
        ),
    ),
    max_size=8,
)
REFERENCES = [{"matched_text": "\ue200cite\ue202t\ue201", "items": [{"url": "https://ex.org/b"}]}]


def separated(pieces: list[tuple[str, str, str]]) -> tuple[str, str, str]:
    """The pieces with what cannot join them into something else between: raw, off and quiet."""
    columns = list(zip(*pieces, strict=True)) or [(), (), ()]
    raw, off, quiet = ("|\n".join(column) for column in columns)
    return raw, off, quiet


@st.composite
def turns(draw: st.DrawFn) -> tuple[list[Record], str, str]:
    """A turn of random messages, and its text with bot mode off and on."""
    records: list[Record] = []
    off = quiet = ""
    opened = "text"

    def grows(record: Record, whole: str) -> list[Record]:
        at = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=6)))
        edges = [0, *at, len(whole)]
        return steps(record, *(whole[a:b] for a, b in pairwise(edges)))

    for number in range(draw(st.integers(1, 5))):
        id = f"m{number}"
        match draw(st.sampled_from(["text", "text", "code", "output", "drawn", "browsed"])):
            case "text":
                raw, shown_off, shown_quiet = separated(draw(PIECES))
                # Sources may be named with the text, or only when it is finished.
                known = text(raw, id, citations=[SIX], content_references=REFERENCES)
                bare = grows(text(raw, id), raw)[:-1]
                records += [*bare, known] if draw(st.booleans()) else grows(known, raw)
                if raw:
                    off += ("\n```\n" if opened != "text" else "") + shown_off
                    quiet += shown_quiet
                    opened = "text"
            case "code":
                run = draw(
                    st.text(st.sampled_from('ab(<【"\\\n\u2028样😀'), min_size=1, max_size=6)
                )
                records += grows(code(run, id), run)
                off += ("\n```\n" if opened != "text" else "") + "\n```\n" + run
                opened = "code"
            case "output":
                printed = draw(st.text(st.sampled_from("<a\n"), min_size=1, max_size=6))
                images = draw(st.integers(0, 2))
                whole = printed + "|" + DISPLAYED * images
                names = [f"{id}-{n}" for n in range(images)]
                records += [*grows(output(whole, *names, id=id), whole)]
                off += ("\n```\n" if opened != "text" else "") + "`Result:` \n```\n"
                off += printed + "|" + "\n图片生成中，请稍后\n" * images
                opened = "output"
                if images:
                    off += "\n```\n" + "".join(map(image, names))
                    opened = "text"
            case "drawn":
                records.append(drawn(id, id=id))
                off += ("\n```\n" if opened != "text" else "") + "\n" + image(id)
                opened = "text"
            case _:
                records.append(browsed(id))
    if not off:
        records.append(text("", "end"))  # without any message it would be no answer
    return records, off + ("\n```\n" if opened != "text" else ""), quiet


ENCODINGS = st.builds(
    lambda kind, raw, crlf: kind(raw=raw, crlf=crlf),
    st.sampled_from([Whole, V1]),
    raw=st.booleans(),
    crlf=st.booleans(),
)
PINGS = [
    b"",
    b": ping - 2025-03-06 19:22:41.128196+00:00\n\n",
    b"event: ping\r\ndata: 2023-12-15 08:18:09.331532\r\n\r\n",
]


@given(
    turns(),
    ENCODINGS,
    st.lists(st.sampled_from(PINGS), max_size=9),
    st.lists(st.integers(0, 100_000), max_size=30),
    st.sets(st.integers(0, 40)),
)
def test_any_turn_yields_its_text_however_it_is_encoded_cut_and_flushed(
    turn: tuple[list[Record], str, str],
    encoding: Encoding,
    pings: list[bytes],
    at: list[int],
    flushes: set[int],
) -> None:
    """And the same streamed as whole, see `shown`."""
    records, off, quiet = turn
    blocks = [encoding.event(record) for record in records]
    between = zip(blocks, [*pings, *[b""] * len(blocks)], strict=False)
    body = encoding.begin() + b"".join(block + ping for block, ping in between)
    said = translate(*cuts(body + encoding.done("c"), at))
    assert shown(said, flushes=[*flushes]) == off
    assert shown(said, QUIET, [*flushes]) == quiet


@given(turns(), st.builds(Bot, *[st.booleans()] * 5), st.sets(st.integers(0, 40)))
def test_any_turn_is_the_same_streamed_and_whole_in_every_bot_mode(
    turn: tuple[list[Record], str, str], bot: Bot, flushes: set[int]
) -> None:
    records, off, _ = turn
    text = shown(translate(wire([*records, DONE])), bot, [*flushes])
    assert bot.enabled or text == off
    assert text.count("```") % 2 == 0
