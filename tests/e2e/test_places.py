"""Waiting clients can see their position and cancel their request."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any

import httpx
import openai
import pytest
import redis
from openai import OpenAI

from tests.support.gateway import Gateway, until

WITHIN = 1.0
"""Seconds in which a slot must be free."""


def asked(prompt: str, *, stream: bool = False) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    return {"model": "gpt-4-s", "stream": stream, "messages": messages}


def ask(
    gateway: Gateway, body: dict[str, Any], key: str = "", begun: Event | None = None
) -> httpx.Response:
    """The whole response; `begun` is set once its status and headers are there."""
    headers = {"authorization": "Bearer one"} | ({"idempotency-key": key} if key else {})
    url = f"{gateway.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, headers=headers, timeout=30) as response:
        if begun is not None:
            begun.set()
        response.read()
        return response


def entry(gateway: Gateway, id: str, method: str = "GET", bearer: str = "one") -> httpx.Response:
    headers = {"authorization": f"Bearer {bearer}"}
    return httpx.request(method, f"{gateway.url}/v1/queue/{id}", headers=headers, timeout=10)


def state(gateway: Gateway, id: str) -> dict[str, Any]:
    response = entry(gateway, id)
    return response.json() if response.status_code == 200 else {"state": response.status_code}


@contextmanager
def running(gateway: Gateway, words: int = 3000) -> Iterator[str]:
    """A streamed answer that goes on for long; the id of its job."""
    body, url = asked(f"[[sim words={words}]]", stream=True), f"{gateway.url}/v1/chat/completions"
    headers = {"authorization": "Bearer one"}
    with httpx.stream("POST", url, json=body, headers=headers, timeout=30) as answer:
        chunks = answer.iter_raw()
        next(chunks)
        yield answer.headers["x-queue-id"]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def test_an_answer_has_its_id_and_first_position_in_headers(gateway: Gateway) -> None:
    answer = ask(gateway, asked("[[sim words=2]]"))
    assert answer.headers["x-queue-id"] == answer.json()["id"]
    assert answer.headers["x-queue-position"] == "1"
    assert int(answer.headers["x-queue-eta"]) >= 0
    assert state(gateway, answer.json()["id"]) == {
        "id": answer.json()["id"],
        "object": "queue.entry",
        "state": "done",
        "position": None,
        "eta": None,
    }


def test_positions_in_line_are_consecutive_and_only_visible_to_their_owner(
    gateway: Gateway, pool: ThreadPoolExecutor
) -> None:
    answers: list[Future[httpx.Response]] = []
    begun = [Event() for _ in range(3)]
    with running(gateway) as first:
        until(lambda: state(gateway, first)["state"] == "running", 60, "it does not run")
        for n in range(3):
            body = asked("[[sim words=2]]", stream=True)
            answers.append(pool.submit(ask, gateway, body, f"place/{n}", begun[n]))
            until(lambda n=n: state(gateway, f"place%2F{n}")["state"] == "waiting", 60, "no place")  # type: ignore[misc]  # mypy on lambdas
        assert all(one.wait(60) for one in begun), "the first keep-alive begins the response"
        found = [state(gateway, f"place%2F{n}") for n in range(3)]
        assert [one["position"] for one in found] == [1, 2, 3]
        assert 0 < found[0]["eta"] <= found[1]["eta"] <= found[2]["eta"]
        for id in (found[0]["id"], "place%2F0", first, "unknown"):
            refused = entry(gateway, id, bearer="two")
            assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")
            assert entry(gateway, id, "DELETE", bearer="two").status_code == 404
    for n, answer in enumerate(answers):
        response = answer.result(20)
        assert response.headers["x-queue-position"] == str(n + 1)
        assert response.text.endswith("data: [DONE]\n\n")
        assert re.search(r'"queue":{"position":\d,"eta":\d+}}$', response.text, re.MULTILINE)


@pytest.mark.parametrize("stream", [False, True])
def test_a_waiting_request_can_be_cancelled(
    gateway: Gateway, pool: ThreadPoolExecutor, *, stream: bool
) -> None:
    with running(gateway):
        until(lambda: gateway.stats()["active"] == 1, 60, "it does not run")
        name = f"back {stream}".replace(" ", "-")
        begun = Event()
        answer = pool.submit(ask, gateway, asked("[[sim words=2]]", stream=stream), name, begun)
        until(lambda: state(gateway, name)["state"] == "waiting", 60, "it does not wait")
        id = state(gateway, name)["id"]
        assert not stream or begun.wait(60)
        deleted = entry(gateway, name, "DELETE")
        assert deleted.json() == {"id": id, "object": "queue.entry", "deleted": True}
        told = answer.result(WITHIN)
        assert code(told) == "cancelled"
        assert told.status_code == (200 if stream else 409)
        assert state(gateway, id)["state"] == "cancelled"
    assert gateway.stats()["started"] == 1, gateway.stats()


def test_a_finished_answer_can_be_deleted(gateway: Gateway) -> None:
    first = ask(gateway, asked("[[sim words=2]]"), "given up").json()["id"]
    assert ask(gateway, asked("[[sim words=2]]"), "given up").json()["id"] == first
    assert entry(gateway, "given%20up", "DELETE").json()["id"] == first
    assert entry(gateway, "given%20up").status_code == 404
    assert ask(gateway, asked("[[sim words=2]]"), "given up").json()["id"] != first


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_a_running_request_can_be_cancelled(
    gateway: Gateway, pool: ThreadPoolExecutor, *, stream: bool, begun: bool
) -> None:
    name = f"running-{stream}-{begun}"
    directive = "words=3000" if begun else "delay=30"
    sent = Event()
    answer = pool.submit(ask, gateway, asked(f"[[sim {directive}]]", stream=stream), name, sent)
    until(lambda: gateway.stats()["active"] == 1, 60, "it does not run")
    assert not stream or sent.wait(60)
    if begun:
        with redis.Redis.from_url(gateway.redis.url) as line:
            job = f"gateway:job:{state(gateway, name)['id']}"
            until(lambda: line.hexists(job, "published"), 60, "nothing of the answer came")
    assert entry(gateway, name, "DELETE").status_code == 200
    gateway.wait_idle(WITHIN)
    told = answer.result(WITHIN)
    assert code(told) == "cancelled"
    assert "[DONE]" not in told.text
    assert entry(gateway, name, "DELETE").status_code == 404, "its key is free again"
    assert gateway.stats()["aborted"] == 1


def code(response: httpx.Response) -> str:
    """The code of the error that a response is, or ends with."""
    text = response.text.strip().rpartition("data: ")[2]
    found: str = json.loads(text)["error"]["code"]
    return found


def test_with_whitespace_keepalive_a_whole_answer_begins_with_newlines(
    gateway: Gateway, client: OpenAI
) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="gpt-4-s",
        messages=[{"role": "user", "content": "[[sim words=3 delay=1.5]]"}],
        extra_headers={"x-keepalive": "whitespace"},
    )
    assert raw.parse().choices[0].message.content == "w0 w1 w2"
    assert raw.text.startswith("\n\n")
    quick = client.chat.completions.create(
        model="gpt-4-s",
        messages=[{"role": "user", "content": "[[sim words=3]]"}],
        extra_headers={"x-keepalive": "whitespace"},
    )
    assert quick.choices[0].message.content == "w0 w1 w2"


def test_a_failure_after_whitespace_is_an_error_object_and_before_it_has_its_status(
    gateway: Gateway, client: OpenAI
) -> None:
    headers = {"authorization": "Bearer one", "x-keepalive": "whitespace"}
    url = f"{gateway.url}/v1/chat/completions"
    late = httpx.post(url, json=asked("[[sim words=3 fault=silence]]"), headers=headers, timeout=20)
    assert late.status_code == 200
    assert late.text.startswith("\n")
    assert late.json()["error"]["code"] == "upstream_timeout"
    with pytest.raises(openai.APIStatusError) as soon:
        client.chat.completions.create(
            model="gpt-4-s",
            messages=[{"role": "user", "content": "[[sim error=oops]]"}],
            extra_headers=headers | {"authorization": f"Bearer {client.api_key}"},
        )
    assert soon.value.status_code == 502


def test_a_client_that_disconnects_during_whitespace_frees_its_slot(gateway: Gateway) -> None:
    headers = {"authorization": "Bearer one", "x-keepalive": "whitespace"}
    url = f"{gateway.url}/v1/chat/completions"
    body = asked("[[sim delay=30]]")
    with httpx.stream("POST", url, json=body, headers=headers, timeout=20) as answer:
        next(answer.iter_raw())
    gateway.wait_idle(WITHIN)
