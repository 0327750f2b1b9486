"""Memory that a front end uses for requests at once, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx
import pytest
from aiohttp import web

import settings
from app.http.budget import MemoryBudget, Reservation
from settings.networks import networks
from tests.support.line import QUICK
from tests.support.requests import BEARER, BODY, CHAT, IMAGES
from tests.support.sanic_adapter import Client
from tests.support.scripted import HELLO, ScriptedUpstream
from tests.support.website import serving

ROOM = 1_000_000


def limited(body_timeout: float = 30.0, fetch_timeout: float = 60.0) -> settings.Settings:
    return settings.Settings(
        queue=QUICK,
        server=settings.Server(max_body_bytes=ROOM, body_timeout=body_timeout),
        files=settings.Files(allow_networks=networks(["127.0.0.0/8"]), fetch_timeout=fetch_timeout),
    )


@pytest.fixture
def config() -> settings.Settings:
    return limited()


class Watched(MemoryBudget):
    """The budget of the front end, and the least that was ever free in it."""

    def __init__(self, size: int, patience: float) -> None:
        super().__init__(size, patience)
        self.least = size

    def resize(self, reservation: Reservation, size: int) -> None:
        super().resize(reservation, size)
        self.least = min(self.least, self.left)


@pytest.fixture
def patience() -> float | None:
    """Seconds that a request may wait for the budget; None: as many as it has."""
    return None


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch, patience: float | None) -> list[Watched]:
    made: list[Watched] = []

    def make(size: int, own: float) -> MemoryBudget:
        made.append(Watched(size, own if patience is None else patience))
        return made[0]

    monkeypatch.setattr("app.composition.MemoryBudget", make)
    return made


@pytest.fixture
def budget(made: list[Watched], front: Client) -> Watched:
    (budget,) = made
    return budget


impatient = pytest.mark.parametrize("patience", [0.3])


async def until(probe: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not probe():
            await asyncio.sleep(0.01)


def large(size: int) -> bytes:
    """A request of the given number of bytes that the upstream answers like any other."""
    body = json.dumps({**BODY, "messages": [{"role": "user", "content": "#"}]})
    # Words, since counting the tokens of a single long one takes long.
    return body.replace("#", ("word " * size)[: size - len(body) + 1]).encode()


@asynccontextmanager
async def sending(front: Client, announced: int, sent: bytes) -> AsyncIterator[None]:
    """A client that sends this much of a body and no more, until it disconnects."""
    where = urlsplit(front.make_url(CHAT))
    _, writer = await asyncio.open_connection(where.hostname, where.port)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\r\n"
    writer.write(f"{head}Content-Length: {announced}\r\n\r\n".encode() + sent)
    try:
        yield
    finally:
        writer.close()


@impatient
async def test_a_large_request_is_refused_while_the_budget_is_used_up_and_accepted_later(
    client: Client, budget: Watched
) -> None:
    async with sending(client, 950_000, b"x" * 900_000):
        await until(lambda: budget.left == 100_000)
        refused = await client.post(CHAT, content=large(600_000), headers=BEARER)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "too_many_large_requests"
        assert 5 <= int(refused.headers["retry-after"]) <= 15
        assert "x-should-retry" not in refused.headers
        assert budget.left == 100_000
        assert (await client.post(CHAT, json=BODY, headers=BEARER)).status_code == 200
    await until(lambda: budget.left == ROOM)
    assert (await client.post(CHAT, content=large(600_000), headers=BEARER)).status_code == 200
    assert budget.left == ROOM


@pytest.mark.parametrize("config", [limited(body_timeout=0.5)], ids=["half a second"])
async def test_a_body_that_times_out_frees_its_part_of_the_budget(
    client: Client, budget: Watched
) -> None:
    async with sending(client, 950_000, b"x" * 900_000):
        await until(lambda: budget.least < ROOM)
        await until(lambda: budget.left == ROOM)


async def test_a_client_that_announces_much_and_sends_little_delays_no_other(
    client: Client, budget: Watched
) -> None:
    async with sending(client, ROOM, b"x" * 100_000):
        await until(lambda: budget.left == 900_000)
        assert (await client.post(CHAT, content=large(900_000), headers=BEARER)).status_code == 200
        assert budget.left == 900_000


async def test_many_large_requests_at_once_are_all_served_within_the_budget(
    client: Client, budget: Watched
) -> None:
    asked = [client.post(CHAT, content=large(700_000), headers=BEARER) for _ in range(10)]
    assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
    assert -700_000 <= budget.least <= ROOM - 700_000
    assert budget.left == ROOM


async def test_a_client_that_disconnects_frees_its_part_of_the_budget(
    client: Client, budget: Watched
) -> None:
    """While it is the only one that sends, and while it waits for the budget."""
    async with sending(client, 950_000, b"x" * 900_000):
        await until(lambda: budget.left == 100_000)
        async with sending(client, 950_000, b"x" * 900_000):
            await until(lambda: budget._waiting)
    await until(lambda: budget.left == ROOM)


@pytest.mark.parametrize("broken", [b'{"model": "', b'{"messages": []}'])
async def test_a_refused_request_frees_its_part_of_the_budget(
    client: Client, budget: Watched, broken: bytes
) -> None:
    response = await client.post(CHAT, content=broken.ljust(500_000), headers=BEARER)
    assert response.status_code == 400
    assert budget.least <= ROOM - 500_000
    assert budget.left == ROOM


@pytest.mark.parametrize("uri", [CHAT, IMAGES])
async def test_an_enqueued_request_no_longer_counts_against_the_budget(
    client: Client, budget: Watched, upstream: ScriptedUpstream, uri: str
) -> None:
    upstream.script = (0.5, HELLO)
    body = large(500_000)[:-1] + b',"prompt":"a cat"}'
    asking = asyncio.create_task(client.post(uri, content=body, headers=BEARER))
    await until(lambda: upstream.active)
    assert budget.least <= ROOM - 500_000
    assert budget.left == ROOM
    assert not asking.done()
    await asking


@asynccontextmanager
async def site(going_on: asyncio.Event) -> AsyncIterator[str]:
    """Serves 950,000 bytes, at /slow the last of them not before it may go on."""

    async def serve(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "950000"})
        await response.prepare(request)
        await response.write(b"x" * 900_000)
        if request.path == "/slow":
            await going_on.wait()
        await response.write(b"x" * 50_000)
        return response

    async with serving(serve) as port:
        yield f"http://127.0.0.1:{port}"


async def ask_about(client: Client, url: str) -> httpx.Response:
    part = {"type": "image_url", "image_url": {"url": url}}
    body = {**BODY, "messages": [{"role": "user", "content": [part]}]}
    return await client.post(CHAT, json=body, headers=BEARER)


@impatient
async def test_fetched_files_count_against_the_budget(client: Client, budget: Watched) -> None:
    going_on = asyncio.Event()
    async with site(going_on) as root:
        slow = asyncio.create_task(ask_about(client, f"{root}/slow"))
        await until(lambda: budget.left == 100_000)
        assert (await ask_about(client, f"{root}/quick")).status_code == 429
        assert (await client.post(CHAT, json=BODY, headers=BEARER)).status_code == 200
        going_on.set()
        assert (await slow).status_code == 200
        assert (await ask_about(client, f"{root}/quick")).status_code == 200
    assert budget.least == 50_000
    assert budget.left == ROOM


@pytest.mark.parametrize("patience", [60.0])
@pytest.mark.parametrize(
    "config", [limited(body_timeout=2.0), limited(fetch_timeout=2.0)], ids=["body", "file"]
)
async def test_a_request_that_times_out_waiting_for_the_budget_is_refused_for_that_reason(
    client: Client, budget: Watched, config: settings.Settings
) -> None:
    going_on = asyncio.Event()
    async with site(going_on) as root:
        if config.server.body_timeout < 30:
            slow = asyncio.create_task(ask_about(client, f"{root}/slow"))
            await until(lambda: budget.left == 100_000)
            refused = await client.post(CHAT, content=large(600_000), headers=BEARER)
            going_on.set()
            assert (await slow).status_code == 200
        else:
            async with sending(client, 950_000, b"x" * 900_000):
                await until(lambda: budget.left == 100_000)
                refused = await ask_about(client, f"{root}/quick")
    assert refused.json()["error"]["code"] == "too_many_large_requests"
    await until(lambda: budget.left == ROOM)


async def test_the_body_of_a_get_request_is_not_read(client: Client) -> None:
    for uri in ("/healthz", "/v1/models", "/v1/queue/x"):
        response = await client.session.request(
            "GET", client.make_url(uri), content=b"x" * 500_000, headers=BEARER
        )
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "request_too_large"
