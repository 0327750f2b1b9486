"""Conversations that answers leave upstream, and the GPTs that are listed, through the official
client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI

from tests.support.gateway import Gateway, post, until

ASK = "[[sim tool=action calls=2 words=3 interval=0.005]]"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with a GPT whose actions are allowed, which deletes every conversation."""
    directory = tmp_path_factory.mktemp("gateway")
    file = directory / "gpts.toml"
    file.write_text('[my-gpt]\nid = "g-abc-my-gpt"\n')
    with (
        pytest.MonkeyPatch.context() as environ,
        Gateway(
            directory,
            stream__grace="0.5",
            queue__lease="3",
            queue__heartbeat="0.5",
            gpts__confirm_actions="allow",
            gpts__key_for_info="key-for-info",
            conversation__delete_after_response="true",
        ) as gateway,
    ):
        environ.setenv("GATEWAY_GPTS", str(file))
        yield gateway


@pytest.fixture
def gpts(started: Gateway) -> Gateway:
    started.reset()
    return started.start()


def listed(client: OpenAI) -> bool:
    return "my-gpt" in [model.id for model in client.models.list()]


def test_conversations_are_deleted_after_their_answers_actions_included(gpts: Gateway) -> None:
    with OpenAI(base_url=f"{gpts.url}/v1", api_key="bearer-of-a-bot", max_retries=0) as client:
        assert listed(client)
        for model, prompt in (("my-gpt", ASK), ("gpt-4-s", "[[sim words=3]]")):
            answer = client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": prompt}]
            )
            assert (answer.choices[0].message.content or "").endswith("w0 w1 w2")
    assert gpts.stats()["confirmations"] == 2
    until(lambda: gpts.stats()["hidden"] == 2, 60, "a conversation was not deleted")


def test_the_conversation_of_a_killed_worker_is_deleted_too(gpts: Gateway) -> None:
    with OpenAI(base_url=f"{gpts.url}/v1", api_key="bearer-of-a-bot", max_retries=0) as client:
        chunks = iter(
            client.chat.completions.create(
                model="gpt-4-s",
                messages=[{"role": "user", "content": "[[sim words=2000 interval=0.05]]"}],
                stream=True,
            )
        )
        while not (next(chunks).choices[0].delta.content or ""):
            pass
        for worker in gpts.workers:
            worker.kill()
            worker.wait()
        assert gpts.stats()["hidden"] == 0
        gpts.start_worker()
        until(lambda: gpts.stats()["hidden"] == 1, 60, "the conversation was not deleted")


def test_a_gpt_that_cannot_be_reached_is_not_listed(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = directory / "gpts.toml"
    file.write_text('[my-gpt]\nid = "g-abc-my-gpt"\n')
    monkeypatch.setenv("GATEWAY_GPTS", str(file))
    with Gateway(directory, gpts__key_for_info="key-for-info") as gateway:
        post(f"{gateway.simulator}/simulator/script", {"bearer": "key-for-info", "gizmo": "404"})
        gateway.start()
        with OpenAI(base_url=f"{gateway.url}/v1", api_key="a-bot", max_retries=0) as client:
            until(lambda: not listed(client), 60, "it is still listed")
        assert "gpt=g-abc-my-gpt" in gateway.printed()
        assert "key-for-info" not in gateway.printed()
