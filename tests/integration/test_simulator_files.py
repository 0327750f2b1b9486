"""The simulator's files: uploads in three steps, what tools have made, and the ways both fail."""

from __future__ import annotations

import asyncio
import hashlib
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from tests.support.simulator import FAST, Caller, calling, events

BLOB = {"x-ms-blob-type": "BlockBlob", "Content-Type": "image/png"}


async def call(
    caller: Caller, method: str, path: str, bearer: str = "alice", **more: Any
) -> tuple[int, Any]:
    url = f"{caller.url}/backend-api/{path}"
    headers = {"Authorization": f"Bearer {bearer}"}
    async with caller.http.request(method, url, headers=headers, **more) as response:
        return response.status, await response.json()


async def begin(caller: Caller, size: int = 5, use_case: str = "my_files") -> dict[str, str]:
    asked = {"file_name": "a.pdf", "file_size": size, "use_case": use_case}
    status, answer = await call(caller, "POST", "files", json=asked)
    assert (status, answer["status"]) == (200, "success")
    result: dict[str, str] = answer
    return result


async def upload(caller: Caller, data: bytes = b"bytes", use_case: str = "my_files") -> str:
    begun = await begin(caller, len(data), use_case)
    async with caller.http.put(begun["upload_url"], data=data, headers=BLOB) as response:
        assert (response.status, await response.read()) == (201, b"")
    file_id = begun["file_id"]
    status, answer = await call(caller, "POST", f"files/{file_id}/uploaded", json={})
    assert (status, answer["status"]) == (200, "success")
    return file_id


def image_ids(body: bytes) -> list[str]:
    return list(dict.fromkeys(re.findall(r"file-service://(file-\w+)", body.decode())))


async def address(caller: Caller, file_id: str) -> str:
    status, answer = await call(caller, "GET", f"files/{file_id}/download")
    assert (status, answer["status"]) == (200, "success"), answer
    url: str = answer["download_url"]
    return url


async def fetch(caller: Caller, url: str) -> tuple[int, bytes]:
    async with caller.http.get(url) as response:
        return response.status, await response.read()


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a PNG, their checksums proven."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at = 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        body = data[at + 4 : at + 8 + length]
        assert data[at + 8 + length : at + 12 + length] == struct.pack(">I", zlib.crc32(body))
        yield body[:4], body[4:]
        at += 12 + length


async def sandbox(caller: Caller, body: bytes, path: str, **more: str) -> tuple[int, Any]:
    event = next(e for e in reversed(events(body)) if e.get("message"))
    asked = {"message_id": event["message"]["id"], "sandbox_path": path} | more
    conversation = f"conversation/{event['conversation_id']}/interpreter/download"
    return await call(caller, "GET", conversation, params=asked)


async def test_an_upload_takes_three_steps_and_the_third_works_once(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with calling() as caller:
        begun = await begin(caller)
        assert urlsplit(begun["upload_url"]).netloc != urlsplit(caller.url).netloc
        status, answer = await call(caller, "POST", f"files/{begun['file_id']}/uploaded", json={})
        assert answer["status"] == "error"
        for headers, status in (({"Content-Type": ""}, 400), (BLOB, 201)):
            put = caller.http.put(begun["upload_url"], data=b"bytes", headers=headers)
            async with put as response:
                assert response.status == status
        path = f"files/{begun['file_id']}/uploaded"
        status, answer = await call(caller, "POST", path, json={})
        assert await fetch(caller, answer["download_url"]) == (200, b"bytes")
        status, answer = await call(caller, "POST", path, json={})
        assert status == 400
        assert (await caller.stats())["uploads"] == 1
        async with caller.http.get(f"{caller.url}/simulator/files") as response:
            (seen,) = await response.json()
        assert seen["sha256"] == hashlib.sha256(b"bytes").hexdigest()
        assert (seen["state"], seen["mime"], seen["name"]) == ("ready", "image/png", "a.pdf")


async def test_a_document_is_indexed_after_some_polls_and_an_image_at_once(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with calling() as caller:
        for use_case, polls in (("my_files", 2), ("multimodal", 0)):
            file_id = await upload(caller, use_case=use_case)
            answers = [await call(caller, "GET", f"files/{file_id}") for _ in range(polls + 1)]
            statuses = [answer["retrieval_index_status"] for _, answer in answers]
            assert statuses == ["parsing"] * polls + ["success"]
            assert answers[-1][1]["file_size_tokens"] == 1


async def test_files_belong_to_their_owner_and_urls_are_signed(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with calling() as caller:
        file_id = await upload(caller)
        for path in (f"files/{file_id}", f"files/{file_id}/download", "files/file-none"):
            assert (await call(caller, "GET", path, "bob"))[0] == 404
        url = await address(caller, file_id)
        assert (await fetch(caller, url.replace("sig=", "sig=x")))[0] == 403
        put = caller.http.put(url, data=b"bytes", headers=BLOB)
        async with put as response:
            assert response.status == 403


@pytest.mark.parametrize("fault", ["error", "403", "put", "uploaded"])
async def test_an_upload_can_be_refused_at_each_step(
    loop: asyncio.AbstractEventLoop, fault: str
) -> None:
    async with calling() as caller:
        await caller.control("script", {"upload": fault, "bearer": "alice"})
        asked = {"file_name": "a.png", "file_size": 5, "use_case": "multimodal"}
        status, answer = await call(caller, "POST", "files", json=asked)
        if fault in ("error", "403"):
            assert status == (403 if fault == "403" else 200)
            assert answer.get("status") != "success"
            return
        async with caller.http.put(answer["upload_url"], data=b"bytes", headers=BLOB) as response:
            assert response.status == (403 if fault == "put" else 201)
        if fault == "uploaded":
            path = f"files/{answer['file_id']}/uploaded"
            assert (await call(caller, "POST", path, json={}))[1]["status"] == "error"
        assert (await caller.stats())["uploads"] == 0


async def test_an_upload_of_the_wrong_kind_or_size_is_refused(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with calling() as caller:
        asked = {"file_name": "a.png", "file_size": 5, "use_case": "holiday"}
        assert (await call(caller, "POST", "files", json=asked))[0] == 422
        begun = await begin(caller, 4)
        async with caller.http.put(begun["upload_url"], data=b"bytes", headers=BLOB) as response:
            assert response.status == 400


def attaching(caller: Caller, file_id: str, size: int, *, image: bool) -> Any:
    parts: list[Any] = [f"[[sim tool=files {FAST}]]"]
    if image:
        parts.insert(0, {"asset_pointer": f"file-service://{file_id}", "size_bytes": size})
    message = {
        "id": "user-1",
        "author": {"role": "user"},
        "content": {"content_type": "multimodal_text" if image else "text", "parts": parts},
        "metadata": {"attachments": [{"id": file_id, "size": size, "name": "a"}]},
    }
    return caller.say("", messages=[message])


@pytest.mark.parametrize("image", [False, True])
async def test_a_message_that_refers_to_a_file_never_uploaded_is_refused(
    loop: asyncio.AbstractEventLoop, image: bool
) -> None:
    use_case = "multimodal" if image else "my_files"
    async with calling() as caller:
        file_id = await upload(caller, use_case=use_case)
        half = (await begin(caller, 5, use_case))["file_id"]
        for wrong, size in ((half, 5), ("file-none", 5), (file_id, 6)):
            async with attaching(caller, wrong, size, image=image) as response:
                assert response.status == 422
                (item,) = (await response.json())["detail"]
                assert item["loc"][:3] == ["body", "messages", 0]
        async with attaching(caller, file_id, 5, image=image) as response:
            assert response.status == 200
            assert f'open_url(\\"{file_id}\\")' in await response.text()
        assert (await caller.stats())["invalid"] == 3
        if image:
            document = await upload(caller)
            async with attaching(caller, document, 5, image=True) as response:
                assert response.status == 422


async def test_drawn_images_are_real_and_each_is_different(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async with calling() as caller:
        body = await caller.read(f"[[sim tool=dalle images=2 {FAST}]]")
        pictures = [await fetch(caller, await address(caller, i)) for i in image_ids(body)]
        assert len({data for _, data in pictures}) == 2
        sizes = re.findall(rb'"size_bytes": (\d+)', body)
        assert [len(data) for _, data in pictures] == [int(size) for size in sizes[-2:]]
        for status, data in pictures:
            assert status == 200
            assert len(data) < 10_000
            chunks = dict(png_chunks(data))
            assert list(chunks) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
            width, height, depth, kind = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
            assert (width, height, depth, kind) == (1024, 1024, 1, 3)
            assert len(zlib.decompress(chunks[b"IDAT"])) == 1024 * (1 + 1024 // 8)
        assert (await caller.stats())["downloads"] == 2


async def test_a_big_file_is_streamed_whole(loop: asyncio.AbstractEventLoop) -> None:
    size = 30_000_001
    async with calling() as caller:
        body = await caller.read(f"[[sim tool=python images=1 size={size} {FAST}]]")
        (file_id,) = image_ids(body)
        got = 0
        async with caller.http.get(await address(caller, file_id)) as response:
            assert response.headers["Content-Length"] == str(size)
            async for piece in response.content.iter_any():
                got += len(piece)
        assert got == size


async def test_a_linked_sandbox_file_is_downloaded_by_its_message_and_path(
    loop: asyncio.AbstractEventLoop,
) -> None:
    path = "/mnt/data/数 据 (1).csv"
    async with calling() as caller:
        script = {"text": f"See [it](sandbox:{path}).", "interval": 0, "delay": 0}
        await caller.control("script", script)
        body = await caller.read("go")
        status, answer = await sandbox(caller, body, path)
        assert (status, answer["status"]) == (200, "success")
        disposition = parse_qs(urlsplit(answer["download_url"]).query)["rscd"][0]
        assert disposition.startswith("attachment; filename=")
        async with caller.http.get(answer["download_url"]) as response:
            assert response.content_type == "text/csv"
            assert (await response.text()).startswith("n,square\n")
        for wrong in ({"message_id": "another"}, {"sandbox_path": "/etc/passwd"}):
            _, answer = await sandbox(caller, body, path, **wrong)
            assert (answer["status"], answer["error_code"]) == ("error", "file_not_found")
        assert (await caller.stats())["sandbox"] == 1


async def test_links_of_a_directive_lead_to_files_of_their_types(
    loop: asyncio.AbstractEventLoop,
) -> None:
    paths = ["/mnt/data/a.csv", "/mnt/data/b.png", "/mnt/data/c.bin"]
    async with calling() as caller:
        body = await caller.read(f"[[sim tool=python link={','.join(paths)} size=500 {FAST}]]")
        for path in paths:
            assert f"(sandbox:{path})" in body.decode()
            _, answer = await sandbox(caller, body, path)
            _, data = await fetch(caller, answer["download_url"])
            assert len(data) == 500
            assert data.startswith(b"\x89PNG") is path.endswith("png")


@pytest.mark.parametrize(
    ("keys", "private", "status"),
    [
        ("sandbox=expired", False, 200),
        ("", True, 200),
        ("sandbox=404", False, 404),
        ("sandbox=500", False, 500),
    ],
)
async def test_a_sandbox_can_have_expired(
    loop: asyncio.AbstractEventLoop, keys: str, private: bool, status: int
) -> None:
    path = "/mnt/data/a.csv"
    async with calling() as caller:
        said = f"[[sim tool=python link={path} {keys} {FAST}]]"
        async with caller.say(said, history_and_training_disabled=private) as response:
            body = await response.read()
        got, answer = await sandbox(caller, body, path)
        assert got == status
        if status == 200:
            gone = {"status": "error", "error_code": "ace_pod_expired", "error_message": None}
            assert answer == gone


@pytest.mark.parametrize("fault", ["error", "403", "404", "410", "500"])
async def test_a_download_can_be_refused(loop: asyncio.AbstractEventLoop, fault: str) -> None:
    async with calling() as caller:
        body = await caller.read(f"[[sim tool=dalle download={fault} {FAST}]]")
        (file_id,) = image_ids(body)
        status, answer = await call(caller, "GET", f"files/{file_id}/download")
        if fault == "error":
            assert (status, answer["error_code"]) == (200, "file_not_found")
        else:
            assert status == int(fault)


@pytest.mark.parametrize("fault", ["403", "404", "500", "cut", "stall"])
async def test_the_bytes_of_a_download_can_be_refused_or_end_early(
    loop: asyncio.AbstractEventLoop, fault: str
) -> None:
    async with calling() as caller:
        body = await caller.read(f"[[sim tool=dalle blob={fault} {FAST}]]")
        url = await address(caller, image_ids(body)[0])
        if fault == "cut":
            with pytest.raises(aiohttp.ClientPayloadError):
                await fetch(caller, url)
        elif fault == "stall":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(fetch(caller, url), 0.2)
        else:
            assert (await fetch(caller, url))[0] == int(fault)
        assert (await caller.stats())["downloads"] == 0


async def test_hiding_a_conversation_is_counted_once(loop: asyncio.AbstractEventLoop) -> None:
    async with calling() as caller:
        conversation = events(await caller.read(f"[[sim {FAST}]]"))[0]["conversation_id"]
        path = f"conversation/{conversation}"
        for body in ({"title": "New"}, {"is_visible": False}, {"is_visible": False}):
            assert await call(caller, "PATCH", path, json=body) == (200, {"success": True})
        assert (await call(caller, "PATCH", path, json={"is_visible": "no"}))[0] == 422
        stats = await caller.stats()
        assert (stats["patched"], stats["hidden"]) == (3, 1)
