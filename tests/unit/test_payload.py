"""A job as the request that Pandora-Next expects."""

from __future__ import annotations

import itertools
import json
import uuid

import pytest
from msgspec import Raw

from wire import VERSION
from wire.jobs import ChatJob, Family, Message
from workers.pandora.gpts import Gizmo
from workers.pandora.payload import Question, upstream_model

TEXT = "你好 “quoted” \\ \u2028 \x00 😀 data: [DONE]\n\n"


def job(family: Family, *messages: Message) -> ChatJob:
    return ChatJob(
        version=VERSION,
        id="job-1",
        family=family,
        bearer="fk-secret",
        messages=list(messages) or [Message("user", "Hi")],
    )


def test_a_conversation_becomes_one_request_with_each_message_in_its_own_role() -> None:
    ids = (f"id-{n}" for n in itertools.count(1))
    question = Question(job("gpt_3_5", Message("system", "Be brief."), Message("user", TEXT)))
    body = question.encode(new_id=lambda: next(ids))
    payload = json.loads(body)
    suggestions = payload.pop("suggestions")
    assert len(suggestions) == 4
    assert all(suggestions)
    assert payload == {
        "action": "next",
        "messages": [
            {
                "id": "id-1",
                "author": {"role": "system"},
                "content": {"content_type": "text", "parts": ["Be brief."]},
                "metadata": {},
            },
            {
                "id": "id-2",
                "author": {"role": "user"},
                "content": {"content_type": "text", "parts": [TEXT]},
                "metadata": {},
            },
        ],
        "parent_message_id": "id-3",
        "model": "text-davinci-002-render-sha",
        "timezone_offset_min": -480,
        "history_and_training_disabled": False,
        "arkose_token": None,
        "conversation_mode": {"kind": "primary_assistant"},
        "force_paragen": False,
        "force_rate_limit": False,
    }


@pytest.mark.parametrize(
    ("family", "model", "suggestions"),
    [
        ("gpt_4_s", "gpt-4", 0),
        ("gpt_4_mobile", "gpt-4-mobile", 4),
        ("gpt_3_5", "text-davinci-002-render-sha", 4),
    ],
)
def test_each_family_has_its_model_and_suggestions(
    family: Family, model: str, suggestions: int
) -> None:
    payload = json.loads(Question(job(family)).encode())
    assert payload["model"] == upstream_model(family) == model
    assert len(payload["suggestions"]) == suggestions


@pytest.mark.parametrize("family", ["gpt_4_s", "gpt_4_mobile"])
def test_the_arkose_token_is_absent_for_gpt_4_so_that_the_upstream_may_add_one(
    family: Family,
) -> None:
    assert "arkose_token" not in json.loads(Question(job(family)).encode())


def test_an_arkose_token_is_put_into_the_body() -> None:
    assert json.loads(Question(job("gpt_4_s")).encode("a|b"))["arkose_token"] == "a|b"


def test_without_history_the_upstream_is_told_to_keep_nothing() -> None:
    payload = json.loads(Question(job("gpt_4_s"), keep_history=False).encode())
    assert payload["history_and_training_disabled"] is True


def test_the_info_about_a_gpt_is_sent_back_whole() -> None:
    info = b'{"gizmo": {"id": "g-abc", "x": 1.50}, "tools": []}'
    body = Question(job("gpt_4_gizmo"), gizmo=Gizmo("g-abc", Raw(info))).encode()
    payload = json.loads(body)
    assert info in body
    assert (payload["model"], "suggestions" in payload) == ("gpt-4-gizmo", False)
    assert "arkose_token" not in payload
    assert payload["conversation_mode"] == {
        "gizmo": json.loads(info),
        "kind": "gizmo_interaction",
        "gizmo_id": "g-abc",
    }


def test_ids_are_random_uuids_and_the_bearer_stays_out_of_the_body() -> None:
    first, second = (Question(job("gpt_4_s")).encode() for _ in range(2))
    ids = set()
    for body in (first, second):
        payload = json.loads(body)
        ids |= {payload["parent_message_id"], payload["messages"][0]["id"]}
        assert b"fk-secret" not in body
        assert "conversation_id" not in payload
    assert {uuid.UUID(one).version for one in ids} == {4}
    assert len(ids) == 4
