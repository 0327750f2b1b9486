"""Large parts of jobs, kept where only the gateway can read them."""

from __future__ import annotations

import hashlib
import os
import random
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from store.blobs import LARGE, Blobs, Content
from store.media import Media
from store.objects import StoreError, open_store
from wire import VERSION
from wire.jobs import (
    Attachment,
    ChatJob,
    Message,
    decode_job,
    decode_messages,
    encode_job,
    encode_messages,
)
from wire.seal import Seal


@pytest.fixture
def blobs(tmp_path: Path, seal: Seal) -> Blobs:
    return Blobs(open_store("media", tmp_path), seal, ttl=60.0)


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


async def pieces(content: bytes, step: int) -> AsyncIterator[bytes]:
    yield b""
    for at in range(0, len(content), step):
        yield content[at : at + step]


async def read(blobs: Blobs, content: Content) -> bytes:
    return b"".join([piece async for piece in blobs.read(content)])


def kept(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", [0, 1, LARGE, LARGE + 1, 2 * LARGE, 2 * LARGE + 1, 3_000_000])
@pytest.mark.parametrize("step", [1000, 65_536, 10_000_000])
async def test_an_offloaded_blob_is_restored_unchanged(
    blobs: Blobs, tmp_path: Path, size: int, step: int
) -> None:
    given = noise(size)
    content = await blobs.put(pieces(given, step))
    assert (content.size, content.sha256) == (size, hashlib.sha256(given).hexdigest())
    assert bool(content.blob_key) is (size > LARGE)
    assert len(content.content) == (size if size <= LARGE else 0)
    assert await read(blobs, content) == given
    await blobs.remove([content.blob_key] if content.blob_key else [])
    assert not kept(tmp_path)


async def test_blobs_are_sealed_in_the_store_and_have_no_url(blobs: Blobs, tmp_path: Path) -> None:
    secret = b"a secret sentence " * 40_000
    content = await blobs.put(pieces(secret, 65_536))
    (path,) = kept(tmp_path)
    assert b"secret" not in path.read_bytes()
    media = Media(open_store("media", tmp_path), 1000, 60.0)
    for name in (content.blob_key, f"{content.blob_key}.bin", f"../parts/{content.blob_key}"):
        assert await media.find("files", name) is None
        assert await media.find("images", name) is None


async def test_an_altered_truncated_or_foreign_blob_cannot_be_read(
    blobs: Blobs, tmp_path: Path
) -> None:
    content = await blobs.put(pieces(noise(600_000), 65_536))
    (path,) = kept(tmp_path)
    whole = path.read_bytes()
    for wrong in (whole[:-1], whole[:1000], b"x" + whole[1:], whole[262_188:] + whole[:262_188]):
        path.write_bytes(wrong)
        with pytest.raises(StoreError, match="unreadable"):
            await read(blobs, content)
    path.write_bytes(whole)
    stranger = Blobs(open_store("media", tmp_path), Seal(b"another secret of somebody"), 60.0)
    with pytest.raises(StoreError, match="unreadable"):
        await read(stranger, content)
    await blobs.remove([content.blob_key])
    with pytest.raises(StoreError, match="gone"):
        await read(blobs, content)


async def test_an_upload_that_breaks_off_leaves_nothing_in_the_store(
    blobs: Blobs, tmp_path: Path
) -> None:
    class BrokenOff(Exception):
        pass

    async def broken() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield noise(300_000)
        raise BrokenOff

    with pytest.raises(BrokenOff):
        await blobs.put(broken())
    assert not kept(tmp_path)


async def test_blobs_left_by_killed_processes_are_swept(blobs: Blobs, tmp_path: Path) -> None:
    for _ in range(2):
        await blobs.put(pieces(noise(300_000), 65_536))
    old, new = kept(tmp_path)
    os.utime(old, (old.stat().st_mtime - 61,) * 2)
    assert await blobs.sweep() == 1
    assert kept(tmp_path) == [new]


async def test_long_messages_are_decoded_in_a_thread(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def decode(body: bytes) -> list[Message]:
        threads.append(threading.get_ident())
        return decode_messages(body)

    monkeypatch.setattr("store.blobs.decode_messages", decode)
    messages = [Message("user", "x" * LARGE)]
    offloaded = await blobs.offload(encode_messages(messages), 0)
    job = ChatJob(VERSION, "job-1", "gpt_4_s", "alice", [], offloaded=offloaded)
    assert await blobs.restore(job) == replace(job, messages=messages, offloaded=None)
    assert threads[0] != threading.get_ident()


@pytest.mark.parametrize("length", [10, LARGE - 2000, LARGE + 1, 1_000_000])
async def test_long_messages_of_a_job_are_offloaded_and_restored(
    blobs: Blobs, tmp_path: Path, length: int
) -> None:
    file = Attachment("a", "", 7, "0" * 64, blob_key="f" * 32)
    messages = [Message("system", "brief"), Message("user", ["x" * length, file])]
    job = ChatJob(VERSION, "job-1", "gpt_4_s", "alice", messages)
    body = encode_messages(messages)
    light = job
    if len(body) > LARGE:
        offloaded = await blobs.offload(body, job.blob_bytes)
        light = replace(job, messages=[], offloaded=offloaded)
    assert len(encode_job(light)) <= LARGE + 1000
    assert light.blob_bytes == 7 + (light.offloaded.size if light.offloaded else 0)
    assert (light == job) is (length < LARGE)
    assert await blobs.restore(decode_job(encode_job(light))) == job
    await blobs.remove(light.blob_keys)
    assert not kept(tmp_path)
