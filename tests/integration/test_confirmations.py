"""Actions of GPTs that ask for permission, and the answers that follow, against the simulator."""

from __future__ import annotations

import asyncio
import json
from functools import partial

import pytest

from app.openai.text import AnswerText
from settings import Bot
from tests.support.line import SOON
from tests.support.loopback import (
    DONE,
    END_OF_BODY,
    STREAM_HEAD,
    Exchange,
    frame,
    refusal,
    says,
    upstream,
)
from tests.support.pandora import collect, job, new_pandora, simulated, text
from wire.events import Asked, Done, Event, Failed, Started
from wire.gpts import GptInfos
from wire.jobs import ChatJob
from wire.redis.client import Redis
from wire.seal import Seal
from workers.http.session import open_session
from workers.pandora.backend import Backend
from workers.pandora.conversations import delete_conversation
from workers.pandora.deletions import Deletions
from workers.pandora.gpts import Gpts
from workers.pandora.translate.exchange import MAX_ROUNDS
from workers.pandora.translate.placeholders import (
    ConfirmPolicy,
    Permission,
    PermissionRequest,
    choose_permission,
)


def ask(directive: str) -> ChatJob:
    return job(f"[[sim {directive} words=2 interval=0 delay=0]]", "gpt_4_gizmo", gpt="g-abc")


def shown(events: list[Event]) -> str:
    rendered = AnswerText(Bot())
    return "".join(rendered.add(event) for event in events)


CALLED = '\n```\n{"id": 1}\n```\n\n```\n{"id": 2}\n```\nw0 w1'


@pytest.mark.parametrize(
    ("confirm", "more", "confirmations"),
    [
        ("allow", "", 2),
        ("always_allow", "", 1),
        ("always_allow", "consequential=1", 2),
        ("allow", "v1=1", 2),
    ],
)
async def test_an_answer_continues_after_its_action_was_allowed(
    redis: Redis, seal: Seal, confirm: ConfirmPolicy, more: str, confirmations: int
) -> None:
    async with simulated() as (caller, session):
        backend = Backend(session, caller.url)
        deletions = Deletions(redis, seal, partial(delete_conversation, backend), SOON)
        pandora = new_pandora(
            session,
            caller.url,
            gpts=Gpts(backend, GptInfos(redis, seal, 60)),
            confirm=confirm,
            deletions=deletions,
        )
        async with deletions.running():
            events = await collect(pandora, ask(f"tool=action calls=2 {more}"))
            assert [type(e) for e in events].count(Started) == 1
            assert events[-1] == Done("stop")
            assert text(events) == "w0 w1"
            if confirmations == 2:
                assert shown(events) == CALLED
            assert (await caller.stats())["confirmations"] == confirmations
            assert (await caller.stats())["invalid"] == 0
            await caller.until(lambda stats: stats["hidden"] == 1)  # it is one conversation


async def test_without_confirm_actions_no_action_is_allowed_and_the_answer_says_so(
    redis: Redis, seal: Seal
) -> None:
    async with simulated() as (caller, session):
        gpts = Gpts(Backend(session, caller.url), GptInfos(redis, seal, 60))
        events = await collect(new_pandora(session, caller.url, gpts=gpts), ask("tool=action"))
        assert events[-2:] == [Asked("example.com", "getThing"), Done("stop")]
        assert (await caller.stats())["confirmations"] == 0


async def test_a_gpt_that_keeps_asking_for_permission_is_refused_in_the_end(
    redis: Redis, seal: Seal
) -> None:
    async with simulated() as (caller, session):
        gpts = Gpts(Backend(session, caller.url), GptInfos(redis, seal, 60))
        pandora = new_pandora(session, caller.url, gpts=gpts, confirm="allow")
        events = await collect(pandora, ask(f"tool=action calls={MAX_ROUNDS + 2}"))
        assert events[-2:] == [Asked("example.com", "getThing"), Done("stop")]
        assert (await caller.stats())["confirmations"] == MAX_ROUNDS


async def test_a_busy_upstream_after_a_confirmation_fails_the_answer_without_a_retry(
    loop: asyncio.AbstractEventLoop,
) -> None:
    target = {"target_message_id": "a2"}
    body = {"domain": "example.com", "actions": [{"type": "allow", "allow": target}]}
    asked = {
        "id": "a2",
        "author": {"role": "tool", "name": "example_com__jit_plugin.getThing"},
        "content": {"content_type": "text", "parts": [""]},
        "metadata": {"jit_plugin_data": {"from_server": {"type": "confirm_action", "body": body}}},
    }
    event = b"data: " + json.dumps({"message": asked, "conversation_id": "c-1"}).encode() + b"\n\n"

    async def asks(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD + frame(says("Let me see.", finished=True)))
        await exchange.send(frame(event) + frame(DONE) + END_OF_BODY)

    async def is_busy(exchange: Exchange) -> None:
        detail = {"detail": "Only one message at a time. Please allow any other response to end."}
        await exchange.send(refusal(429, json.dumps(detail).encode()))

    async with upstream(asks, is_busy) as (server, _), open_session() as session:
        pandora = new_pandora(session, server.url, confirm="always_allow")
        events = await collect(pandora, job("hi"))
    assert text(events) == "Let me see."
    assert isinstance(failed := events[-1], Failed)
    assert (failed.fault, failed.code) == ("rate_limited", "upstream_busy")
    said = json.loads(server.exchanges[1].body)
    assert (said["conversation_id"], said["parent_message_id"]) == ("c-1", "a2")
    (message,) = said["messages"]
    assert message["author"] == {"role": "tool", "name": "example_com__jit_plugin"}
    action = {"data": {"type": "allow"}, "target_message_id": "a2"}
    assert message["metadata"] == {"jit_plugin_data": {"from_client": {"user_action": action}}}


@pytest.mark.parametrize(
    ("confirm", "offered", "chosen"),
    [
        ("no", ["allow", "always_allow"], None),
        ("allow", ["always_allow", "allow", "deny"], "allow"),
        ("always_allow", ["allow", "always_allow"], "always_allow"),
        ("always_allow", ["allow", "deny"], "allow"),
        ("always_allow", ["oauth_redirect"], None),
        ("allow", ["deny"], None),
    ],
)
def test_permission_is_given_only_as_configured_and_as_the_gpt_offers(
    confirm: ConfirmPolicy, offered: list[str], chosen: str | None
) -> None:
    offers = [Permission(kind, "a2") for kind in offered]
    request = PermissionRequest("a2", "tool", "domain", "operation", offers)
    permission = choose_permission(request, confirm)
    assert (permission.type if permission else None) == chosen
