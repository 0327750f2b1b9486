"""Files of messages on their way to the upstream, against the simulator."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from obstore.store import MemoryStore

import settings
from store.blobs import Blobs
from tests.support.loopback import Exchange, refusal, upstream
from tests.support.pandora import code, collect, new_pandora, simulated, text
from tests.support.simulator import Caller
from wire import VERSION
from wire.events import Delta, Failed, Started
from wire.jobs import Attachment, ChatJob, Message
from wire.redis.client import Redis
from wire.seal import Seal
from workers.http.session import open_session
from workers.pandora.backend import Backend
from workers.pandora.client import Pandora
from workers.pandora.files.uploaded import UploadedFiles
from workers.pandora.files.uploads import Uploads

ASK = "[[sim words=2 interval=0 delay=0]]"
PDF = b"%PDF-1.4 a document"
PICTURE: dict[str, Any] = {"width": 30, "height": 20}


def file(content: bytes, kind: str, name: str = "", **more: Any) -> Attachment:
    digest = hashlib.sha256(content).hexdigest()
    return Attachment(name, kind, len(content), digest, content=content, **more)


def asking(*files: Attachment, bearer: str = "alice", said: str = ASK) -> ChatJob:
    message = Message("user", [said, *files])
    return ChatJob(VERSION, "job-1", "gpt_4_s", bearer, [message])


@pytest.fixture
def blobs(seal: Seal) -> Blobs:
    return Blobs(MemoryStore(), seal, 60.0)


@pytest.fixture
def client(redis: Redis, seal: Seal, blobs: Blobs) -> Callable[..., Pandora]:
    """Function that makes a client of the upstream that can upload."""

    def make(
        session: aiohttp.ClientSession, url: str, rules: settings.Media | None = None, **files: Any
    ) -> Pandora:
        config = settings.Settings(files=settings.Files(**files), media=rules or settings.Media())
        known = UploadedFiles(redis, seal, config.files.cache_ttl)
        uploads = Uploads(Backend(session, url), blobs, known, config)
        return new_pandora(session, url, uploads=uploads)

    return make


async def seen(caller: Caller) -> list[dict[str, Any]]:
    async with caller.http.get(f"{caller.url}/simulator/files") as response:
        files: list[dict[str, Any]] = await response.json()
        return files


@pytest.mark.parametrize(
    ("given", "use_case", "mime", "name"),
    [
        (file(b"jpeg", "image/jpeg", **PICTURE), "multimodal", "image/jpeg", ".jpg"),
        (file(PDF, "application/pdf"), "my_files", "application/pdf", ".pdf"),
        (file(b"hi", "text/plain"), "my_files", "text/plain", ".txt"),
        (file(b"#!", "text/x-script.python"), "my_files", "text/x-script.python", ".py"),
        (file(b"a,b", "text/csv"), "ace_upload", "", ".csv"),
        (file(b"bmp", "image/bmp", **PICTURE), "ace_upload", "", ".bmp"),
        (file(b"?", "application/x-nobody-knows"), "ace_upload", "", ""),
        (file(b"?", ""), "ace_upload", "", ""),
        (file(PDF, "application/pdf", "Müller & Co.pdf"), "my_files", "application/pdf", None),
    ],
)
async def test_a_file_is_uploaded_in_three_steps_with_its_type(
    client: Callable[..., Pandora], given: Attachment, use_case: str, mime: str, name: str | None
) -> None:
    async with simulated() as (caller, session):
        events = await collect(client(session, caller.url), asking(given))
        assert text(events) == "w0 w1"
        (uploaded,) = await seen(caller)
        assert uploaded["sha256"] == given.sha256
        assert (uploaded["use_case"], uploaded["mime"]) == (use_case, mime)
        assert uploaded["name"] == (given.name if name is None else given.sha256 + name)
        assert (uploaded["state"], uploaded["owner"]) == ("ready", "alice")
        assert (await caller.stats())["invalid"] == 0


async def test_images_keep_their_position_and_documents_have_their_token_count(
    client: Callable[..., Pandora], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[dict[str, Any]] = []
    post = Backend.post_conversation

    async def note(
        backend: Backend, bearer: str, body: bytes, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        sent.append(json.loads(body))
        return await post(backend, bearer, body, headers)

    monkeypatch.setattr(Backend, "post_conversation", note)
    png, pdf = file(b"png", "image/png", **PICTURE), file(PDF, "application/pdf", "a.pdf")
    asked = ChatJob(
        VERSION,
        "job-1",
        "gpt_4_s",
        "alice",
        [Message("user", ["First", png, "then", pdf, png]), Message("user", [pdf, ASK])],
    )
    async with simulated() as (caller, session):
        assert text(await collect(client(session, caller.url), asked)) == "w0 w1"
        uploaded = {one["mime"]: one["id"] for one in await seen(caller)}
        assert (await caller.stats())["uploads"] == 2
    first, second = sent[0]["messages"]
    pointer = {
        "content_type": "image_asset_pointer",
        "asset_pointer": f"file-service://{uploaded['image/png']}",
        "size_bytes": 3,
        "width": 30,
        "height": 20,
    }
    assert first["content"] == {
        "content_type": "multimodal_text",
        "parts": ["First", pointer, "then", pointer],
    }
    picture = {
        "name": f"{png.sha256}.png",
        "id": uploaded["image/png"],
        "mimeType": "image/png",
        "size": 3,
        "width": 30,
        "height": 20,
    }
    document = {
        "name": "a.pdf",
        "id": uploaded["application/pdf"],
        "mimeType": "application/pdf",
        "size": len(PDF),
        "fileTokenSize": len(PDF) // 4,  # as the simulator counts, once it has indexed it
    }
    assert first["metadata"] == {"attachments": [picture, document, picture]}
    assert second["content"] == {"content_type": "text", "parts": [ASK]}
    assert second["metadata"] == {"attachments": [document]}


async def test_a_file_is_uploaded_once_per_account_and_again_once_the_upstream_lost_it(
    client: Callable[..., Pandora], redis: Redis
) -> None:
    pdf = file(PDF, "application/pdf")
    async with simulated() as (caller, session):
        pandora = client(session, caller.url)
        for _ in range(3):
            assert text(await collect(pandora, asking(pdf))) == "w0 w1"
        assert (await caller.stats())["uploads"] == 1
        await collect(pandora, asking(pdf, bearer="bob"))
        assert {one["owner"] for one in await seen(caller)} == {"alice", "bob"}
        await collect(pandora, asking(file(PDF, "application/pdf", "other.pdf")))
        assert (await caller.stats())["uploads"] == 3
        await caller.control("reset", {})
        assert text(await collect(pandora, asking(pdf))) == "w0 w1"
        assert (await caller.stats())["uploads"] == 1
        assert (await caller.stats())["invalid"] == 0
    keys = [key.decode() for key in await redis.keys("gateway:upload:*")]
    assert len(keys) == 3
    for key in keys:
        assert await redis.pttl(key) > 0
        assert pdf.sha256 not in key
        assert b"file-" not in (await redis.get(key) or b"")


async def test_uploads_are_not_remembered_if_so_configured(
    client: Callable[..., Pandora], redis: Redis
) -> None:
    async with simulated() as (caller, session):
        pandora = client(session, caller.url, cache_ttl=0)
        for _ in range(2):
            await collect(pandora, asking(file(PDF, "application/pdf")))
        assert (await caller.stats())["uploads"] == 2
    assert not await redis.keys("gateway:upload:*")


async def test_a_large_file_is_uploaded_whole_from_the_store(
    client: Callable[..., Pandora], blobs: Blobs
) -> None:
    content = random.Random(1).randbytes(5_000_001)

    async def pieces() -> AsyncIterator[bytes]:
        yield content

    taken = await blobs.put(pieces())
    file = Attachment("a.bin", "", taken.size, taken.sha256, blob_key=taken.blob_key)
    async with simulated() as (caller, session):
        assert text(await collect(client(session, caller.url), asking(file))) == "w0 w1"
        (uploaded,) = await seen(caller)
        assert uploaded["sha256"] == hashlib.sha256(content).hexdigest()
        await blobs.remove([taken.blob_key])
        await caller.control("reset", {})
        events = await collect(client(session, caller.url), asking(file))
        assert events == [Failed("gateway_error", events[0].message, "file_lost")]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("fault", "expected", "why"),
    [
        ("error", "bad_file", "file_upload_refused"),
        ("403", "forbidden", None),
        ("put", "upstream_error", "upload_http_403"),
        ("uploaded", "upstream_error", "file_not_found"),
    ],
)
async def test_a_refused_upload_is_a_failure_before_any_event(
    client: Callable[..., Pandora], fault: str, expected: str, why: str | None
) -> None:
    async with simulated() as (caller, session):
        await caller.control("script", {"upload": fault, "bearer": "alice"})
        events = await collect(client(session, caller.url), asking(file(b"x", "image/png")))
        (failed,) = events
        assert isinstance(failed, Failed)
        assert failed.fault == expected
        assert failed.code == why or why is None
        assert (await caller.stats())["started"] == 0


def answering(status: int, body: bytes) -> Callable[[Exchange], Awaitable[None]]:
    async def script(exchange: Exchange) -> None:
        await exchange.send(refusal(status, body))

    return script


@pytest.mark.parametrize(
    ("status", "body", "fault"),
    [
        (401, b'{"detail": {"message": "Expired.", "code": "token_expired"}}', "unauthorized"),
        (413, b'{"detail": "Too large."}', "bad_file"),
        (415, b'{"detail": "No such files."}', "bad_file"),
        (429, b'{"detail": "Too many requests in 1 hour. Try again later."}', "rate_limited"),
        (500, b"<html>", "upstream_error"),
        (200, b"<html>", "upstream_error"),
        (200, b'{"status": "success"}', "upstream_error"),
    ],
)
async def test_a_failed_upload_is_blamed_on_the_client_or_the_upstream(
    client: Callable[..., Pandora],
    loop: asyncio.AbstractEventLoop,
    status: int,
    body: bytes,
    fault: str,
) -> None:
    async with upstream(answering(status, body)) as (server, _), open_session() as session:
        (failed,) = await collect(client(session, server.url), asking(file(b"x", "text/csv")))
        assert isinstance(failed, Failed)
        assert failed.fault == fault


async def test_a_file_is_uploaded_through_the_file_server(
    client: Callable[..., Pandora], loop: asyncio.AbstractEventLoop
) -> None:
    place = b'{"file_id": "file-A", "upload_url": "http://files.invalid/a?sig=1"}'
    scripts = answering(200, place), answering(200, b"{}"), answering(401, b"{}")
    async with upstream(answering(201, b"")) as (files, _), upstream(*scripts) as (server, _):
        rules = settings.Media(use_pandora_file_server=True, pandora_file_server=files.url)
        async with open_session() as session:
            await collect(client(session, server.url, rules), asking(file(b"a,b", "text/csv")))
        assert files.exchanges[0].head.startswith(b"PUT /a?sig=1 ")
        assert files.exchanges[0].body == b"a,b"
        assert b"alice" not in files.exchanges[0].head
        asked = [exchange.head.split(b" HTTP")[0] for exchange in server.exchanges]
        assert asked[1] == b"POST /backend-api/files/file-A/uploaded"
        assert asked[2] == b"POST /backend-api/conversation"


async def test_an_unreachable_upstream_fails_an_upload_as_upstream_down(
    client: Callable[..., Pandora],
) -> None:
    async with open_session() as session:
        pandora = client(session, "http://127.0.0.1:1")
        assert (
            code(await collect(pandora, asking(file(b"x", "text/csv")))) == "upstream_unreachable"
        )


@asynccontextmanager
async def slow(script: dict[str, Any]) -> AsyncIterator[tuple[Caller, aiohttp.ClientSession]]:
    async with simulated() as (caller, session):
        await caller.control("script", script | {"bearer": "alice"})
        yield caller, session


async def test_waiting_for_a_document_to_be_indexed_yields_signs_of_life(
    client: Callable[..., Pandora],
) -> None:
    async with slow({"index": 4}) as (caller, session):
        batches = [
            batch
            async for batch in client(session, caller.url).answer(
                asking(file(PDF, "application/pdf"))
            )
        ]
    assert batches[0] == []
    first = next(batch for batch in batches if batch)
    assert isinstance(first[0], Started)
    assert any(isinstance(event, Delta) for batch in batches for event in batch)


async def test_a_document_that_is_not_indexed_in_time_fails_and_is_not_uploaded_again(
    client: Callable[..., Pandora],
) -> None:
    async with slow({"index": 20}) as (caller, session):
        pandora = client(session, caller.url, upload_timeout=0.5)
        events = await collect(pandora, asking(file(PDF, "application/pdf")))
        assert code(events) == "file_not_read"
        await caller.control("script", {"index": 0, "bearer": "alice"})
        assert (await caller.stats())["uploads"] == 1
