"""JSON answers: held back, checked, and corrected at most once, in the same job."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence

import pytest

from tests.support.pandora import job
from tests.support.scripted import Step
from wire.events import Delta, Done, Event, Failed, FormatMissed, Image, Started
from wire.jobs import ChatJob, JsonAnswer, Message
from workers.json_answers import LONGEST_TEXT, JsonAnswers
from workers.upstream import UpstreamBusy, UpstreamError

SCHEMA = json.dumps({"type": "object", "required": ["a"]}).encode()
STARTED, STOP = Started("m"), Done("stop")
GOOD = '{"a": 1}'


class Turns:
    """An upstream with a script for each conversation."""

    def __init__(self, *turns: Sequence[Step]) -> None:
        self.asked: list[ChatJob] = []
        self._turns = iter(turns)

    async def answer(self, job: ChatJob) -> AsyncGenerator[Sequence[Event], None]:
        self.asked.append(job)
        for step in next(self._turns):
            if isinstance(step, Exception):
                raise step
            assert isinstance(step, Sequence)
            yield step


def reply(*texts: str) -> list[Step]:
    return [[STARTED], *([Delta(text)] for text in texts), [STOP]]


async def answered(upstream: Turns, json: JsonAnswer | None) -> list[list[Event]]:
    return [list(batch) async for batch in JsonAnswers(upstream).answer(job("hi", json=json))]


async def corrected(*turns: Sequence[Step], answer: JsonAnswer | None = None) -> list[Event]:
    """The answer of an upstream that is asked once for each turn."""
    upstream = Turns(*turns)
    *held, last = await answered(upstream, answer or JsonAnswer(SCHEMA))
    assert not any(held)
    assert len(upstream.asked) == len(turns)
    return last


async def test_an_answer_that_need_not_be_json_passes_at_once() -> None:
    assert await answered(Turns(reply("a", "b")), None) == [
        [STARTED],
        [Delta("a")],
        [Delta("b")],
        [STOP],
    ]


async def test_a_valid_answer_is_held_back_and_stripped() -> None:
    drawn: list[Step] = [[Image("dalle", "https://x.example/a"), Delta("1", "output")]]
    turn = [*drawn, *reply("```json\n", GOOD, "\n```")]
    assert await corrected(turn) == [STARTED, Delta(GOOD), STOP]


async def test_the_correction_continues_the_conversation() -> None:
    upstream = Turns(reply("{}"), reply(GOOD))
    *_, last = await answered(upstream, JsonAnswer(SCHEMA))
    assert last == [STARTED, Delta(GOOD), STOP]
    before, first, again = upstream.asked[1].messages
    assert (before, first) == (Message("user", "hi"), Message("assistant", "{}"))
    assert "'a' is a required property" in again.text


@pytest.mark.parametrize(
    ("first", "second", "text", "problem"),
    [
        ("no", "{}", "{}", "schema_mismatch"),
        ("{}", "no", "{}", "schema_mismatch"),
        ('{"b": 1}', '{"c": 1}', '{"c": 1}', "schema_mismatch"),
        ("no", "never", "never", "invalid_json"),
        ("no", "", "no", "invalid_json"),
    ],
)
async def test_an_answer_that_stays_wrong_says_so(
    first: str, second: str, text: str, problem: str
) -> None:
    started, said, missed, done = await corrected(reply(first), reply(second))
    assert (started, said, done) == (STARTED, Delta(text), STOP)
    assert isinstance(missed, FormatMissed)
    assert missed.problem == problem


@pytest.mark.parametrize("error", [UpstreamBusy(), UpstreamError(Failed("upstream_error", "x"))])
async def test_a_correction_that_fails_leaves_the_first_reply(error: Exception) -> None:
    _, said, missed, done = await corrected(reply("{}"), [[STARTED], error])
    assert (said, done) == (Delta("{}"), STOP)
    assert isinstance(missed, FormatMissed)


async def test_a_reply_that_was_cut_is_not_corrected() -> None:
    cut: list[Step] = [[STARTED, Delta('{"a"'), Done("length")]]
    _, said, missed, done = await corrected(cut)
    assert (said, done) == (Delta('{"a"'), Done("length"))
    assert isinstance(missed, FormatMissed)


async def test_a_tool_call_is_not_checked() -> None:
    asked = JsonAnswer(SCHEMA, "<tool_call>")
    assert await corrected(reply("<tool_call>{"), answer=asked) == [
        STARTED,
        Delta("<tool_call>{"),
        STOP,
    ]


async def test_a_failure_before_the_correction_is_a_failure_of_the_job() -> None:
    broken: list[Step] = [[STARTED, Delta("{")], UpstreamError(Failed("upstream_error", "x"))]
    with pytest.raises(UpstreamError):
        await answered(Turns(broken), JsonAnswer())


async def test_no_more_is_held_back_than_can_be_checked() -> None:
    with pytest.raises(UpstreamError) as caught:
        await answered(Turns(reply("{", " " * LONGEST_TEXT)), JsonAnswer())
    assert caught.value.failed.code == "answer_too_long"
