"""Shared upstreams as a front end knows them, and the keys of their clients."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import cast

import pytest
import redis.exceptions
from msgspec.structs import replace
from sanic import Request
from sanic.compat import Header

import settings
from app.auth import ANONYMOUS, Auth
from app.http.error_answer import error_answer
from app.key_lookup import KeyLookup
from app.metrics import upstream_metrics
from app.openai.errors import (
    ApiError,
    BadRequest,
    BodyTooLarge,
    JobFailed,
    LineFull,
    LineUnavailable,
    ModelNotFound,
    NotFound,
    NoWorker,
    Unauthorized,
)
from app.upstreams import SharedUpstreams
from settings.client_access import client_access
from settings.credentials import Secret, key_hash
from wire.about import About, Trouble, encode_about
from wire.events import Failed
from wire.jobs import fingerprint, lane_name, lane_of_any, lane_of_family
from wire.line.offers import Aside, LiveUpstream

CONFIG = settings.Settings(
    others={
        "a": settings.Upstream(kind="openai", base_url="http://a"),
        "b": settings.Upstream(kind="openai", base_url="http://b", models={"large": "l"}),
    }
)


def live(
    name: str,
    *models: str,
    any_model: bool = False,
    max_n: int = 1,
    trouble: Trouble = "",
    guarded: bool = False,
    slots: int = 1,
) -> LiveUpstream:
    about = About("openai", list(models), any_model, trouble, max_n, guarded)
    lanes = [lane_name("chat", model) for model in models]
    if any_model:
        lanes.append(lane_of_any("chat"))
    return LiveUpstream(name, slots, lanes, {name: slots}, encode_about(about), None, [])


class Asked:
    """Answers of Redis: descriptions of upstreams, or an outage."""

    def __init__(self, *upstreams: LiveUpstream) -> None:
        self.upstreams: list[LiveUpstream] | None = list(upstreams)
        self.times = 0

    async def __call__(self) -> list[LiveUpstream]:
        self.times += 1
        if self.upstreams is None:
            raise redis.exceptions.ConnectionError
        return self.upstreams


async def upstreams(stack: AsyncExitStack, *described: LiveUpstream) -> SharedUpstreams:
    shared = SharedUpstreams(CONFIG, Asked(*described))
    await stack.enter_async_context(shared.running())
    return shared


async def test_a_model_has_the_lane_of_the_upstreams_that_offer_it() -> None:
    async with AsyncExitStack() as stack:
        large, small = live("a", "m", "x/y", max_n=4, slots=3), live("b", "m", max_n=2, slots=8)
        shared = await upstreams(stack, large, small)
        lane = await shared.lane("chat", "m")
        assert lane is not None
        assert (lane.name, lane.most) == (lane_name("chat", "m"), 2)
        only = await shared.lane("chat", "x/y")
        assert only is not None
        assert only.most == 3, "no more than there are slots"
        assert await shared.lane("chat", "other") is None
        assert await shared.lane("embeddings", "m") is None


async def test_a_request_takes_no_more_slots_than_the_largest_account_has() -> None:
    async with AsyncExitStack() as stack:
        several = replace(live("a", "m", max_n=9, slots=6), accounts={"a/1": 2, "a/2": 4})
        shared = await upstreams(stack, several)
        lane = await shared.lane("chat", "m")
        assert lane is not None
        assert lane.most == 4


async def test_accounts_that_are_set_aside_are_named_with_reason_and_time() -> None:
    about = encode_about(About("pandora", ["gpt-4"]))
    accounts = {f"main/{name}": 1 for name in "abc"}
    aside = [Aside("main/b", "token_refused", 40.4), Aside("main/a", "deactivated", 3600.0)]
    lane = lane_of_family("chat", "gpt_4_s")
    pool = LiveUpstream("main", 8, ["chat", lane], accounts, about, None, aside)
    async with AsyncExitStack() as stack:
        shared = await upstreams(stack, pool, live("a", "m"), live("b", "m"))
        assert [each.name for each in await shared.known()] == ["a", "b"], "it relays nothing"
        assert [text for text in shared.troubles() if "accounts" in text] == [
            "1 of 3 accounts of upstream main are left: a: deactivated, again in 3600 s;"
            " b: token refused, again in 40 s"
        ]
        assert JobFailed(shared.too_late(lane)).code == "waited_too_long"
    async with AsyncExitStack() as stack:
        gone = replace(pool, aside=[*aside, Aside("main/c", "token_refused", 0.0)])
        shared = await upstreams(stack, gone)
        await shared.known()
        assert any("c: token refused, again with the next request" in t for t in shared.troubles())
        assert JobFailed(shared.too_late(lane)).code == "upstream_refused_us"


async def test_an_upstream_may_take_every_name() -> None:
    async with AsyncExitStack() as stack:
        shared = await upstreams(stack, live("a", "m"), live("b", any_model=True))
        assert (await shared.lane_of_any("chat", "z")).name == lane_of_any("chat")


async def test_a_model_that_nobody_offers_is_not_found() -> None:
    async with AsyncExitStack() as stack:
        shared = await upstreams(stack, live("a", "m"), live("b", "large"))
        with pytest.raises(ModelNotFound):
            await shared.lane_of_any("chat", "z")


@pytest.mark.parametrize(
    ("described", "model", "error"),
    [
        ([live("a", "m")], "large", NoWorker),
        ([live("a", "m")], "z", ModelNotFound),
        ([live("b", "large")], "z", NoWorker),
        ([live("a"), live("b", "large")], "z", NoWorker),
        ([live("a", trouble="refused_us"), live("b", "large")], "z", JobFailed),
        ([live("a", "m", trouble="refused_us"), live("b", "large")], "z", ModelNotFound),
    ],
)
async def test_a_model_of_an_upstream_without_a_worker_is_unavailable(
    described: list[LiveUpstream], model: str, error: type[ApiError]
) -> None:
    async with AsyncExitStack() as stack:
        shared = await upstreams(stack, *described)
        with pytest.raises(error):
            await shared.lane_of_any("chat", model)


async def test_the_last_known_ones_count_while_redis_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.upstreams.INTERVAL", 0.001)
    asked = Asked(live("a", "m"))
    shared = SharedUpstreams(CONFIG, asked)
    async with shared.running():
        assert await shared.lane("chat", "m")
        asked.upstreams, before = None, asked.times
        while asked.times < before + 3:
            await asyncio.sleep(0)
        assert await shared.lane("chat", "m")


async def test_without_redis_since_the_start_nothing_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.upstreams.PATIENCE", 0.001)
    asked = Asked()
    asked.upstreams = None
    shared = SharedUpstreams(CONFIG, asked)
    async with shared.running():
        with pytest.raises(LineUnavailable):
            await shared.lane("chat", "m")


async def test_gateways_without_shared_upstreams_ask_nothing() -> None:
    asked = Asked()
    shared = SharedUpstreams(settings.Settings(), asked)
    async with shared.running():
        assert await shared.lane("chat", "m") is None
    assert not asked.times


async def test_trouble_is_told_in_words_and_numbers() -> None:
    async with AsyncExitStack() as stack:
        shared = await upstreams(stack, live("a", "m", trouble="refused_us"))
        await shared.known()
        refused, gone = shared.troubles()
        assert "the upstream a refuses the credential" in refused
        assert "no worker has described the upstream b" in gone
        numbers = {
            (sample.name, sample.labels["upstream"]): sample.value
            for family in upstream_metrics(shared.states())
            for sample in family.samples
        }
        assert numbers["gateway_upstream_credential_refused", "a"] == 1
        assert numbers["gateway_upstream_described", "b"] == 0


GUARDED = settings.Upstream(kind="openai", base_url="http://a", credential_file="secret")


@pytest.mark.parametrize(
    ("config", "is_offered"),
    [
        (CONFIG, False),
        (replace(CONFIG, auth=settings.Auth(open=True)), True),
        (replace(CONFIG, auth=settings.Auth(keys=("2bb80d537b1da3e3",))), True),
        (replace(CONFIG, others={"a": GUARDED}), True),
    ],
    ids=["nothing is set", "open", "keys", "the same settings"],
)
async def test_a_credential_that_only_workers_know_of_is_not_open_to_all(
    config: settings.Settings, is_offered: bool
) -> None:
    """The rule was judged by the front end's own settings, which may lack the credential."""
    shared = SharedUpstreams(config, Asked(live("a", "m", guarded=True)))
    async with shared.running():
        assert bool(await shared.lane("chat", "m")) is is_offered
        told = any("with a credential that the settings" in each for each in shared.troubles())
        assert told is not is_offered


@pytest.mark.parametrize(
    ("described", "code"),
    [
        ([live("a", "m", trouble="refused_us")], "upstream_refused_us"),
        ([live("a", "m", trouble="refused_us"), live("b", "m")], "waited_too_long"),
        ([], "waited_too_long"),
    ],
)
async def test_a_wait_in_vain_ends_with_its_reason(
    described: list[LiveUpstream], code: str
) -> None:
    async with AsyncExitStack() as stack:
        shared = await upstreams(stack, *described)
        await shared.known()
        failure = JobFailed(shared.too_late(lane_name("chat", "m")))
        assert failure.code == code
        assert failure.http_status == (502 if code == "upstream_refused_us" else 504)
        assert not failure.retry


class Asking:
    """A request with some headers, for a path."""

    def __init__(self, path: str = "/v1/messages", **headers: str) -> None:
        self.path = path
        self.ctx = SimpleNamespace()
        self.headers = Header({name.replace("_", "-"): value for name, value in headers.items()})


def asking(**headers: str) -> Request:
    return cast(Request, Asking(**headers))


def auth(*keys: str, credential: str = "", host: str = "127.0.0.1") -> Auth:
    main = settings.Upstream(kind="openai", base_url="http://a", credential=Secret(credential))
    hashes = tuple(key_hash(fingerprint(key)) for key in keys)
    server = settings.Server(host=host)
    config = settings.Settings(server=server, upstream=main, auth=settings.Auth(keys=hashes))
    return Auth(config, client_access(config), KeyLookup(no_record))


async def no_record(id: str) -> None:
    return None


async def shared_key(auth: Auth, request: Request) -> str:
    """Return the identity of a request for a shared upstream."""
    caller = await auth.caller(request)
    auth.check_shared(caller)
    return caller.identity


async def test_where_nobody_is_refused_a_request_needs_no_key() -> None:
    anybody = auth()
    assert await shared_key(anybody, asking()) == ANONYMOUS
    assert await shared_key(anybody, asking(authorization="Bearer k")) == "k"
    assert await shared_key(anybody, asking(x_api_key="k")) == "k"


async def test_with_a_list_of_keys_others_are_refused() -> None:
    some = auth("one", credential="ours", host="0.0.0.0")
    assert await shared_key(some, asking(authorization="Bearer one")) == "one"
    assert await shared_key(some, asking(x_api_key="one")) == "one"
    for wrong in (asking(), asking(authorization="Bearer two"), asking(authorization="one")):
        with pytest.raises(Unauthorized):
            await shared_key(some, wrong)


async def test_a_credential_is_open_to_nobody_without_a_gateway_key() -> None:
    guarded = auth(credential="ours", host="0.0.0.0")
    for wrong in (asking(), asking(authorization="Bearer k"), asking(x_api_key="gw-made-up")):
        with pytest.raises(Unauthorized):
            await shared_key(guarded, wrong)


@pytest.mark.parametrize(
    ("failure", "status", "kind"),
    [
        (BadRequest("Wrong."), 400, "invalid_request_error"),
        (Unauthorized(), 401, "authentication_error"),
        (NotFound(), 404, "not_found_error"),
        (BodyTooLarge(), 413, "request_too_large"),
        (LineFull(), 429, "rate_limit_error"),
        (NoWorker(), 529, "overloaded_error"),
        (JobFailed(Failed("upstream_error", "x")), 502, "api_error"),
        (JobFailed(Failed("bad_request", "x", status=400, kind="bad")), 400, "bad"),
    ],
)
def test_errors_of_messages_have_their_own_form(failure: ApiError, status: int, kind: str) -> None:
    answer = error_answer(asking(), failure)
    assert answer.status == status
    assert answer.body is not None
    assert f'{{"type":"error","error":{{"type":"{kind}","message":'.encode() in answer.body


def test_errors_of_other_paths_have_openais_form() -> None:
    other = cast(Request, Asking("/v1/chat/completions"))
    assert b'{"error":{"message":' in (error_answer(other, NoWorker()).body or b"")
