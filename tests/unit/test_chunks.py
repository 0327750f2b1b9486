"""Numbered chunks: the same under the same numbers, however the events were batched."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder
from openai.types.chat import ChatCompletion, ChatCompletionMessageCustomToolCall

from app.openai.answers import QueuePlace, Usage
from app.openai.chunks import ChatAnswer
from app.openai.dialect import RenderOptions
from app.openai.reading import AnswerReader
from app.openai.sse import DONE
from app.openai.tool_calls import CallRules
from settings import Bot
from wire.events import (
    UNNUMBERED,
    Batch,
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
from wire.line.claims import Claim
from wire.stream.publication import Publication
from wire.stream.reply import Reply

JOB = "chatcmpl-0123456789abcdef"
BACKLOG = 1 << 20
RUN = CallRules(frozenset({"run"}))
USAGE = Usage(1, 2, 3)


class Options:
    """Options of a request."""

    def __init__(
        self,
        stops: Sequence[str] = (),
        limit: int | None = None,
        rules: CallRules | None = None,
        *,
        bot: bool = False,
    ) -> None:
        self.stops, self.limit, self.rules, self.bot = stops, limit, rules, bot

    def answer(self, resume_after: int = 0) -> ChatAnswer:
        reader = AnswerReader(Bot(enabled=self.bot), self.stops, self.limit, self.rules)
        options = RenderOptions(include_usage=True, numbered=True, resume_after=resume_after)
        return ChatAnswer(JOB, "m", 0, reader, options)


def blocks(stream: bytes) -> list[tuple[int | None, str]]:
    """The messages of a stream: the number and the data."""
    found = []
    for block in stream.decode().split("\n\n")[:-1]:
        data, _, id = block.partition("\nid: 01234567-")
        found.append((int(id) if id else None, data.removeprefix("data: ")))
    return found


def content(stream: bytes) -> str:
    said = (json.loads(data) for _, data in blocks(stream))
    return "".join(c["delta"].get("content", "") for one in said for c in one.get("choices", ()))


def rendered(answer: ChatAnswer, batches: Sequence[Sequence[Event]]) -> bytes:
    """A whole stream, without `[DONE]`."""
    stream = b""
    for events in batches:
        stream += answer.add(events)
        if answer.finish or answer.failure:
            break
    return stream + (answer.ending(USAGE).removesuffix(DONE) if answer.finish else b"")


def test_every_chunk_made_from_events_ends_with_its_number() -> None:
    stream = rendered(Options().answer(), [[Started("m"), Delta("a")], [Delta("b"), Done("stop")]])
    assert stream.startswith(b'data: {"id":"chatcmpl-')
    numbers = [number for number, _ in blocks(stream)]
    assert numbers == [1, 2, 3, 4, 5]
    assert json.loads(blocks(stream)[-1][1])["usage"]["total_tokens"] == 3


def test_a_chunk_not_made_from_events_has_no_number() -> None:
    answer = Options().answer()
    waiting = answer.empty_delta(None) + answer.empty_delta(QueuePlace(3, 12))
    assert [number for number, _ in blocks(waiting)] == [1, None, None]
    failed = answer.add([Started("m"), Delta("a"), Failed("upstream_error", "x")])
    assert [number for number, _ in blocks(failed)] == [2, None]


def test_an_error_is_also_text_for_clients_that_show_nothing_else() -> None:
    failed = Failed("upstream_error", "Oops.")
    for before, shown in (([Delta("a")], "a\n\nError: Oops."), ([], "Error: Oops.")):
        answer = ChatAnswer(JOB, "m", 0, AnswerReader(Bot()), RenderOptions(errors_as_text=True))
        *told, last = [json.loads(data) for _, data in blocks(answer.add([*before, failed]))]
        assert last["error"]["message"] == "Oops."
        choices = [chunk["choices"][0] for chunk in told]
        assert "".join(choice["delta"]["content"] for choice in choices) == shown
        assert choices[0]["delta"]["role"] == "assistant"
        assert {choice["finish_reason"] for choice in choices} == {None}


def test_the_messages_of_an_answer_that_cannot_be_resumed_are_data_alone() -> None:
    answer = ChatAnswer(JOB, "m", 0, AnswerReader(Bot()))
    stream = answer.empty_delta(QueuePlace(3, 12)) + answer.add([Started("m"), Delta("a")])
    stream += answer.add([Delta("b"), Done("stop")]) + answer.ending(USAGE).removesuffix(DONE)
    lines = stream.decode().split("\n\n")
    assert lines.pop() == ""
    assert all(line.startswith("data: {") and "\n" not in line for line in lines)


def test_a_waiting_client_gets_its_place_in_a_chunk_of_the_answer() -> None:
    answer = Options().answer()
    role, waiting = (json.loads(data) for _, data in blocks(answer.empty_delta(QueuePlace(3, 12))))
    assert waiting.pop("queue") == {"position": 3, "eta": 12}
    assert waiting["choices"][0].pop("delta") == {"content": ""}
    assert role["choices"][0].pop("delta") == {"role": "assistant", "content": ""}
    assert waiting == role
    assert b"queue" not in answer.empty_delta(None)


@pytest.mark.parametrize("resumable", [True, False])
def test_a_comment_is_no_message_for_the_official_decoder(resumable: bool) -> None:
    """It takes an empty line after an `id:` line and a comment for a message without data."""
    answer = ChatAnswer(JOB, "m", 0, AnswerReader(Bot()), options=RenderOptions(numbered=resumable))
    stream = answer.comment(QueuePlace(3, 12)) + answer.add([Started("m"), Delta("a")])
    stream += answer.comment(None) + answer.add([Delta("b")]) + answer.comment(None)
    stream += answer.add([Done("stop")])
    decoded = list(SSEDecoder().iter_bytes(iter([stream])))
    assert [one.json()["choices"][0]["delta"].get("content") for one in decoded] == [
        *("", "a", "b"),
        None,
    ]
    assert stream.startswith(b": queued position=3 eta=12\n\n")
    assert stream.count(b": working\n") == 2


@pytest.mark.parametrize("first", [Done("stop"), Delta("a"), Break()])
def test_the_first_chunk_always_has_the_role(first: Event) -> None:
    """Otherwise a keep-alive, which must have the role, would shift all the numbers."""
    early, late = Options().answer(), Options().answer()
    waited = early.empty_delta(None) + rendered(early, [[first, Done("stop")]])
    straight = rendered(late, [[first, Done("stop")]])
    assert [block for block in blocks(waited) if block[0]] == blocks(straight)
    assert json.loads(blocks(straight)[0][1])["choices"][0]["delta"]["role"] == "assistant"


def test_text_held_back_for_a_cut_is_not_sent_when_the_answer_is_resumed_elsewhere() -> None:
    """It would be sent again, with the rest of it, under the same number."""
    asked = Options(stops=["END"])
    answer = asked.answer()
    here = answer.add([Started("m"), Delta("a E"), Failed("reply_abandoned", "x", "stopped")])
    assert content(here) == "a "
    last = max(number or 0 for number, _ in blocks(here))
    there = rendered(asked.answer(last), [[Started("m"), Delta("a E"), Delta("x"), Done("stop")]])
    assert content(here) + content(there) == "a Ex"


kinds: st.SearchStrategy[Kind] = st.sampled_from(["text", "text", "text", "code", "output"])
CALL = '<tool_call>{"name": "a"}</tool_call>'
said_texts = st.text("abEND \n", min_size=1, max_size=6) | st.sampled_from(
    [CALL, CALL[:20], CALL[20:]]
)
deltas = st.builds(Delta, said_texts, kinds)
others = st.sampled_from(
    [
        Break(),
        Citation("6", "https://ex.org"),
        Citation("7", None),
        Drawing(),
        Image("dalle", "https://ex.org/a"),
        Image("python", None, error="x"),
        File("https://ex.org/b"),
        Refusal("no"),
    ]
)
endings = st.sampled_from([Done("stop"), Done("length"), Failed("upstream_error", "x")])
spoken = st.lists(st.one_of(deltas, deltas, others), max_size=25)
asked = st.builds(
    Options,
    st.sampled_from([(), ("END",), ("b", "ND ")]),
    st.none() | st.integers(1, 12),
    st.sampled_from([None, CallRules(frozenset("a")), CallRules(frozenset("a"), single=True)]),
    bot=st.booleans(),
)


@given(spoken, endings, asked, st.data())
def test_a_resumed_answer_continues_exactly_after_the_last_received_chunk(
    said: list[Event], ending: Event, asked: Options, data: st.DataObject
) -> None:
    # The worker publishes it in any batches.
    outgoing = Publication(
        Claim("main", "account", "chat", "job", 1, "key", "gpt_4_s", ["front"], b"")
    )
    live: list[Batch] = []
    for event in [Started("m"), *said]:
        outgoing.add([event])
        if data.draw(st.booleans()):
            live.append(outgoing.take())
    outgoing.add([ending])
    live.append(outgoing.take())
    events = [event for batch in live for event in batch.events]

    first = rendered(asked.answer(), [batch.events for batch in live if batch.events])
    numbers = [number for number, _ in blocks(first) if number]
    assert numbers == list(range(1, len(numbers) + 1))

    for had in range(len(numbers) + 1):
        # A client that reconnects gets part of it live and the rest from the log, in other batches.
        reply = Reply("job", BACKLOG)
        heard: list[Sequence[Event]] = []
        for batch in live:
            if data.draw(st.booleans()):
                reply.accept(batch)
        at = 0
        while not reply.ended:
            step = data.draw(st.integers(1, 10))
            reply.accept(Batch("job", 1, at, events[at : at + step]))
            at += step
            heard.append(reply.unread.events[len([e for part in heard for e in part]) :])
        heard = heard or [list(reply.unread.events)]
        resumed = rendered(asked.answer(had), heard)
        kept = [block for block in blocks(first) if block[0] and block[0] <= had]
        assert kept + blocks(resumed) == blocks(first)


@given(spoken, st.integers(0, 30), asked)
def test_an_answer_broken_off_by_a_front_end_is_resumed_without_loss_or_repetition(
    said: list[Event], broken: int, asked: Options
) -> None:
    events = [Started("m"), *said, Done("stop")]
    let_go = Failed("reply_abandoned", "x", "slow_reader")
    reply = Reply("job", BACKLOG)
    reply.accept(Batch("job", 1, 0, events[: min(broken, len(events) - 1)]))
    reply.accept(Batch("job", 1, UNNUMBERED, [let_go]))
    answer = asked.answer()
    here = answer.add(reply.unread.events)
    last = max((number or 0 for number, _ in blocks(here)), default=0)
    there = rendered(asked.answer(last), [events])
    whole = rendered(asked.answer(), [events])
    if answer.finish is None:
        assert content(here) + content(there) == content(whole)
    else:  # it was cut before
        assert content(here) == content(whole)


BLOCK = '<tool_call>\n{"name": "run", "arguments": {"city": "Paris"}}\n</tool_call>'


def test_a_client_whose_limit_cuts_a_call_sees_no_part_of_it() -> None:
    answer = Options(limit=4, rules=RUN).answer()
    shown = answer.add([Started("m"), Delta(BLOCK), Done("stop")])
    assert b"tool_call" not in shown
    assert answer.finish == "length"


def test_a_call_that_the_upstream_has_cut_is_not_shown() -> None:
    answer = Options(rules=RUN).answer()
    shown = answer.add([Started("m"), Delta('<tool_call>\n{"name": "run", "argu'), Done("length")])
    assert b"tool_call" not in shown
    assert answer.finish == "length"


@pytest.mark.parametrize("cut", [1, 1000])
def test_a_stop_sequence_does_not_apply_within_a_call(cut: int) -> None:
    def read(text: str) -> ChatAnswer:
        answer = Options(("\n", "city"), rules=RUN).answer()
        pieces = [text[at : at + cut] for at in range(0, len(text), cut)]
        said: list[Event] = [Started("m"), *map(Delta, pieces), Done("stop")]
        for event in said:
            answer.add([event])
            if answer.finish:
                break
        return answer

    called = read(f"Let me see.{BLOCK}")
    assert called.finish == "tool_calls"
    message = json.loads(called.whole(USAGE))["choices"][0]["message"]
    assert message["content"] == "Let me see."
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"city": "Paris"}
    stopped = read(f"Paris is a city.\n{BLOCK}")
    assert (stopped.finish, stopped.text) == ("stop", "Paris is a ")
    assert json.loads(stopped.whole(USAGE))["choices"][0]["message"]["content"] == "Paris is a "
    assert read("Paris is a cit").text == "Paris is a cit"


def test_the_first_chunk_is_the_same_after_a_keep_alive() -> None:
    waited, resumed = Options().answer(), Options().answer()
    stream = waited.empty_delta(None) + rendered(waited, [[Started("m"), Delta("a"), Done("stop")]])
    again = rendered(resumed, [[Started("m"), Delta("a"), Done("stop")]])
    assert [block for block in blocks(stream) if block[0]] == blocks(again)


def test_a_custom_tool_is_called_as_openai_does() -> None:
    rules = CallRules(frozenset({"patch"}), custom=frozenset({"patch"}))
    answer = Options(rules=rules).answer()
    block = '<tool_call>{"name": "patch", "arguments": {"input": "a"}}</tool_call>'
    stream = rendered(answer, [[Started("m"), Delta(block), Done("stop")]])
    deltas = [json.loads(data)["choices"][0]["delta"] for _, data in blocks(stream)[1:3]]
    begun, given = (delta["tool_calls"][0] for delta in deltas)
    assert (begun["type"], begun["custom"]) == ("custom", {"name": "patch", "input": ""})
    assert given == {"index": 0, "custom": {"input": "a"}}
    whole = ChatCompletion.model_validate_json(answer.whole(USAGE))
    (choice,) = whole.choices
    assert choice.message.tool_calls
    (call,) = choice.message.tool_calls
    assert (choice.finish_reason, call.id) == ("tool_calls", begun["id"])
    assert isinstance(call, ChatCompletionMessageCustomToolCall)
    assert (call.custom.name, call.custom.input) == ("patch", "a")
