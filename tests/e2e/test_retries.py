"""Clients do not notice upstream failures before the first event."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
from openai import OpenAI

from tests.support.gateway import Gateway, post


@pytest.fixture(scope="module")
def retrying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(
        tmp_path_factory.mktemp("gateway"),
        upstream__retries="2",
        upstream__circuit_failures="1000000",
    ) as gateway:
        yield gateway.start()


@pytest.fixture
def gateway(retrying: Gateway) -> Gateway:
    return retrying.at_rest()


def fail(gateway: Gateway, times: int, **fault: object) -> None:
    """Fail the given number of conversations, then answer."""
    post(f"{gateway.simulator}/simulator/script", {"words": 5, "times": times, **fault})


def ask(client: OpenAI, prompt: str = "hello") -> str | None:
    answer = client.chat.completions.create(
        model="gpt-4-s", messages=[{"role": "user", "content": prompt}]
    )
    assert answer.choices[0].finish_reason == "stop"
    return answer.choices[0].message.content


@pytest.mark.parametrize(
    "fault",
    [{"fault": "reset"}, {"error": "unavailable"}, {"error": "bad_gateway"}, {"error": "oops"}],
    ids=str,
)
def test_a_failed_attempt_is_retried_and_answered(
    gateway: Gateway, client: OpenAI, fault: dict[str, str]
) -> None:
    fail(gateway, 1, **fault)
    assert ask(client)
    stats = gateway.stats()
    assert stats["started"] + stats["errors"] == 2


def test_a_job_is_not_retried_more_often_than_configured(gateway: Gateway, client: OpenAI) -> None:
    fail(gateway, 3, error="unavailable")
    with pytest.raises(openai.APIStatusError) as failed:
        ask(client)
    assert failed.value.status_code == 502
    assert gateway.stats()["errors"] == 3


@pytest.mark.parametrize("fault", ["cut at=6000", "unfinished_eof", "error_after"])
def test_a_job_is_never_retried_after_its_first_event(
    gateway: Gateway, client: OpenAI, fault: str
) -> None:
    with pytest.raises(openai.APIStatusError):
        ask(client, f"[[sim words=20 fault={fault}]]")
    assert gateway.stats()["started"] == 1
