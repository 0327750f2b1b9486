"""Errors and broken answers of an OpenAI-compatible server, as clients of the gateway see them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.gateway import Gateway, post, until


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(
        tmp_path_factory.mktemp("relaying"),
        simulator=("--kind", "openai", "--models", "tiny,other"),
        upstream__kind="openai",
        upstream__first_event_timeout="2",
        upstream__idle_timeout="2",
    ) as gateway:
        yield gateway.start()


@pytest.fixture
def gateway(everything: Gateway) -> Gateway:
    """The gateway, with nothing going on and a server that answers."""
    return everything.at_rest()


def ask(
    gateway: Gateway,
    directive: str = "words=3",
    path: str = "chat/completions",
    **more: Any,
) -> httpx.Response:
    """Ask the server; the directive is in the prompt."""
    headers = {"authorization": "Bearer a-bot", **more.pop("headers", {})}
    messages = [{"role": "user", "content": f"[[sim {directive} interval=0 delay=0]]"}]
    body = {"model": "tiny", "max_tokens": 100, "messages": messages, **more}
    url = f"{gateway.url}/v1/{path}"
    return httpx.post(url, json=body, headers=headers, timeout=60)


def test_an_error_of_the_request_reaches_its_client_as_it_is(gateway: Gateway) -> None:
    refused = ask(gateway, "error=invalid")
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert "max_tokens" in error["message"]
    too_long = ask(gateway, "error=context", stream=True)
    assert too_long.status_code == 400
    assert too_long.json()["error"]["code"] == "context_length_exceeded"
    refused = ask(gateway, "error=unprocessable", path="messages")
    assert refused.status_code == 422
    assert refused.json()["type"] == "error"
    assert "Input should be 1" in refused.json()["error"]["message"]


def test_a_server_that_is_full_or_loading_keeps_its_jobs_waiting(gateway: Gateway) -> None:
    for error in ("loading", "rate", "overloaded"):
        assert ask(gateway, f"words=3 error={error} times=1").status_code == 200
    assert gateway.stats()["errors"] == 3
    assert httpx.get(f"{gateway.url}/readyz", timeout=30).status_code == 200


def test_a_server_that_fails_before_its_first_word_is_asked_again(gateway: Gateway) -> None:
    for fault in ("error=server", "error=bad_gateway", "fault=only_done", "fault=reset"):
        answer = ask(gateway, f"words=3 {fault} times=1")
        assert answer.status_code == 200, (fault, answer.text)
        assert answer.json()["choices"][0]["message"]["content"] == "w0 w1 w2"


def test_errors_of_single_requests_stop_nobody_else(gateway: Gateway) -> None:
    for _ in range(4):
        refused = ask(gateway, "error=image")
        assert refused.status_code == 502
        assert refused.json()["error"]["code"] == "upstream_error"
        assert "mmproj" in refused.json()["error"]["message"]
        assert ask(gateway).status_code == 200


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("fault=error_done at_word=2", "upstream_error"),
        ("fault=broken_off", "answer_broken_off"),
        ("fault=cut at=700", "answer_broken_off"),
        ("fault=silence at_word=2 ping=0.1", "upstream_timeout"),
    ],
)
def test_an_answer_that_breaks_has_one_ending_and_is_not_asked_again(
    gateway: Gateway, fault: str, code: str
) -> None:
    streamed = ask(gateway, f"words=5 {fault}", stream=True)
    assert streamed.status_code == 200
    assert "w0" in streamed.text
    assert streamed.text.count('"error"') == 1
    assert code in streamed.text
    assert "[DONE]" not in streamed.text
    assert gateway.stats()["started"] == 1
    whole = ask(gateway, f"words=5 {fault}")
    assert whole.status_code in (502, 504)
    assert whole.json()["error"]["code"] == code
    assert gateway.stats()["whole"] == 0, "the worker always asks for a stream"


def test_only_what_the_client_wrote_goes_upstream(gateway: Gateway) -> None:
    with httpx.Client() as http:
        ask(
            gateway,
            headers={"x-conversation-id": "7", "cookie": "a=b"},
            id_slot=1,
            seed=7,
            odd={"a": 1},
        )
        (seen,) = http.get(f"{gateway.simulator}/simulator/requests").json()
    assert seen["body"]["stream"] is True
    assert seen["body"]["stream_options"] == {"include_usage": True}
    assert (seen["body"]["seed"], seen["body"]["odd"]) == (7, {"a": 1})
    assert "id_slot" not in seen["body"]
    names = {name.lower() for name in seen["headers"]}
    assert not names & {"authorization", "cookie", "x-conversation-id"}


def test_choices_beyond_one_are_refused(gateway: Gateway) -> None:
    refused = ask(gateway, n=2)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "n"
    assert gateway.stats()["started"] == 0


def test_a_batch_of_embeddings_holds_up_no_chat(gateway: Gateway) -> None:
    number = 30
    with ThreadPoolExecutor(number) as pool:
        batch = [
            pool.submit(ask, gateway, path="embeddings", input="[[sim delay=0.1]]")
            for _ in range(number)
        ]
        until(lambda: gateway.stats()["embeddings"] > 2, 60, "no embedding began")
        assert ask(gateway).status_code == 200
        begun = gateway.stats()["embeddings"]
        assert all(each.result().status_code == 200 for each in batch)
    print(f"the chat was answered after {begun} of {number} embeddings")
    assert begun < number / 2
    assert gateway.stats()["peak_embeddings"] <= 2


@pytest.mark.parametrize("path", ["chat/completions", "responses", "messages"])
def test_a_stream_that_is_taken_up_again_goes_on_where_it_broke_off(
    gateway: Gateway, path: str
) -> None:
    headers = {"idempotency-key": f"again-{path}"}
    question = "[[sim words=9 reasoning=2]]"
    more: dict[str, Any] = {"stream": True, "input": question}
    whole = ask(gateway, "words=9 reasoning=2", path, headers=headers, **more).text
    blocks = [block for block in whole.split("\n\n") if "id: " in block]
    assert len(blocks) > 9
    (last,) = [line[4:] for line in blocks[4].split("\n") if line.startswith("id: ")]
    again = ask(
        gateway, "words=9 reasoning=2", path, headers={**headers, "last-event-id": last}, **more
    ).text
    assert [block for block in again.split("\n\n") if "id: " in block] == blocks[5:]
    assert gateway.stats()["started"] == 1


def test_a_credential_that_the_server_refuses_is_not_the_clients_fault(tmp_path: Path) -> None:
    server = ("--kind", "openai", "--api-key", "sk-ours")
    with Gateway(
        tmp_path,
        simulator=server,
        upstream__kind="openai",
        upstream__credential="sk-ours",
        queue__max_wait="3",
    ) as gateway:
        gateway.start()
        assert ask(gateway).status_code == 200
        post(f"{gateway.simulator}/simulator/script", {"error": "unauthorized"})
        refused = ask(gateway, messages=[{"role": "user", "content": "Hi"}])
        assert refused.status_code == 502
        assert refused.json()["error"]["code"] == "upstream_refused_us"
        assert "sk-ours" not in refused.text + gateway.printed()
        ready = httpx.get(f"{gateway.url}/readyz", timeout=30)
        assert any("credential" in reason for reason in ready.json()["reasons"])
