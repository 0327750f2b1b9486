"""Requests to OpenAI-compatible servers: as their clients wrote them, but for a few members."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from wire.jobs import ApiPath
from workers.openai.request import prepare

CHAT: ApiPath = "chat/completions"


def sent(path: ApiPath, body: object, **options: Any) -> dict[str, object]:
    members = json.loads(prepare(path, json.dumps(body).encode(), "theirs", **options).body)
    assert isinstance(members, dict)
    return members


def test_every_member_goes_upstream_byte_for_byte_but_those_that_the_line_needs() -> None:
    body = (
        b'{"tomorrow": [1.50, {"a":"\\u00e9"}],"model":"mine" , "temperature":1e0,'
        b'"messages":[ {"role":"x","content":"\\ud83d\\ude00"} ],"user":"u"}'
    )
    assert prepare(CHAT, body, "theirs").body == (
        b'{"tomorrow":[1.50, {"a":"\\u00e9"}],"model":"theirs","temperature":1e0,'
        b'"messages":[ {"role":"x","content":"\\ud83d\\ude00"} ],"user":"u",'
        b'"stream":true,"stream_options":{"include_usage":true}}'
    )


@pytest.mark.parametrize(
    ("path", "added"),
    [
        (CHAT, {"stream": True, "stream_options": {"include_usage": True}}),
        ("completions", {"stream": True, "stream_options": {"include_usage": True}}),
        ("responses", {"stream": True}),
        ("messages", {"stream": True}),
        ("messages/count_tokens", {}),
        ("embeddings", {}),
    ],
)
def test_answers_are_asked_for_as_streams_with_their_usage(
    path: ApiPath, added: dict[str, object]
) -> None:
    assert sent(path, {"model": "mine"}) == {"model": "theirs", **added}
    assert prepare(path, b"{}", "theirs").streamed is ("stream" in added)


def test_the_options_of_the_stream_are_merged() -> None:
    def options(given: object) -> object:
        return sent(CHAT, {"stream": False, "stream_options": given})["stream_options"]

    assert options(None) == {"include_usage": True}
    assert options({"include_usage": False, "a": 1}) == {"include_usage": True, "a": 1}
    assert options("nonsense") == "nonsense"  # the server's own error is the right answer


def test_some_members_are_the_operators() -> None:
    body = {"id_slot": 1, "service_tier": "priority", "user": "u"}
    assert sent("embeddings", body) == {"user": "u", "model": "theirs"}
    assert sent("embeddings", body, pass_service_tier=True)["service_tier"] == "priority"
    assert sent("embeddings", body, pass_service_tier=True, tier="flex")["service_tier"] == "flex"
    assert "service_tier" not in sent("embeddings", body, tier="flex")


def test_half_characters_go_upstream() -> None:
    body = prepare("embeddings", rb'{"input":"\ud83d","model":"mine"}', "theirs").body
    assert body == rb'{"input":"\ud83d","model":"theirs"}'


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"a"'])
def test_a_body_that_is_not_an_object_is_refused(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        prepare(CHAT, body, "theirs")
