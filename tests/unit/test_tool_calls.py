"""Tool calls in the text of an answer: read however the text is cut, or left as text."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.openai.tool_calls import LONGEST_BLOCK, MOST_BLOCKS, CallRules, ToolCall, ToolCallReader

NAMES = frozenset({"get_weather", "run"})
RULES = CallRules(NAMES)
PARIS = ToolCall("get_weather", '{"city": "Paris"}')
BLOCK = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'


def read(*pieces: str, single: bool = False) -> list[str | ToolCall]:
    """Everything that is read out of an answer, adjacent texts joined."""
    reader = ToolCallReader(CallRules(NAMES, single=single))
    found = [read for piece in pieces for read in reader.add(piece)] + reader.flush()
    joined: list[str | ToolCall] = []
    for one in found:
        if isinstance(one, str) and joined and isinstance(joined[-1], str):
            joined[-1] += one
        else:
            joined.append(one)
    return joined


@pytest.mark.parametrize(
    "answer",
    [
        BLOCK,
        f"```json\n{BLOCK}\n```",
        f"`{BLOCK}`",
        BLOCK.removesuffix("</tool_call>"),
        BLOCK.replace("\n", ""),
        BLOCK.replace("<tool_call>", "<tool_call>\n```json").replace("</tool", "```\n</tool"),
        '<tool_call>[{"name": "get_weather", "arguments": {"city": "Paris"}}]</tool_call>',
        '<tool_call>{"name": "get_weather", "arguments": "{\\"city\\": \\"Paris\\"}"}</tool_call>',
        f"{BLOCK}\n\n<tool_result>It rains.</tool_result> It rains in Paris.",
        f"{BLOCK}\n<tool_call>nothing that can be read</tool_call>",
    ],
)
def test_a_call_is_read_as_models_write_it(answer: str) -> None:
    assert read(answer) == [PARIS]


def test_text_before_a_call_is_kept_without_the_space_between_them() -> None:
    assert read(f"Let me see.\n\n```\n{BLOCK}") == ["Let me see.", PARIS]


def test_several_calls_are_read_in_order() -> None:
    other = '<tool_call>{"name": "run"}</tool_call>'
    assert read(f"{BLOCK}\n```\n```json\n{other}") == [PARIS, ToolCall("run", "{}")]
    assert read(f"{BLOCK.removesuffix('</tool_call>')}{other}") == [PARIS, ToolCall("run", "{}")]
    assert read(f"{BLOCK}{other}", single=True) == [PARIS]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"input": "a\\nb"}', "a\nb"),
        ('{"input": "a\nb"}', "a\nb"),  # models forget to escape line breaks
        ('"a"', "a"),
        ('"{\\"a\\": 1}"', '{"a": 1}'),
        ('{"text": "a"}', None),
        ("{}", None),
        ("1", None),
    ],
)
def test_a_custom_tool_is_called_with_a_text(arguments: str, text: str | None) -> None:
    reader = ToolCallReader(CallRules(frozenset({"patch"}), custom=frozenset({"patch"})))
    block = f'<tool_call>{{"name": "patch", "arguments": {arguments}}}</tool_call>'
    expected = [block] if text is None else [ToolCall("patch", text, custom=True)]
    assert reader.add(block) + reader.flush() == expected


def test_line_breaks_in_a_text_are_escaped_for_the_client() -> None:
    written = '<tool_call>{"name": "run", "arguments": {"code": "a\nb"}}</tool_call>'
    assert read(written) == [ToolCall("run", '{"code": "a\\nb"}')]


@pytest.mark.parametrize(
    "answer",
    [
        "Just text, with 1 < 2 and a <tool_",
        "The tag <tool_call> begins a call, and </tool_call> ends it.",
        '<tool_call>{"name": "unknown", "arguments": {}}</tool_call> and on',
        '<tool_call>{"name": "run", "arguments": {"a": }}</tool_call>',
        '<tool_call>{"name": "run", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "run", "arguments": {"a": NaN}}</tool_call>',
        '<tool_call>[{"name": "run"}, {"name": "unknown"}]</tool_call>',
        "<tool_call>[]</tool_call>",
        '<tool_call>{"name": "run", "argu',
        "```json\n{}\n```\n  ",
        " " * 300 + "<tool_call>",
        "<tool_call>" + "{" * (LONGEST_BLOCK + 10) + "</tool_call>",
        "<tool_call>" + '{"name": "run", "arguments": ' + '{"a":' * 5000 + "</tool_call>",
    ],
)
def test_everything_else_is_text_as_it_was_written(answer: str) -> None:
    assert read(answer) == [answer]


def test_a_call_after_an_unreadable_one_is_read() -> None:
    assert read(f"<tool_call>{{no}}</tool_call>\n{BLOCK}") == [
        "<tool_call>{no}</tool_call>",
        PARIS,
    ]


def test_the_number_of_blocks_that_are_read_is_bounded() -> None:
    unreadable = "<tool_call>{}" * MOST_BLOCKS
    assert read(f"{unreadable}{BLOCK}") == [f"{unreadable}{BLOCK}"]
    assert read(f"{unreadable[:-13]}{BLOCK}") == [unreadable[:-13], PARIS]
    assert read(BLOCK * 1000) == [PARIS] * MOST_BLOCKS


def test_text_that_cannot_begin_a_call_is_not_held_back() -> None:
    reader = ToolCallReader(RULES)
    assert reader.add("Hello, world.") == ["Hello, world."]
    assert reader.add(" 1 < 2 <tool") == [" 1 < 2"]
    assert reader.add("box>") == [" <toolbox>"]


def test_an_answer_ends_at_the_first_text_after_a_call() -> None:
    reader = ToolCallReader(RULES)
    assert reader.add(f"{BLOCK}\n") == [PARIS]
    assert not reader.ended
    assert reader.add("\nThe") == []
    assert reader.ended


fragments = st.sampled_from(
    [
        *(BLOCK, "<tool_call>", "</tool_call>", "<tool_", "tool_call>", "`", "``", "```", "json"),
        *("\n", " ", "         ", "text", "<", "{", "[", '{"name": "run"}', '"', "\u3000", "</"),
        *("x" * 120, " " * 120),
    ]
)


@given(st.lists(fragments, max_size=12).map("".join), st.booleans(), st.data())
@example("a" + " " * 20 + "```" + " " * 9 + BLOCK, False, None)
def test_an_answer_reads_the_same_however_it_is_cut(
    answer: str, single: bool, data: st.DataObject | None
) -> None:
    whole = read(answer, single=single)
    assert read(*answer, single=single) == whole
    if data is not None:
        at = sorted(data.draw(st.lists(st.integers(0, len(answer)), max_size=4)))
        cuts = zip([0, *at], [*at, len(answer)], strict=True)
        assert read(*(answer[i:j] for i, j in cuts), single=single) == whole
    if all(isinstance(piece, str) for piece in whole):
        assert "".join(map(str, whole)) == answer


@pytest.mark.parametrize(
    "piece",
    ["<tool_call>{", "<tool_call>```\n", "`", " ", "```", "<", BLOCK, "<tool_call> ", "\n"],
)
def test_little_is_held_back_and_the_work_is_linear(piece: str) -> None:
    """Work is counted in the characters that are looked at again because they were held back."""
    reader = ToolCallReader(RULES)
    again = 0
    for _ in range(20_000):
        reader.add(piece)
        again += len(reader._pending)
    assert again <= 20_000 * 120


@pytest.mark.parametrize("piece", ["<tool_call>{", "<tool_call> x", BLOCK, "`<tool_call>` "])
def test_a_long_text_is_read_in_steps(piece: str) -> None:
    """The text after a block is copied: all of a long one, after each of its many blocks."""
    longest = 0

    class Spied(ToolCallReader):
        def _open(self, text: str, start: int, at: int) -> str:
            nonlocal longest
            longest = max(longest, len(text))
            return super()._open(text, start, at)

    reader = Spied(RULES)
    reader.add(piece * 10_000)
    reader.flush()
    assert 0 < longest < 10_000


def test_the_names_of_tools_count_as_memory() -> None:
    few, many = (
        CallRules(frozenset(f"{n:0100d}" for n in range(number))).memory for number in (8, 128)
    )
    assert few > 8 * 100
    assert many - few > 120 * 100


@pytest.mark.parametrize("length", range(2, len(BLOCK)))
def test_half_of_a_call_that_a_limit_has_cut_is_dropped(length: int) -> None:
    reader = ToolCallReader(RULES)
    found = reader.add(f"Let me see.\n{BLOCK[:length]}") + reader.flush(is_cut=True)
    assert found in (["Let me see."], ["Let me see.", PARIS])


def test_other_text_that_a_limit_has_cut_is_kept() -> None:
    reader = ToolCallReader(RULES)
    assert "".join(map(str, [*reader.add("1 <"), *reader.flush(is_cut=True)])) == "1 <"
