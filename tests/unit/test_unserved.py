"""The advice for paths and methods that are not served."""

from __future__ import annotations

import pytest

from app.http.unserved import Served, method_not_allowed

PATHS = ("chat/completions", "images/generations", "models", "models/<name:path>")


def advice(path: str, prefix: str = "") -> str:
    served = Served(f"{prefix}/v1", [f"{prefix}/v1/{p}" for p in PATHS])
    return str(served.not_found("POST", path))


@pytest.mark.parametrize(
    ("path", "instead"),
    [
        ("messages/batches", "Send each request to `/v1/messages`"),
        ("messages/batches/msgbatch_1/results", "Send each request to `/v1/messages`"),
        ("images/edits", "Send the picture in a message to `/v1/chat/completions`"),
        ("images/variations/", "Send the picture in a message to `/v1/chat/completions`"),
        ("embeddings", "serves `/v1/chat/completions`, `/v1/images/generations`, `/v1/models`."),
        ("v1/chat/completions", "Use `/v1/chat/completions`."),
    ],
)
def test_a_path_of_the_api_is_named_with_what_to_use_instead(path: str, instead: str) -> None:
    message = advice(f"/v1/{path}")
    assert message.startswith(f"`POST /v1/{path}` is not served")
    assert instead in message
    assert "base URL" not in message


@pytest.mark.parametrize("path", ["/chat/completions", "/api/v1/chat/completions", "/completions"])
def test_a_wrong_base_url_is_said_to_be_wrong(path: str) -> None:
    assert "the base URL ends with `/v1`" in advice(path)
    assert "Use `/v1/chat/completions`" in advice(path)


def test_the_prefix_of_the_operator_is_not_given_to_those_who_do_not_know_it() -> None:
    for path in ("/v1/chat/completions", "/chat/completions", "/"):
        assert "s3cret" not in advice(path, "/s3cret")
        assert "`/<prefix>/v1`" in advice(path, "/s3cret")
    assert "`/s3cret/v1/chat/completions`" in advice("/s3cret/v1/messages", "/s3cret")


def test_a_long_path_is_not_repeated_as_a_whole() -> None:
    assert len(advice("/v1/" + "x" * 10_000)) < 300


def test_a_refused_method_names_those_to_use() -> None:
    refused = method_not_allowed("GET", "/v1/chat/completions", ["POST"])
    assert refused.headers["allow"] == "POST"
    assert "Use POST." in str(refused)


def test_a_path_of_operators_is_said_to_be_one_where_they_are_served() -> None:
    served = Served("/v1", ["/v1/models"], "/admin")
    assert "docs/admin.md" in str(served.not_found("GET", "/admin/api/boards"))
    assert "base URL" in str(served.not_found("GET", "/administrator"))
    assert "operators" not in advice("/admin/api/board")
    of_operators_alone = Served("/v1", ["/healthz"], "/admin")
    assert "port, which is for operators" in str(of_operators_alone.not_found("GET", "/v1/models"))
