"""A gateway in front of a real llama.cpp server with two slots."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from local.llama.tokens import CALL_BIAS, ENDLESS_BIAS
from tests.support.chats import Chatting, chatting
from tests.support.counting_proxy import CountingProxy, Passed
from tests.support.gateway import Gateway, status, until
from tests.support.llama import Llama, needs_llama

pytestmark = needs_llama

KEYS, JOBS = 20, 10
ENDLESS = {"logit_bias": ENDLESS_BIAS, "max_tokens": 60_000}
"""Fields of a request that takes both slots for a minute, unless its client leaves."""
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris"]}, "today": {"type": "boolean"}},
            "required": ["city", "today"],
        },
    },
}


@dataclass
class Served:
    """The server, the proxy in front of it, and the gateway in front of that."""

    llama: Llama
    proxy: CountingProxy
    gateway: Gateway

    async def until(self, probe: Callable[[], Any], otherwise: str) -> None:
        """Wait until a probe returns something true."""
        await asyncio.to_thread(until, probe, 60, otherwise)

    async def until_running(self, number: int) -> None:
        """Wait until that many requests are open at the server."""
        await self.until(lambda: self.proxy.open == number, f"not {number} are open")
        await self.until(lambda: self.llama.slots_taken() == number, f"not {number} are generated")

    def waiting(self) -> int:
        """Number of jobs in the line."""
        metrics = httpx.get(f"{self.gateway.url}/metrics", timeout=30).text
        return sum(
            int(float(n)) for n in re.findall(r"^gateway_waiting\{.*\} (\S+)", metrics, re.M)
        )


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("llama")
    with Llama(folder / "llama.log") as llama, CountingProxy(llama.url) as proxy:
        settings = {
            "upstream__kind": "openai",
            "upstream__base_url": proxy.url,
            "upstream__max_n": "2",
            "queue__lease": "3",
            "queue__heartbeat": "0.75",
        }
        with Gateway(folder, simulator=None, **settings) as gateway:
            yield Served(llama, proxy, gateway.start())


@pytest.fixture
def served(everything: Served) -> Served:
    """Everything, with nothing going on."""
    until(lambda: everything.proxy.open == 0, 60, "a request is still open at the server")
    everything.gateway.start()
    everything.proxy.passed.clear()
    everything.proxy.peak = 0
    return everything


@pytest.fixture
async def chats(loop: asyncio.AbstractEventLoop) -> AsyncIterator[Chatting]:
    async with chatting() as chats:
        yield chats


def says(text: str) -> dict[str, Any]:
    """Fields of a request that the model answers with a text."""
    grammar = f"root ::= {json.dumps(text)}"
    return {"messages": [{"role": "user", "content": text}], "grammar": grammar}


def talks() -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Go on."}], **ENDLESS}


async def test_two_hundred_requests_of_twenty_keys_share_two_slots(
    served: Served, chats: Chatting
) -> None:
    served.proxy.gate.clear()
    wanted = {
        (key, job): f"key {key} job {job} " + "x" * 50 for key in range(KEYS) for job in range(JOBS)
    }
    started = {
        each: chats.start(served.gateway.url, f"key-{each[0]}", says(text))
        for each, text in wanted.items()
    }
    await served.until(lambda: served.waiting() == KEYS * JOBS - 2, "not all are in line")
    served.proxy.gate.set()
    deferred = 0
    while not all(task.done() for _, task in started.values()):
        deferred = max(deferred, await asyncio.to_thread(served.llama.deferred))
        await asyncio.sleep(0.2)
    for each, (chat, task) in started.items():
        await task
        assert chat.is_whole, (each, chat.endings)
        assert chat.text == wanted[each]
    assert served.proxy.peak == 2
    assert deferred == 0
    assert len(served.proxy.passed) == KEYS * JOBS
    assert_fair(served)


def assert_fair(served: Served) -> None:
    """Each key has its first job before another has a second one, but for those that began at once.

    Keys share the time of slots, which is by the clock, and a job that this machine delays counts
    for many. So the shares are only printed.
    """
    passed = served.proxy.passed
    first = [each.body["messages"][0]["content"].split()[1] for each in passed[: KEYS + 2]]
    assert len(set(first)) == KEYS, f"a key came again before another came at all: {first}"
    shares = dict.fromkeys(range(KEYS), 0.0)
    left = dict.fromkeys(range(KEYS), JOBS)
    spread = longest = 0.0
    for each, took in zip(passed, slot_times(passed), strict=True):
        key = int(each.body["messages"][0]["content"].split()[1])
        shares[key] += took
        left[key] -= 1
        longest = max(longest, took)
        if not left[key]:
            break
        spread = max(spread, max(shares.values()) - min(shares.values()))
    print(f"shares differ by {spread:.3f} s at most; the longest job took {longest:.3f} s")


def slot_times(passed: list[Passed]) -> list[float]:
    """The time for which each request had its slot: until the next one took its place."""
    took = {id(each): each.ended - each.begun for each in passed}
    in_order_of_ends = sorted(passed, key=lambda each: each.ended)
    for each, following in zip(in_order_of_ends, passed[2:], strict=False):
        took[id(each)] = following.begun - each.begun
    return [took[id(each)] for each in passed]


async def test_a_request_for_two_choices_waits_for_two_slots(
    served: Served, chats: Chatting
) -> None:
    served.proxy.gate.clear()
    asked = [
        chats.start(served.gateway.url, f"key-{number}", {**says(f"Number {number}."), "n": n})
        for number, n in enumerate([1, 2] * 6)
    ]
    await served.until(lambda: served.waiting() >= 10, "they are not in line")
    served.proxy.gate.set()
    for number, (chat, task) in enumerate(asked):
        await task
        assert chat.is_whole
        assert chat.said(number % 2) == f"Number {number}."
    assert served.proxy.peak == 2
    whole = {**says("Twice."), "n": 2, "model": "tiny-llama", "temperature": 0}
    path = "chat/completions"
    direct = await asyncio.to_thread(fetched, served.llama.url, path, whole)
    relayed = await asyncio.to_thread(fetched, served.gateway.url, path, whole)
    assert relayed[0]["choices"] == direct[0]["choices"]


async def test_a_client_that_leaves_frees_its_slot_while_another_streams(
    served: Served, chats: Chatting
) -> None:
    stays, staying = chats.start(served.gateway.url, "stays", talks())
    leaves, leaving = chats.start(served.gateway.url, "leaves", talks())
    await stays.begun.wait()
    await leaves.begun.wait()
    await served.until_running(2)
    left = time.monotonic()
    leaving.cancel()
    await served.until(lambda: served.llama.slots_taken() == 1, "its slot is still taken")
    print(f"slot free after {time.monotonic() - left:.3f} s")
    assert not staying.done()
    chat, task = chats.start(served.gateway.url, "next", says("Next."))
    await task
    assert chat.text == "Next."
    assert not staying.done()
    staying.cancel()


async def test_a_long_list_of_inputs_to_embed_leaves_a_slot_to_chats(
    served: Served, chats: Chatting
) -> None:
    inputs = [f"text number {n}" for n in range(150)]
    body = {"model": "tiny-llama", "input": inputs}
    url = f"{served.gateway.url}/v1/embeddings"
    async with httpx.AsyncClient(timeout=60) as http:
        asked = asyncio.create_task(http.post(url, json=body))
        await served.until(lambda: served.proxy.passed, "the list is not being embedded")
        chat, task = chats.start(served.gateway.url, "chats", says("Hello."))
        deferred = 0
        while not asked.done():
            deferred = max(deferred, await asyncio.to_thread(served.llama.deferred))
        await task
        listed = (await asked).json()
        direct = (await http.post(f"{served.llama.url}/v1/embeddings", json=body)).json()
    assert chat.text == "Hello."
    assert deferred == 0
    assert served.proxy.peak <= 2
    assert sum(passed.path == "/v1/embeddings" for passed in served.proxy.passed) == len(inputs)
    # In a batch, llama.cpp adds in another order.
    for found, expected in zip(listed.pop("data"), direct.pop("data"), strict=True):
        assert found.pop("embedding") == pytest.approx(expected.pop("embedding"), abs=1e-5)
        assert found == expected
    assert listed == direct


async def test_a_killed_worker_ends_each_of_its_answers_once(
    served: Served, chats: Chatting
) -> None:
    torn = [chats.start(served.gateway.url, f"torn-{n}", talks()) for n in range(2)]
    for chat, _ in torn:
        await chat.begun.wait()
    waits, waiting = chats.start(served.gateway.url, "waits", says("Served later."))
    await served.until(lambda: served.waiting() == 1, "it is not in line")
    served.gateway.workers[0].kill()
    served.gateway.start_worker()
    for chat, task in torn:
        await task
        assert chat.endings == ["worker_lost"]
    await waiting
    assert waits.is_whole
    assert waits.text == "Served later."
    assert served.proxy.peak == 2


async def test_a_killed_front_end_ends_its_answers_and_frees_their_slots(
    served: Served, chats: Chatting
) -> None:
    torn = [chats.start(served.gateway.url, f"torn-{n}", talks()) for n in range(2)]
    for chat, _ in torn:
        await chat.begun.wait()
    await served.until_running(2)
    served.gateway.fronts[0].kill()
    for chat, task in torn:
        await task
        assert chat.endings == ["broken off"]
    await served.until_running(0)


async def test_a_killed_server_ends_its_answers_once_and_others_wait_for_it(
    served: Served, chats: Chatting
) -> None:
    torn = [chats.start(served.gateway.url, f"torn-{n}", talks()) for n in range(2)]
    for chat, _ in torn:
        await chat.begun.wait()
    waits, waiting = chats.start(served.gateway.url, "waits", says("Served later."))
    await served.until(lambda: served.waiting() == 1, "it is not in line")
    served.llama.kill()
    for chat, task in torn:
        await task
        assert len(chat.endings) == 1
        assert chat.endings != ["[DONE]"]
    served.llama.start()  # in this thread, with which it dies
    await waiting
    assert waits.is_whole, waits.endings
    assert waits.text == "Served later."


CASES: dict[str, dict[str, Any]] = {
    "reasoning": {"grammar": 'root ::= "<think>" "Hm, \u4e16" "</think>" "\u597d!"'},
    "logprobs": {"logprobs": True, "top_logprobs": 2, "max_tokens": 30, "logit_bias": ENDLESS_BIAS},
    "tools": {"tools": [WEATHER], "logit_bias": CALL_BIAS},
    "half characters": {"max_tokens": 60, "logit_bias": ENDLESS_BIAS},
    "usage": {"max_tokens": 5, "stream_options": {"include_usage": True}},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_is_the_same_as_that_of_the_server_asked_directly(
    served: Served, case: str, *, stream: bool
) -> None:
    body = {
        "model": "tiny-llama",
        "messages": [{"role": "user", "content": "Hello"}],
        "temperature": 0,
        "seed": 7,
        "cache_prompt": False,
        "stream": stream,
        **CASES[case],
    }
    if not stream:
        body.pop("stream_options", None)
    direct, relayed = (
        fetched(url, "chat/completions", body) for url in (served.llama.url, served.gateway.url)
    )
    assert relayed == direct
    assert len(direct) > 3 or not stream


QUESTIONS: dict[str, dict[str, Any]] = {
    "completions": {"prompt": "Hello", "max_tokens": 20},
    "responses": {"input": "Hello", "max_output_tokens": 20},
    "messages": {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 20},
    "embeddings": {"input": "Hello"},
}


@pytest.mark.parametrize(
    ("path", "stream"),
    [*((path, True) for path in list(QUESTIONS)[:3]), *((path, False) for path in QUESTIONS)],
)
def test_other_dialects_are_the_same_as_those_of_the_server_asked_directly(
    served: Served, path: str, *, stream: bool
) -> None:
    common = {"model": "tiny-llama", "temperature": 0, "seed": 7, "cache_prompt": False}
    body = {**common, **QUESTIONS[path], **({"stream": True} if stream else {})}
    direct, relayed = (fetched(url, path, body) for url in (served.llama.url, served.gateway.url))
    assert relayed == direct


def fetched(url: str, path: str, body: dict[str, Any]) -> list[Any]:
    """The messages of an answer, or its body, without what is never the same."""
    answer = httpx.post(
        f"{url}/v1/{path}", json=body, timeout=60, headers={"authorization": "Bearer same"}
    )
    assert answer.status_code == 200, answer.text
    if not body.get("stream"):
        return [comparable(answer.json())]
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n") if ": " in line[:7]]
    return [comparable(json.loads(line)) if line[0] == "{" else line for line in lines]


_NEVER_THE_SAME = {"created", "created_at", "completed_at", "timings", "item_id", "call_id"}


def comparable(value: Any) -> Any:
    """A value without ids, times, and the name of the model."""
    match value:
        case dict():
            return {
                key: comparable(inner)
                for key, inner in value.items()
                if key not in _NEVER_THE_SAME
                and not (key in ("id", "model") and isinstance(inner, str))
            }
        case list():
            return [comparable(inner) for inner in value]
        case "":
            return (
                None  # before calls a whole answer has "", a stream null, from which it is folded
            )
    return value


async def test_images_for_a_model_of_text_do_not_stop_the_others(
    served: Served, chats: Chatting
) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    body = {"messages": [{"role": "user", "content": [image]}]}
    asked = [chats.start(served.gateway.url, f"images-{n}", body) for n in range(5)]
    for chat, task in asked:
        await task
        assert len(chat.endings) == 1
        assert chat.endings != ["[DONE]"]
    chat, task = chats.start(served.gateway.url, "text", says("Still here."))
    await task
    assert chat.text == "Still here."
    assert status(f"{served.gateway.url}/readyz") == 200
